"""A streaming partitioner, for graphs that no in-memory partitioner can take.

Rows are read in blocks, so that a graph in a file stays there, and beyond the graph at most 32
bytes a node are held. They are taken as they are: a directed graph need not be symmetrised. It is
what remains, too, where KaMinPar and METIS have no wheel.

1. Nodes form clusters by label propagation with a limit of size (Raghavan et al., 2007; Meyerhenke,
   Sanders and Schulz, "Partitioning Complex Networks via Size-constrained Clustering", 2014).
2. A sketch of the graph between the clusters (see `coarse`) merges those that are too small, and
   places them into parts by linear deterministic greedy, LDG (Stanton and Kliot, "Streaming Graph
   Partitioning for Large Distributed Graphs", KDD 2012). LDG on single nodes scatters its first
   nodes and never quite recovers.
3. Restreaming (Nishimura and Ugander, "Restreaming Graph Partitioning", KDD 2013) moves nodes
   between parts, by the kernel of step 1 with parts for clusters.

Floor of a pass: the bytes of the indices, and one random access to a table of 4 bytes a node for
each edge. Nodes are decided in chunks against labels that stand still meanwhile, and moved in
order afterwards, so that the result depends on the seed and not on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray

from gnnscale.kernels.threads import njit_parallel, njit_serial, num_threads
from gnnscale.partitioning import coarse
from gnnscale.partitioning.coarse import add, lightest, tree_of
from gnnscale.partitioning.native.structure import IntArray, as_structure, check_request
from gnnscale.partitioning.rows import RowBlocks

_CHUNK = 2048  # nodes decided at a time, enough work to be worth waking a second thread for
_SCRATCH = 8  # bytes a node, for the counts of all threads
_ROUNDS = 6  # of merging clusters, each after a sketch
_MERGING_PASSES = 6  # over the clusters in a round
_WORTHWHILE = 0.8  # of the clusters may be left by a round for another to follow


def run_streaming(
    indptr: IntArray,
    indices: IntArray,
    num_parts: int,
    *,
    seed: int = 0,
    imbalance: float = 0.03,
    node_weight: IntArray | None = None,
    grouping_passes: int = 4,
    restreaming_passes: int = 3,
) -> NDArray[np.int32]:
    """Partition by streaming; parts may come back empty (see `repair`).

    Args:
        indptr: `[n + 1]`.
        indices: `[m]`, any rows: directed, unsorted, with duplicates and self-loops.
        num_parts: how many parts, at most `n`.
        seed: the same seed gives the same parts, whatever the number of threads.
        imbalance: how far the heaviest part may exceed the mean. With equal weights it holds to
            within one node; a node heavier than a part goes to the lightest part.
        node_weight: positive int64 `[n]`, or None (all one).
        grouping_passes: passes of label propagation.
        restreaming_passes: passes of moves by single nodes.

    Returns:
        int32 `[n]`.

    Raises:
        InputError: the rows are not a sound structure, or a setting is wrong.
    """
    structure = as_structure(indptr, indices)
    n = structure.num_nodes
    weight = check_request(n, num_parts, node_weight)
    total = n if weight is None else int(weight.sum())
    allowed = min(total, (1 + imbalance) * total / num_parts)  # beyond all of it, nothing is added
    limit = max(-(-total // num_parts), int(allowed))
    blocks, rng = RowBlocks(*structure), np.random.default_rng(seed)
    # A length of 0 is "all one" to the kernels, which are compiled once for either.
    weight = np.empty(0, np.int64) if weight is None else weight
    cluster = np.arange(n, dtype=np.int32)
    size = np.ones(n, np.int64) if len(weight) == 0 else weight.copy()
    for _ in range(grouping_passes):
        if not _restream(blocks, rng, weight, cluster, size, limit):
            break
        size = _renumber(cluster, size)
    load = _assign(blocks, rng, cluster, size, num_parts, limit)
    del size
    _settle(cluster, weight, load, limit)
    for _ in range(restreaming_passes):
        if not _restream(blocks, rng, weight, cluster, load, limit):
            break
    return cluster


def _restream(
    blocks: RowBlocks,
    rng: np.random.Generator,
    weight: NDArray[np.int64],
    label: NDArray[np.int32],
    size: NDArray[np.int64],
    limit: int,
) -> int:
    """Visit every node once, blocks and the rows of a block in drawn order; count the moves."""
    moved = 0
    chunk = max(1, min(_CHUNK, len(label) // 64))
    choice = np.empty(chunk, np.int32)
    slices = max(1, min(num_threads(), _SCRATCH * len(label) // (4 * len(size))))
    counts = np.zeros((slices, len(size)), np.int32)
    for number in rng.permutation(len(blocks)):
        block = blocks[number]
        rows = rng.permutation(len(block.indptr) - 1)
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            _choose(*block, some, weight, label, size, limit, counts, choice)
            moved += _commit(block.start, some, weight, label, size, limit, choice)
    return moved


def _assign(
    blocks: RowBlocks,
    rng: np.random.Generator,
    cluster: NDArray[np.int32],
    size: NDArray[np.int64],
    num_parts: int,
    limit: int,
) -> NDArray[np.int64]:
    """Turn clusters into parts, in place, -1 where none has room; return the parts' weights."""
    size = _renumber(cluster, size)
    for _ in range(_ROUNDS):
        seen = coarse.sketch(blocks, cluster, len(size))
        group = coarse.merge(seen, size, limit, rng.permutation(len(size)), _MERGING_PASSES)
        groups = len(np.unique(group))
        if groups > _WORTHWHILE * len(size):
            break
        _relabel(cluster, group)
        heavy = np.bincount(group, weights=size, minlength=len(size)).astype(np.int64)
        size = _renumber(cluster, heavy)
    else:
        seen = coarse.sketch(blocks, cluster, len(size))
        group = np.arange(len(size), dtype=np.int32)
    part, load = coarse.place(seen, size, group, num_parts, limit)
    _relabel(cluster, part)
    return load


def _renumber(cluster: NDArray[np.int32], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the clusters that have nodes from 0 on, in place; return their weights."""
    present = size > 0
    _relabel(cluster, np.cumsum(present, dtype=np.int32) - np.int32(1))
    return size[present]


@njit_serial
def _relabel(label, name):
    for i in range(len(label)):
        label[i] = name[label[i]]


@njit_parallel
def _choose(start, indptr, indices, rows, weight, label, size, limit, counts, choice):
    slices = len(counts)
    step = (len(rows) + slices - 1) // slices
    for s in prange(slices):
        first, last = min(s * step, len(rows)), min((s + 1) * step, len(rows))
        _favourites(
            start, indptr, indices, rows[first:last], weight, label, size, limit, counts[s],
            choice[first:last],
        )  # fmt: skip


@njit_serial
def _favourites(start, indptr, indices, rows, weight, label, size, limit, count, choice):
    """Choose for each row the label of most of its neighbours that has room, or its own.

    Four walks over the labels of a row: counting without a branch takes half the time of a hash
    table, whose size is the row's but whose branches are mispredicted.
    """
    widest = 0
    for r in rows:
        widest = max(widest, indptr[r + 1] - indptr[r])
    near = np.empty(widest, np.int32)
    for q in range(len(rows)):
        r = rows[q]
        first, degree = indptr[r] - indptr[0], indptr[r + 1] - indptr[r]
        w = weight[start + r] if len(weight) else 1
        own = label[start + r]
        for e in range(degree):
            near[e] = label[indices[first + e]]
        for e in range(degree):
            count[near[e]] += 1
        best, most, least = own, count[own], np.iinfo(np.int64).max
        for e in range(degree):
            g = near[e]
            if count[g] < most or g == own or size[g] + w > limit:
                continue
            # Of equals the smaller, and rather another than its own: standing still freezes early.
            if count[g] > most or size[g] < least:
                best, most, least = g, count[g], size[g]
        for e in range(degree):
            count[near[e]] = 0
        choice[q] = best


@njit_serial
def _commit(start, rows, weight, label, size, limit, choice):
    """Move each row of a chunk to what it chose, where there still is room."""
    moved = 0
    for q in range(len(rows)):
        i, best = start + rows[q], choice[q]
        own = label[i]
        w = weight[i] if len(weight) else 1
        if best != own and size[best] + w <= limit:
            size[own] -= w
            size[best] += w
            label[i] = best
            moved += 1
    return moved


@njit_serial
def _settle(part, weight, load, limit):
    """Give every node without a part one with room, else the lightest."""
    p, tree = 0, tree_of(load)
    for i in range(len(part)):
        if part[i] >= 0:
            continue
        w = weight[i] if len(weight) else 1
        light = lightest(tree)
        if load[light] + w > limit:
            p = light
        while load[p] + w > limit and p != light:
            p = (p + 1) % len(load)
        part[i] = p
        load[p] += w
        add(tree, p, w)

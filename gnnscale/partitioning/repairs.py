"""Making an assignment whole and even: no part is empty, none heavier than was asked for."""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import PartitionError
from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.coarse import add, lightest, tree_of
from gnnscale.partitioning.native.structure import IntArray, Structure
from gnnscale.partitioning.rows import let_go

_UNRELEASED = 256  # parts whose rows, of a structure in a file, are resident at once


def repair(
    assignment: IntArray,
    num_parts: int,
    structure: Structure,
    node_weight: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """Return the assignment with no part empty, the number asked for being the number given.

    Native partitioners leave parts empty where parts are small. The heaviest parts are cut into as
    many pieces as are missing, each piece a stretch of a breadth-first order of its part, so that
    it holds together. O(nodes + edges).

    Args:
        assignment: integers `[n]` in `[0, num_parts)`.
        num_parts: how many parts there shall be, at most `n`.
        structure: rows in which the breadth-first order is taken.
        node_weight: positive int64 `[n]`, or None (all one).

    Returns:
        int32 `[n]`; the input itself where no part was empty.

    Raises:
        PartitionError: not an assignment of these nodes to these parts.
    """
    part = checked_assignment(assignment, structure.num_nodes, num_parts)
    sizes = np.bincount(part, minlength=num_parts)
    empty = np.flatnonzero(sizes == 0)
    if len(empty) == 0:
        return part
    weight = np.ones(len(part), np.int64) if node_weight is None else node_weight
    heavy = np.bincount(part, weights=weight, minlength=num_parts).astype(np.float64)
    pieces = _pieces(sizes, heavy, len(empty))
    split = np.flatnonzero(pieces > 1)
    member = np.flatnonzero((pieces > 1)[part])
    member = member[np.argsort(part[member], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(sizes[split])])
    repaired = part.copy()
    taken = 0
    for number, old in enumerate(split):
        if number % _UNRELEASED == 0:
            let_go(*structure)
        nodes = _breadth_first(
            structure.indptr, structure.indices, part, member[starts[number] : starts[number + 1]]
        )
        names = np.concatenate([[old], empty[taken : taken + pieces[old] - 1]])
        repaired[nodes] = names[cut_order(weight[nodes], pieces[old])]
        taken += pieces[old] - 1
    let_go(*structure)
    return repaired


def even_out(
    part: NDArray[np.int32],
    num_parts: int,
    structure: Structure,
    node_weight: NDArray[np.int64] | None,
    imbalance: float,
) -> NDArray[np.int32]:
    """Return the assignment with no part heavier than 1 + `imbalance` times the mean rounded up.

    Partitioners treat the imbalance they are given as a wish where a part is a few nodes. What
    moves is what costs fewest edges: one pass of Fiduccia and Mattheyses' (1982) gains over each
    heavy part, without their swaps back.

    Nodes leave the parts that are, in the order of the edges that this saves: each for the part,
    among those with room, in which it has most neighbours, or for the lightest. With equal weights
    there always is room; else a part stays heavy where none of its nodes fits anywhere. No part is
    emptied. O(nodes + edges of the heavy parts).

    Args:
        part: int32 `[n]`, in `[0, num_parts)`, no part empty.
        num_parts: how many parts there are.
        structure: whose edges are counted.
        node_weight: positive int64 `[n]`, or None (all one).
        imbalance: how far a part may exceed the mean.

    Returns:
        int32 `[n]`; the input itself where no part is too heavy.
    """
    weight = np.ones(len(part), np.int64) if node_weight is None else node_weight
    load = np.bincount(part, weights=weight, minlength=num_parts).astype(np.int64)
    total = int(weight.sum())
    limit = int(min(total, (1 + imbalance) * math.ceil(total / num_parts)))
    heavy = np.flatnonzero(load > limit)
    if len(heavy) == 0:
        return part
    evened, tree = part.copy(), tree_of(load)
    member = np.flatnonzero((load > limit)[part])
    member = member[np.argsort(part[member], kind="stable")]
    starts = np.searchsorted(part[member], heavy)
    count = np.zeros(num_parts, np.int64)
    for number, nodes in enumerate(np.split(member, starts[1:])):
        if number % _UNRELEASED == 0:
            let_go(*structure)
        _relieve(*structure, evened, weight, load, tree, limit, nodes, count)
    let_go(*structure)
    return evened


def checked_assignment(assignment: object, num_nodes: int, num_parts: int) -> NDArray[np.int32]:
    """Return the assignment as int32 `[num_nodes]`.

    Raises:
        PartitionError: wrong length, not integers, or out of range, with what was found.
    """
    try:
        array = np.asarray(
            assignment.detach().cpu() if hasattr(assignment, "detach") else assignment
        )
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise PartitionError(
            f"an assignment is one integer per node, [{num_nodes}]; the partitioner returned "
            f"{type(assignment).__name__}: {error}"
        ) from error
    if array.shape != (num_nodes,) or array.dtype.kind not in "iu":
        raise PartitionError(
            f"an assignment is one integer per node, [{num_nodes}]; the partitioner returned "
            f"{array.dtype} {list(array.shape)}"
        )
    if num_nodes and (array.min() < 0 or array.max() >= num_parts):
        raise PartitionError(
            f"part ids must lie in [0, {num_parts - 1}]; the partitioner returned "
            f"[{array.min()}, {array.max()}]"
        )
    return np.require(array, np.int32, ["C", "W"])


def cut_order(weight: NDArray[np.int64], pieces: int) -> NDArray[np.int32]:
    """Cut a row of nodes into stretches of about equal weight, none of them empty.

    Args:
        weight: positive `[n]`, in the order to be cut.
        pieces: how many stretches, at most `n`.

    Returns:
        int32 `[n]`, rising from 0 to `pieces - 1`; with equal weights, sizes differ by one at most.
    """
    return _cut_order(np.ascontiguousarray(weight, np.int64), pieces)


def _pieces(
    sizes: NDArray[np.int64], weight: NDArray[np.float64], missing: int
) -> NDArray[np.int64]:
    """Say into how many pieces each part is cut: always the heaviest piece once more."""
    pieces = np.ones(len(sizes), np.int64)
    heap = [(-weight[p], p) for p in np.flatnonzero(sizes > 1)]
    heapq.heapify(heap)
    for _ in range(missing):
        _, p = heapq.heappop(heap)
        pieces[p] += 1
        if pieces[p] < sizes[p]:
            heapq.heappush(heap, (-weight[p] / pieces[p], p))
    return pieces


@njit_serial
def _cut_order(weight, pieces):
    n = len(weight)
    out = np.empty(n, np.int32)
    total = weight.sum()
    piece, before, held = 0, 0, 0
    for i in range(n):
        # On to the next piece where this one has its share, or where the rest is one node each.
        full = before * pieces >= total * (piece + 1) or n - i == pieces - 1 - piece
        if held > 0 and full and piece < pieces - 1:
            piece += 1
            held = 0
        out[i] = piece
        held += 1
        before += weight[i]
    return out


@njit_serial
def _breadth_first(indptr, indices, part, nodes):
    """Order the nodes of one part breadth first, starting again where it falls apart."""
    home = part[nodes[0]]
    order = np.empty(len(nodes), np.int64)
    seen = set()
    head, tail = 0, 0
    for first in nodes:
        if first in seen:
            continue
        seen.add(first)
        order[tail] = first
        tail += 1
        while head < tail:
            i = order[head]
            head += 1
            for e in range(indptr[i], indptr[i + 1]):
                j = np.int64(indices[e])
                if part[j] == home and j not in seen:
                    seen.add(j)
                    order[tail] = j
                    tail += 1
    return order


@njit_serial
def _relieve(indptr, indices, part, weight, load, tree, limit, nodes, count):
    """Move nodes of one part, which these all are, until it weighs no more than the limit."""
    own = part[nodes[0]]
    gains = np.empty(len(nodes), np.int64)
    for k in range(len(nodes)):
        _, gains[k] = _target(indptr, indices, part, weight, load, tree, limit, nodes[k], count)
    left = len(nodes)
    for k in np.argsort(-gains, kind="mergesort"):
        if load[own] <= limit or left == 1:
            return
        i = nodes[k]
        best, _ = _target(indptr, indices, part, weight, load, tree, limit, i, count)
        if best != own:
            part[i] = best
            load[own] -= weight[i]
            add(tree, own, -weight[i])
            load[best] += weight[i]
            add(tree, best, weight[i])
            left -= 1


@njit_serial
def _target(indptr, indices, part, weight, load, tree, limit, i, count):
    """Return the part that node i would go to, its own where it fits nowhere, and edges saved."""
    own = part[i]
    for e in range(indptr[i], indptr[i + 1]):
        if indices[e] != i:
            count[part[indices[e]]] += 1
    best = lightest(tree)
    if load[best] + weight[i] > limit:
        best = own
    else:
        for e in range(indptr[i], indptr[i + 1]):
            p = part[indices[e]]
            if p != own and load[p] + weight[i] <= limit and count[p] > count[best]:
                best = p
    gain = count[best] - count[own]
    for e in range(indptr[i], indptr[i + 1]):
        count[part[indices[e]]] = 0
    return best, gain

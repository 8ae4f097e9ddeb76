"""A streaming partitioner with no native dependency, for where KaMinPar and METIS have no wheel.

Nodes are first grouped by label propagation with a size limit (Raghavan et al., 2007, limited as in
Meyerhenke, Sanders and Schulz, "Partitioning Complex Networks via Size-constrained Clustering",
2014). One pass then streams the groups into parts by linear deterministic greedy, LDG (Stanton and
Kliot, "Streaming Graph Partitioning for Large Distributed Graphs", KDD 2012), and a few restreaming
passes (Nishimura and Ugander, "Restreaming Graph Partitioning", KDD 2013) move single nodes. LDG on
single nodes alone scatters its first nodes and never quite recovers.

Each pass reads the rows once, in an order drawn from the seed; beyond the graph, memory is
O(nodes + parts). Rows are taken as they are: a directed graph need not be symmetrised.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.structure import IntArray, as_structure, check_request


def run_streaming(
    indptr: IntArray,
    indices: IntArray,
    num_parts: int,
    *,
    seed: int = 0,
    imbalance: float = 0.03,
    node_weight: IntArray | None = None,
    grouping_passes: int = 6,
    restreaming_passes: int = 4,
) -> NDArray[np.int32]:
    """Partition by streaming, on the calling thread; parts may come back empty (see `repair`).

    Args:
        indptr: `[n + 1]`.
        indices: `[m]`, any rows: directed, unsorted, with duplicates and self-loops.
        num_parts: how many parts, at most `n`.
        seed: the same seed gives the same parts.
        imbalance: how far the heaviest part may exceed the mean. With equal weights it holds to
            within one node; a node heavier than a part goes to the lightest part.
        node_weight: positive int64 `[n]`, or None (all one).
        grouping_passes: passes of label propagation. Six cut a planted graph of 100,000 nodes into
            200 parts at 0.33 of the edges, three at 0.50, KaMinPar at 0.30.
        restreaming_passes: passes of moves by single nodes.

    Returns:
        int32 `[n]`.

    Raises:
        InputError: the rows are not a sound structure, or a setting is wrong.
    """
    structure = as_structure(indptr, indices)
    n = structure.num_nodes
    weight = check_request(n, num_parts, node_weight)
    total = int(weight.sum())
    limit = max(-(-total // num_parts), int((1 + imbalance) * total / num_parts))
    order = np.random.default_rng(seed).permutation(n)
    group = np.arange(n)
    _group(*structure, weight, order, group, limit, grouping_passes)
    starts, nodes = _members(group, weight, order)
    part = np.full(n, -1, np.int32)
    load = np.zeros(num_parts, np.int64)
    _place(*structure, weight, starts, nodes, part, load, limit)
    _move(*structure, weight, order, part, load, limit, restreaming_passes)
    return part


def _members(
    group: NDArray[np.int64], weight: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the nodes group by group, the heaviest group first, equals in the drawn order."""
    heavy = np.zeros(len(group), np.int64)
    np.add.at(heavy, group, weight)
    drawn = np.empty(len(group), np.int64)
    drawn[order] = np.arange(len(group))
    ranked = np.lexsort((drawn, -heavy))  # group ids, by weight
    rank = np.empty(len(group), np.int64)
    rank[ranked] = np.arange(len(group))
    key = rank[group]
    nodes = np.argsort(key, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(key))])
    return starts, nodes


@njit_serial
def _group(indptr, indices, weight, order, group, limit, passes):
    """Let every node join the group of most of its neighbours that has room."""
    size = weight.copy()
    count = np.zeros(len(order), np.int64)
    for _ in range(passes):
        moved = 0
        for i in order:
            own = group[i]
            for e in range(indptr[i], indptr[i + 1]):
                if indices[e] != i:
                    count[group[indices[e]]] += 1
            best, most = own, count[own]
            for e in range(indptr[i], indptr[i + 1]):
                g = group[indices[e]]
                if g != own and size[g] + weight[i] <= limit:
                    # Of equals the smaller, and rather another than its own: standing still on ties
                    # freezes early and cuts a grid at 0.23 of the edges instead of 0.16.
                    other = count[g] == most and (best == own or size[g] < size[best])
                    if count[g] > most or other:
                        best, most = g, count[g]
            for e in range(indptr[i], indptr[i + 1]):
                count[group[indices[e]]] = 0
            if best != own:
                size[own] -= weight[i]
                size[best] += weight[i]
                group[i] = best
                moved += 1
        if moved == 0:
            break


@njit_serial
def _lightest(tree):
    """Return the lightest part: the leaf to which the root's minimum belongs."""
    node = 1
    leaves = len(tree) // 2
    while node < leaves:
        node = 2 * node if tree[2 * node] == tree[node] else 2 * node + 1
    return node - leaves


@njit_serial
def _add(tree, part, weight):
    """Add to a leaf of a tree of minima."""
    node = len(tree) // 2 + part
    tree[node] += weight
    while node > 1:
        node //= 2
        tree[node] = min(tree[2 * node], tree[2 * node + 1])


@njit_serial
def _place(indptr, indices, weight, starts, nodes, part, load, limit):
    """Stream groups into parts by LDG: neighbours there, times the share of room left."""
    num_parts = len(load)
    leaves = 1
    while leaves < num_parts:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)
    tree[leaves + num_parts :] = np.iinfo(np.int64).max
    for node in range(leaves - 1, 0, -1):
        tree[node] = min(tree[2 * node], tree[2 * node + 1])
    count = np.zeros(num_parts, np.int64)
    for g in range(len(starts) - 1):
        a, b = starts[g], starts[g + 1]
        heavy = 0
        for k in range(a, b):
            heavy += weight[nodes[k]]
        # A group that fits nowhere is dealt out node by node.
        whole = b - a == 1 or load[_lightest(tree)] + heavy <= limit
        step = b - a if whole else 1
        for first in range(a, b, step):
            taken = heavy if whole else weight[nodes[first]]
            for k in range(first, first + step):
                i = nodes[k]
                for e in range(indptr[i], indptr[i + 1]):
                    p = part[indices[e]]
                    if p >= 0:
                        count[p] += 1
            best, score = _lightest(tree), 0.0
            for k in range(first, first + step):
                i = nodes[k]
                for e in range(indptr[i], indptr[i + 1]):
                    p = part[indices[e]]
                    if p >= 0 and count[p] > 0:
                        if load[p] + taken <= limit:
                            gain = count[p] * (1.0 - load[p] / limit)
                            if gain > score:
                                best, score = p, gain
                        count[p] = 0
            for k in range(first, first + step):
                part[nodes[k]] = best
            load[best] += taken
            _add(tree, best, taken)


@njit_serial
def _move(indptr, indices, weight, order, part, load, limit, passes):
    """Move single nodes to the part of most of their neighbours that has room."""
    count = np.zeros(len(load), np.int64)
    for _ in range(passes):
        moved = 0
        for i in order:
            own, w = part[i], weight[i]
            for e in range(indptr[i], indptr[i + 1]):
                if indices[e] != i:
                    count[part[indices[e]]] += 1
            best, most = own, count[own]
            for e in range(indptr[i], indptr[i + 1]):
                p = part[indices[e]]
                if p != own and load[p] + w <= limit:
                    better = count[p] > most
                    # An overloaded part gives up nodes; a tie goes to the lighter part.
                    lighter = count[p] == most and load[p] + w < load[best]
                    if better or lighter:
                        best, most = p, count[p]
            for e in range(indptr[i], indptr[i + 1]):
                count[part[indices[e]]] = 0
            if best != own and load[own] > w:  # a part keeps its last node
                load[own] -= w
                load[best] += w
                part[i] = best
                moved += 1
        if moved == 0:
            break

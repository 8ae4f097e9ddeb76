"""The graph of clusters, as far as a few bytes a node can hold it, and parts made of its clusters.

Every cluster keeps a row of slots. A neighbouring cluster is counted in the slot to which its
number hashes, and where two hash to one slot a majority vote decides (Boyer and Moore, 1991): an
edge of the one that holds the slot adds a vote, any other takes one away, and a slot without votes
goes to the next that comes. What has most of the edges of a slot is always found, which is what
greedy placing asks for. The exact graph of clusters would be nearly as large as the graph.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.rows import RowBlocks

_BYTES = 12  # a node, for the slots of all clusters
_MOST_SLOTS = 64


class Sketch(NamedTuple):
    """Neighbouring clusters `[clusters, slots]`, -1 where there is none, and their votes."""

    neighbour: NDArray[np.int32]
    votes: NDArray[np.int32]


def sketch(blocks: RowBlocks, cluster: NDArray[np.int32], num_clusters: int) -> Sketch:
    """Count the edges between clusters in one pass over the rows."""
    room = _BYTES * len(cluster) // (8 * num_clusters)
    slots = 1 << (max(1, min(_MOST_SLOTS, room)).bit_length() - 1)
    made = Sketch(
        np.full((num_clusters, slots), -1, np.int32), np.zeros((num_clusters, slots), np.int32)
    )
    for start, indptr, indices in blocks:
        _vote(start, indptr, indices, cluster, *made)
    return made


def merge(
    seen: Sketch, size: NDArray[np.int64], limit: int, order: NDArray[np.int64], passes: int
) -> NDArray[np.int32]:
    """Group clusters by label propagation: each joins the group of most of its edges with room.

    Args:
        seen: their neighbours.
        size: weight of each cluster.
        limit: of a group's weight.
        order: in which clusters are visited.
        passes: over the clusters.

    Returns:
        The group of each cluster, int32 `[clusters]`.
    """
    group = np.arange(len(size), dtype=np.int32)
    _merge(*seen, size.copy(), limit, order, passes, group)
    return group


def place(
    seen: Sketch, size: NDArray[np.int64], group: NDArray[np.int32], num_parts: int, limit: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Stream the groups into parts, the heaviest first, by linear deterministic greedy (LDG).

    A group that fits into no part whole is dealt out cluster by cluster.

    Returns:
        The part of each cluster, -1 where even that fits nowhere, and the weight of each part.
    """
    heavy = np.bincount(group, weights=size, minlength=len(size)).astype(np.int64)
    ranked = np.lexsort((np.arange(len(size)), -heavy))
    rank = np.empty(len(size), np.int64)
    rank[ranked] = np.arange(len(size))
    members = np.argsort(rank[group], kind="stable")
    counts = np.bincount(rank[group])
    starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    part, load = np.full(len(size), -1, np.int32), np.zeros(num_parts, np.int64)
    _place(*seen, size, starts, members, limit, part, load)
    return part, load


@njit_serial
def _vote(start, indptr, indices, cluster, neighbour, votes):
    slots = np.uint32(neighbour.shape[1] - 1)
    for r in range(len(indptr) - 1):
        own = cluster[start + r]
        for e in range(indptr[r] - indptr[0], indptr[r + 1] - indptr[0]):
            other = cluster[indices[e]]
            if other == own:
                continue
            slot = (np.uint32(other) * np.uint32(2654435769)) >> np.uint32(16) & slots
            if neighbour[own, slot] == other:
                votes[own, slot] += 1
            elif votes[own, slot] == 0:
                neighbour[own, slot] = other
                votes[own, slot] = 1
            else:
                votes[own, slot] -= 1


@njit_serial
def _merge(neighbour, votes, size, limit, order, passes, group):
    weight = size.copy()
    count = np.zeros(len(size), np.int64)
    for _ in range(passes):
        moved = 0
        for c in order:
            own = group[c]
            for s in range(neighbour.shape[1]):
                if neighbour[c, s] >= 0:
                    count[group[neighbour[c, s]]] += votes[c, s]
            best, most = own, count[own]
            for s in range(neighbour.shape[1]):
                if neighbour[c, s] >= 0:
                    g = group[neighbour[c, s]]
                    if count[g] > most and size[g] + weight[c] <= limit:
                        best, most = g, count[g]
            for s in range(neighbour.shape[1]):
                if neighbour[c, s] >= 0:
                    count[group[neighbour[c, s]]] = 0
            if best != own:
                size[own] -= weight[c]
                size[best] += weight[c]
                group[c] = best
                moved += 1
        if moved == 0:
            break


@njit_serial
def tree_of(load):
    """Return the tree of minima over the weights of the parts, which are its leaves."""
    leaves = 1
    while leaves < len(load):
        leaves *= 2
    tree = np.full(2 * leaves, np.iinfo(np.int64).max)
    tree[leaves : leaves + len(load)] = load
    for node in range(leaves - 1, 0, -1):
        tree[node] = min(tree[2 * node], tree[2 * node + 1])
    return tree


@njit_serial
def lightest(tree):
    """Return the lightest part: the leaf to which the root's minimum belongs."""
    node = 1
    leaves = len(tree) // 2
    while node < leaves:
        node = 2 * node if tree[2 * node] == tree[node] else 2 * node + 1
    return node - leaves


@njit_serial
def add(tree, part, weight):
    """Add to a leaf of a tree of minima."""
    node = len(tree) // 2 + part
    tree[node] += weight
    while node > 1:
        node //= 2
        tree[node] = min(tree[2 * node], tree[2 * node + 1])


@njit_serial
def _place(neighbour, votes, size, starts, members, limit, part, load):
    tree = tree_of(load)
    count = np.zeros(len(load), np.int64)
    for g in range(len(starts) - 1):
        a, b = starts[g], starts[g + 1]
        heavy = 0
        for k in range(a, b):
            heavy += size[members[k]]
        whole = load[lightest(tree)] + heavy <= limit
        step = b - a if whole else 1
        for first in range(a, b, step):
            taken = heavy if whole else size[members[first]]
            for c in members[first : first + step]:
                for s in range(neighbour.shape[1]):
                    if neighbour[c, s] >= 0 and part[neighbour[c, s]] >= 0:
                        count[part[neighbour[c, s]]] += votes[c, s]
            # Neighbours there, times the share of room left.
            best, score = lightest(tree), 0.0
            for c in members[first : first + step]:
                for s in range(neighbour.shape[1]):
                    if neighbour[c, s] >= 0 and part[neighbour[c, s]] >= 0:
                        p = part[neighbour[c, s]]
                        gain = count[p] * (1.0 - load[p] / limit)
                        if gain > score and load[p] + taken <= limit:
                            best, score = p, gain
                        count[p] = 0
            if load[best] + taken <= limit:
                for c in members[first : first + step]:
                    part[c] = best
                load[best] += taken
                add(tree, best, taken)

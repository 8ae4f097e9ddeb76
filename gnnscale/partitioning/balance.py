"""Evening out: parts that weigh more than was asked for give nodes to others.

Partitioners treat the imbalance they are given as a wish where a part is a few nodes. What moves is
what costs fewest edges: one pass of Fiduccia and Mattheyses' (1982) gains over each heavy part,
without their swaps back.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.coarse import add, lightest, tree_of
from gnnscale.partitioning.native.structure import Structure
from gnnscale.partitioning.repair import UNRELEASED
from gnnscale.partitioning.rows import let_go


def even_out(
    part: NDArray[np.int32],
    num_parts: int,
    structure: Structure,
    node_weight: NDArray[np.int64] | None,
    imbalance: float,
) -> NDArray[np.int32]:
    """Return the assignment with no part heavier than 1 + `imbalance` times the mean rounded up.

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
        if number % UNRELEASED == 0:
            let_go(*structure)
        _relieve(*structure, evened, weight, load, tree, limit, nodes, count)
    let_go(*structure)
    return evened


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

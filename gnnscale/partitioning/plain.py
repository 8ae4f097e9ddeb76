"""The partitioners that do not look at the edges: random and contiguous."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnnscale.partitioning.repair import cut_order


def random_parts(
    node_weight: NDArray[np.int64], num_parts: int, seed: int = 0
) -> NDArray[np.int32]:
    """Deal the nodes out at random to parts of about equal weight.

    Args:
        node_weight: positive `[n]`.
        num_parts: at most `n`; no part is empty.
        seed: the same seed gives the same parts.

    Returns:
        int32 `[n]`; with equal weights, sizes differ by one at most.
    """
    order = np.random.default_rng(seed).permutation(len(node_weight))
    part = np.empty(len(node_weight), np.int32)
    part[order] = cut_order(node_weight[order], num_parts)
    return part


def contiguous_parts(node_weight: NDArray[np.int64], num_parts: int) -> NDArray[np.int32]:
    """Cut the nodes, in their own order, into stretches of about equal weight.

    Args:
        node_weight: positive `[n]`.
        num_parts: at most `n`; no part is empty.

    Returns:
        int32 `[n]`, rising; with equal weights, sizes differ by one at most.
    """
    return cut_order(node_weight, num_parts)

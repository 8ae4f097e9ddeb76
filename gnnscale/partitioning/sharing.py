"""Sharing parts out over the graphs of a multi-graph data set: a part never spans two graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError


def share_parts(graph_sizes: NDArray[np.int64], num_parts: int) -> NDArray[np.int64]:
    """Share parts out in proportion to nodes: largest remainder, at least one part each.

    Args:
        graph_sizes: nodes of each graph, int64 `[graphs]`; a graph without nodes gets no part.
        num_parts: at most the number of nodes.

    Returns:
        int64 `[graphs]`, summing to `num_parts`, never more than a graph has nodes.

    Raises:
        InputError: fewer parts than graphs with nodes, or more than nodes.
    """
    least, total = np.minimum(graph_sizes, 1), int(graph_sizes.sum())
    graphs = int(least.sum())
    if not graphs <= num_parts <= total:
        raise InputError(
            f"num_parts is {num_parts}; this data set has {graphs} graphs with {total} nodes, and "
            f"a part never spans two graphs: choose between {graphs} and {total}"
        )
    quota = graph_sizes * (num_parts / total)
    shares = np.clip(np.floor(quota).astype(np.int64), least, graph_sizes)
    while (missing := num_parts - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        able = shares < graph_sizes if missing > 0 else shares > least
        owed = np.where(able, step * (quota - shares), -np.inf)
        chosen = np.argsort(-owed, kind="stable")[: min(abs(missing), int(able.sum()))]
        shares[chosen] += step
    return shares

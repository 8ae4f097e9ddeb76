"""A small graph with everything that a store may hold."""

from __future__ import annotations

import torch

from gnnscale.graph import Graph, Partition


def ring(nodes: int = 12, value: float = 1.0) -> Graph:
    """A directed ring with everything a graph may hold."""
    ids = torch.arange(nodes)
    return Graph.from_arrays(
        torch.stack([ids, ids.roll(-1)]),
        torch.full((nodes, 3), value),
        ids % 3,
        edge_weight=1.0 + ids,
        edge_attr=torch.stack([ids, -ids], dim=1),
        splits={"default": {"train": ids % 2 == 0}, "other": {"test": [3]}},
        metric="f1_macro",
        name="ring",
        source="synthetic:ring",
    )


def parts(graph: Graph, count: int = 4) -> Partition:
    return Partition(torch.arange(graph.num_nodes) % count, count, "metis", 3)

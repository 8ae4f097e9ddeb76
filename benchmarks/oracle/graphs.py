"""The graphs: eight small ones of the kinds that go wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import gnnscale as gs
from oracle.subjects import NODE_TYPES, OUT, RELATIONS, WIDTH, Subject

KINDS = (
    "directed",
    "undirected",
    "isolated",
    "loops",
    "duplicates",
    "weighted",
    "bipartite",
    "one node",
)
NODES, EDGES = 40, 120


@dataclass(frozen=True)
class Case:
    """A graph as its user has it.

    Attributes:
        x: `[num_nodes, 8]`.
        y: classes `[num_nodes]`.
        edge_index: int64 `[2, num_edges]`, edges in no order.
        values: what it carries beside, by name: edge_weight, edge_attr, edge_type, node_type.
    """

    x: Tensor
    y: Tensor
    edge_index: Tensor
    values: dict[str, Tensor]

    def graph(self) -> gs.Graph:
        """The same as gnnscale reads it; every node is trained on."""
        train = torch.ones(len(self.y), dtype=torch.bool)
        return gs.Graph.from_arrays(
            self.edge_index, self.x, self.y, num_classes=OUT, train_mask=train, **self.values
        )

    def induced(self, nodes: Tensor) -> Case:
        """The subgraph of some nodes, in their order."""
        place = torch.full((len(self.y),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[self.edge_index]
        inside = (ends >= 0).all(0)
        values = {
            name: value[nodes] if name == "node_type" else value[inside]
            for name, value in self.values.items()
        }
        return Case(self.x[nodes], self.y[nodes], ends[:, inside], values)

    def by_target(self) -> Case:
        """The same with edges in the order of their targets, which some aggregations ask for."""
        order = self.edge_index[1].argsort(stable=True)
        values = {
            name: value if name == "node_type" else value[order]
            for name, value in self.values.items()
        }
        return Case(self.x, self.y, self.edge_index[:, order], values)


def make_case(kind: str, subject: Subject, seed: int = 0) -> Case:
    """A graph of a kind that carries what a subject needs."""
    random = torch.Generator().manual_seed(seed)
    nodes = 1 if kind == "one node" else NODES
    edge_index = _edges(kind, nodes, random)
    count = edge_index.size(1)
    dtype = torch.get_default_dtype()
    # Drawn whether or not they are used: the same graph for every subject.
    x = torch.randn(nodes, WIDTH, generator=random)
    y = torch.randint(0, OUT, (nodes,), generator=random)
    drawn = {
        "edge_weight": 0.25 + torch.rand(count, generator=random),
        "edge_type": torch.randint(0, RELATIONS, (count,), generator=random),
        "node_type": torch.randint(0, NODE_TYPES, (nodes,), generator=random),
        "edge_attr": torch.rand(count, subject.attr_channels, generator=random),
    }
    carried = subject.needs | ({"edge_weight", "edge_attr"} if kind == "weighted" else set())
    values = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in drawn.items()
        if name in carried
    }
    case = Case(x.to(dtype), y, edge_index, values)
    return case.by_target() if subject.by_target else case


def _edges(kind: str, nodes: int, random: torch.Generator) -> Tensor:
    if nodes == 1:
        return torch.zeros(2, 0, dtype=torch.int64)
    some = nodes // 2 if kind == "isolated" else nodes
    edges = torch.randint(0, some, (2, EDGES), generator=random)
    if kind == "bipartite":
        edges = torch.stack([edges[0] % (nodes // 2), nodes // 2 + edges[1] % (nodes // 2)])
    edges = torch.unique(edges[:, edges[0] != edges[1]], dim=1)
    if kind in ("undirected", "isolated", "weighted"):
        edges = torch.unique(torch.cat([edges, edges.flip(0)], dim=1), dim=1)
    if kind in ("loops", "duplicates"):
        edges = torch.cat([edges, torch.arange(0, nodes, 3).expand(2, -1)], dim=1)
    if kind == "duplicates":  # some edges three times, and self-loops among them
        again = torch.cat([torch.arange(30), torch.arange(-9, 0) + edges.size(1), torch.arange(9)])
        edges = torch.cat([edges, edges[:, again]], dim=1)
    return edges[:, torch.randperm(edges.size(1), generator=random)]

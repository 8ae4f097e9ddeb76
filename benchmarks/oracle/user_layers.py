"""Layers as users write them that are local: they must be exact, in pieces too."""

# Users write no @override.
# mypy: disable-error-code="explicit-override,override"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GCNConv, MessagePassing, SAGEConv, aggr
from torch_geometric.utils import (
    add_self_loops,
    coalesce,
    degree,
    remove_self_loops,
    scatter,
    softmax,
)

from oracle.subjects import NODE_TYPES, RELATIONS, Subject, two


class Own(nn.Module):
    """A root and neighbours, each through a matrix of its own."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.root, self.lin = nn.Linear(i, o), nn.Linear(i, o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index)


def gathered(h: Tensor, edge_index: Tensor, weight: Tensor | None = None) -> Tensor:
    """The weighted sum over incoming edges."""
    values = h[edge_index[0]]
    if weight is not None:
        values = values * weight.view(-1, 1)
    return torch.zeros_like(h).index_add(0, edge_index[1], values)


class Attention(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.score = nn.Linear(2 * o, 1)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h, (source, target) = self.lin(x), edge_index
        score = self.score(torch.cat([h[source], h[target]], 1)).squeeze(1)
        weight = softmax(functional.leaky_relu(score), target, num_nodes=x.size(0))
        return self.root(x) + gathered(h, edge_index, weight)


class AttentionWithLoops(Attention):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edge_index = add_self_loops(remove_self_loops(edge_index)[0], num_nodes=x.size(0))[0]
        return super().forward(x, edge_index)


class Gated(MessagePassing):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(aggr="add")
        self.lin, self.gate = nn.Linear(i, o), nn.Linear(2 * i, o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.lin(x) + self.propagate(edge_index, x=x, h=self.lin(x))

    def message(self, x_i: Tensor, x_j: Tensor, h_j: Tensor) -> Tensor:
        return self.gate(torch.cat([x_i, x_j], 1)).sigmoid() * h_j


class EdgeConditioned(MessagePassing):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(aggr="mean")
        self.lin, self.net = nn.Linear(i, o), nn.Linear(3, o)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        return self.lin(x) + self.propagate(edge_index, h=self.lin(x), edge_attr=edge_attr)

    def message(self, h_j: Tensor, edge_attr: Tensor) -> Tensor:
        return h_j * self.net(edge_attr)


class OtherAttr(EdgeConditioned):
    def forward(self, x: Tensor, edge_index: Tensor, edge_features: Tensor) -> Tensor:
        return super().forward(x, edge_index, edge_features)


class Weight(Own):
    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor | None = None) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index, weight)


class EdgeWeights(Own):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weights: Tensor | None = None) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index, edge_weights)


class NeedsWeight(Own):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index, edge_weight)


class Passing(nn.Module):
    """Hands on whatever comes."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = GCNConv(i, o)

    def forward(self, x: Tensor, edge_index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.conv(x, edge_index, *args, **kwargs)


class Wrapped(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = SAGEConv(i, o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index).tanh()


class Several(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SAGEConv(i, o), SAGEConv(o, o), SAGEConv(o, o)])

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x, edge_index).relu()
        return x


class MultiHop(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.lin(x)
        for _ in range(3):
            h = 0.5 * h + gathered(h, edge_index)
        return self.root(x) + h


class DegreeScaled(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        d = degree(target, x.size(0), x.dtype) + 1
        return self.root(x) + gathered(self.lin(x), edge_index, (d[source] * d[target]).rsqrt())


class OwnDegree(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        count = torch.bincount(edge_index[1], minlength=x.size(0)).to(x.dtype)
        return self.root(x) + gathered(self.lin(x), edge_index) / count.clamp(min=1).view(-1, 1)


class ZeroGate(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + self.gate * gathered(self.lin(x), edge_index)


class Lazy(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.root, self.lin = nn.LazyLinear(o), nn.LazyLinear(o)


class WithDropout(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(self.dropout(x), edge_index)


class WithBatchNorm(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = nn.BatchNorm1d(o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.norm(super().forward(x, edge_index))


class WithLayerNorm(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = nn.LayerNorm(o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.norm(super().forward(x, edge_index))


class Aggregated(MessagePassing):
    """Neighbours by an aggregation of PyG."""

    def __init__(self, i: int, o: int, kind: Any) -> None:
        super().__init__(aggr=kind)
        self.root, self.lin = nn.Linear(i, o), nn.Linear(i, o)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + self.propagate(edge_index, h=self.lin(x))

    def message(self, h_j: Tensor) -> Tensor:
        return h_j


class Median(Aggregated):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, "median")


class Sorted(Aggregated):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, aggr.SortAggregation(k=1))


class Deviation(Aggregated):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, "std")


class Extremes(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h, (source, target) = self.lin(x), edge_index
        most = scatter(h[source], target, dim=0, dim_size=x.size(0), reduce="max")
        return self.root(x) + most


class EdgeTypes(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.kinds = nn.Embedding(RELATIONS, 1)

    def forward(self, x: Tensor, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index, self.kinds(edge_type))


class OtherTypes(EdgeTypes):
    def forward(self, x: Tensor, edge_index: Tensor, edge_types: Tensor) -> Tensor:
        return super().forward(x, edge_index, edge_types)


class NodeTypes(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.kinds = nn.Embedding(NODE_TYPES, o)

    def forward(self, x: Tensor, edge_index: Tensor, node_type: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x) + self.kinds(node_type), edge_index)


class Differences(MessagePassing):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(aggr="max")
        self.net = nn.Sequential(nn.Linear(2 * i, o), nn.ELU(), nn.Linear(o, o))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return self.net(torch.cat([x_i, x_j - x_i], 1))


class SparseProduct(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        ones = x.new_ones(edge_index.size(1))
        a = torch.sparse_coo_tensor(edge_index.flip(0), ones, (x.size(0), x.size(0)))
        return self.root(x) + torch.sparse.mm(a, self.lin(x))


class EachEdgeOnce(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, coalesce(edge_index, num_nodes=x.size(0)))


class SinglePrecision(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x).float(), edge_index).to(x.dtype)


ATTR, TYPE = frozenset({"edge_attr"}), frozenset({"edge_type"})
_PLAIN = (Own, Attention, AttentionWithLoops, Gated, Wrapped, OwnDegree, ZeroGate, WithDropout)
_PLAIN += (WithBatchNorm, WithLayerNorm, Median, Sorted, Deviation, Extremes, Differences)
_PLAIN += (SparseProduct, EachEdgeOnce)
WEIGHTS = frozenset({"edge_weight"})

SUBJECTS = [
    *(Subject(cls.__name__, two(cls), by_target=cls is Sorted) for cls in _PLAIN),
    Subject("EdgeConditioned", two(EdgeConditioned), ATTR),
    Subject("OtherAttr", two(OtherAttr), ATTR, {"edge_attr": "edge_features"}),
    Subject("Weight", two(Weight), takes={"edge_weight": "weight"}),
    Subject("EdgeWeights", two(EdgeWeights), takes={"edge_weight": "edge_weights"}),
    Subject("NeedsWeight", two(NeedsWeight), WEIGHTS),
    Subject("Passing", two(Passing), takes={"edge_weight": "edge_weight"}, hops=2),
    Subject("Several", two(Several), hops=3),
    Subject("MultiHop", two(MultiHop), hops=3),
    Subject("DegreeScaled", two(DegreeScaled), hops=2),
    Subject("Lazy", two(Lazy), lazy=True),
    Subject("EdgeTypes", two(EdgeTypes), TYPE),
    Subject("OtherTypes", two(OtherTypes), TYPE, {"edge_type": "edge_types"}),
    Subject("NodeTypes", two(NodeTypes), frozenset({"node_type"})),
    Subject("SinglePrecision", two(SinglePrecision), float32=True),
]

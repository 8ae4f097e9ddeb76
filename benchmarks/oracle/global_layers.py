"""Layers as users write them that are not local: they must be refused by name in pieces."""

# Users write no @override.
# mypy: disable-error-code="explicit-override,override"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, GraphNorm, InstanceNorm, PairNorm, aggr
from torch_geometric.utils import degree, to_undirected

from oracle.subjects import Subject, two
from oracle.user_layers import Aggregated, Own, gathered


class MeanOfAll(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) - self.lin(x).mean(0)


class GreatestOfAll(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) / x.abs().amax().clamp(min=1e-6)


class Standardised(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward((x - x.mean(0)) / (x.std(0, correction=0) + 1), edge_index)


class NumberOfNodes(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index) / x.size(0)


class NumberOfEdges(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index) / (1 + edge_index.size(1))


class Positions(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        place = torch.arange(x.size(0), device=x.device, dtype=x.dtype).view(-1, 1)
        return super().forward(x, edge_index) + place.sin()


class EdgeOrder(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        place = torch.arange(edge_index.size(1), device=x.device, dtype=x.dtype)
        return self.root(x) + gathered(self.lin(x), edge_index, place.cos())


class GreatestDegree(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        d = degree(edge_index[1], x.size(0), x.dtype)
        return self.root(x) + gathered(self.lin(x), edge_index) / d.max().clamp(min=1)


class ByLSTM(Aggregated):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, aggr.LSTMAggregation(o, o))


class ByGRU(Aggregated):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o, aggr.GRUAggregation(o, o))


class _Normed(Own):
    norm: nn.Module

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.norm(super().forward(x, edge_index))


class WithGraphNorm(_Normed):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = GraphNorm(o)


class WithPairNorm(_Normed):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = PairNorm()


class WithInstanceNorm(_Normed):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = InstanceNorm(o)


class WithBatchStatistics(_Normed):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.norm = nn.BatchNorm1d(o, track_running_stats=False)


class GraphBeside(Own):
    """Propagates on a graph of its own too: node i hears of the nodes that follow it."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) + self.lin(x).roll(1, 0)


class Remembering(Own):
    """Keeps the degrees of the first graph it sees."""

    kept: Tensor | None = None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = degree(edge_index[1], x.size(0), x.dtype).mean() + 1
        return self.root(x) + gathered(self.lin(x), edge_index) / self.kept


class Counting(Own):
    """Weakens what it gives with every call."""

    calls = 0

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x, edge_index) / self.calls


class IdsAsValues(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.root(x) + gathered(self.lin(x), edge_index, (1 + edge_index[0]).log())


class FirstNode(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) + self.lin(x[:1])


class HubNormaliser(Own):
    """Divides by what arrives at the node where most edges do."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = gathered(self.lin(x), edge_index)
        hub = degree(edge_index[1], x.size(0)).argmax()
        return self.root(x) + h / (1 + h[hub].abs().sum())


class GlobalAttention(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        h = self.lin(x)
        return super().forward(x, edge_index) + torch.softmax(h @ h.t(), dim=1) @ h


class SoftmaxOfAll(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) + self.lin(x).softmax(0)


class MedianOfAll(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x - x.median(0).values, edge_index)


class Ranks(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        rank = x[:, :1].argsort(0).argsort(0).to(x.dtype)
        return super().forward(x, edge_index) + rank / 10


class Sampling(Own):
    """Drops a third of the edges, in evaluation mode too, by the state of the process."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        kept = torch.rand(edge_index.size(1), generator=_UNSEEDED, device="cpu") < 0.66
        return super().forward(x, edge_index[:, kept])


_UNSEEDED = torch.Generator()


class Nearest(Own):
    """Edges between the nodes that are alike, wherever they are."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        count = min(3, x.size(0))
        near = torch.cdist(x, x).topk(count, largest=False).indices
        alike = torch.stack([near.flatten(), torch.arange(x.size(0)).repeat_interleave(count)])
        return super().forward(x, torch.cat([edge_index, alike], dim=1))


class VirtualNode(Own):
    def __init__(self, i: int, o: int) -> None:
        super().__init__(i, o)
        self.node = nn.Linear(i, o)
        self.gate = nn.Parameter(torch.zeros(1))  # closed at first

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index) + self.gate * self.node(x.sum(0))


class PowerIteration(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        v = x.new_ones(x.size(0), 1)
        for _ in range(5):
            v = v + gathered(v, edge_index)
            v = v / v.norm()
        return super().forward(x, edge_index) + v


class OutDegrees(Own):
    """Local, but on no halo of incoming edges."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        d = degree(edge_index[0], x.size(0), x.dtype) + 1
        return self.root(x) + gathered(self.lin(x), edge_index, 1 / d[edge_index[0]])


class BothWays(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, to_undirected(edge_index, num_nodes=x.size(0)))


class WithAttention(Own):
    """Gives two values."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Any:
        return super().forward(x, edge_index), edge_index


class OnePerGraph(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index).mean(0, keepdim=True)


class Failing(Own):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        raise RuntimeError("something of the user's own")


class Positional(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.conv = GCNConv(i, o)

    def forward(self, x: Tensor, edge_index: Tensor, pos: Tensor) -> Tensor:
        return self.conv(x, edge_index) + pos.sum(1, keepdim=True)


_CLASSES: tuple[type[nn.Module], ...] = (
    *(MeanOfAll, GreatestOfAll, Standardised, NumberOfNodes, NumberOfEdges, Positions, EdgeOrder),
    *(GreatestDegree, ByLSTM, ByGRU, WithGraphNorm, WithPairNorm, WithInstanceNorm),
    *(WithBatchStatistics, GraphBeside, Remembering, Counting, IdsAsValues, FirstNode),
    *(HubNormaliser, GlobalAttention, SoftmaxOfAll, MedianOfAll, Ranks, Sampling, Nearest),
    *(VirtualNode, PowerIteration, OutDegrees, BothWays, WithAttention, OnePerGraph, Failing),
    Positional,
)
SUBJECTS = [Subject(cls.__name__, two(cls), by_target=cls in (ByLSTM, ByGRU)) for cls in _CLASSES]
# The same where the user says that they reach one hop: a word is not believed.
SUBJECTS += [
    Subject(f"{cls.__name__}, hops=1", two(cls), hops=1)
    for cls in (MeanOfAll, NumberOfNodes, Positions, GreatestDegree, VirtualNode)
]

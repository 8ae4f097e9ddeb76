"""What a contest of training steps is about, and what a contestant has to do."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GAT, GCN, GIN, ClusterGCNConv, GraphSAGE
from torch_geometric.nn.models.basic_gnn import BasicGNN

import gnnscale as gs
from gnnscale.kernels import CSR, spmm

SEED = 0
_PROJECTED = 128


class ClusterGCN(BasicGNN):
    """PyG's layers of Cluster-GCN, of which it has no model."""

    supports_edge_weight = False
    supports_edge_attr = False

    def init_conv(self, in_channels: Any, out_channels: int, **kwargs: Any) -> nn.Module:
        return ClusterGCNConv(in_channels, out_channels, **kwargs)


MODELS: dict[str, type[BasicGNN]] = {
    "gcn": GCN,
    "sage": GraphSAGE,
    "gin": GIN,
    "cluster_gcn": ClusterGCN,
    "gat": GAT,
}
# Their matrices have self-loops; peers get them in the stored graph, once, instead of every step.
WITH_SELF_LOOPS = ("gcn", "cluster_gcn", "gat")


@dataclass(frozen=True)
class Case:
    """A graph, a partition, a model and a batch.

    Attributes:
        name: of the case.
        source: what `gs.load` takes.
        num_parts: clusters.
        clusters_per_batch: clusters a step.
        model: a name of `MODELS`.
        hidden: hidden channels of its three layers.
    """

    name: str
    source: str
    num_parts: int
    clusters_per_batch: int
    model: str = "gcn"
    hidden: int = 400
    num_layers: int = 3
    dropout: float = 0.2
    lr: float = 0.01


@dataclass
class Setup:
    """A case made ready: what every contestant starts from."""

    case: Case
    clustered: gs.ClusteredGraph
    device: torch.device

    @property
    def widths(self) -> list[int]:
        """Channels before, between and after the layers."""
        graph, case = self.clustered.graph, self.case
        return [graph.num_features, *[case.hidden] * (case.num_layers - 1), graph.num_classes]

    def network(self, dropout: float, *, prepared: bool) -> BasicGNN:
        """PyG's model with the contest's weights.

        Args:
            dropout: probability.
            prepared: the batches come with self-loops and, for GCN, with normalised weights.
        """
        case = self.case
        arguments: dict[str, Any] = {}
        if prepared and case.model == "gcn":
            arguments["normalize"] = False
        if case.model in ("cluster_gcn", "gat"):
            arguments["add_self_loops"] = not prepared
        torch.manual_seed(SEED)
        return MODELS[case.model](
            self.widths[0],
            case.hidden,
            case.num_layers,
            self.widths[-1],
            dropout=dropout,
            **arguments,
        )

    def draws(self) -> Iterator[list[int]]:
        """The clusters of every step, ascending: those that `ClusterTrainer` draws."""
        loader = gs.ClusterLoader(self.clustered, self.case.clusters_per_batch, seed=SEED)
        for epoch in itertools.count():
            for (clusters,) in loader.steps(epoch):
                yield clusters.sort().values.tolist()


def clustered_graph(source: str, num_parts: int) -> gs.ClusteredGraph:
    """The graph of a case, partitioned and laid out. The partition is cached."""
    graph = gs.load(source)
    if isinstance(graph.x, CSR):
        # No peer takes batches of sparse features: everybody gets the same dense projection.
        generator = torch.Generator().manual_seed(SEED)
        projection = torch.randn(graph.x.shape[1], _PROJECTED, generator=generator)
        graph = dataclasses.replace(graph, x=spmm(graph.x, projection))
    return gs.cluster(graph, gs.partition(graph, num_parts, seed=SEED))


class Contestant(ABC):
    """One way to train the model of a case.

    Attributes:
        name: what tables call it.
    """

    name: str

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @abstractmethod
    def begin(self, dropout: float) -> None:
        """Start from the contest's weights and its first batch."""

    def turn(self) -> AbstractContextManager[Any]:
        """What its steps run in."""
        return nullcontext()

    @abstractmethod
    def load(self) -> Any:
        """The next batch, in the format that `train` is fastest on, on the device."""

    @abstractmethod
    def train(self, batch: Any) -> None:
        """Take a step: forward, backward, Adam."""

    @abstractmethod
    def loss(self, batch: Any) -> float:
        """The mean loss of the batch's training nodes, before the step."""


class TorchContestant(Contestant):
    """A training step as one writes it by hand, with the same fused Adam as the trainer's."""

    model: nn.Module

    @abstractmethod
    def make_model(self, dropout: float) -> nn.Module:
        """The model with the contest's weights."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Batches by the contest's draws."""

    @abstractmethod
    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, labels and training mask of the batch's nodes."""

    def begin(self, dropout: float) -> None:
        self.model = self.make_model(dropout).to(self.setup.device).train()
        parameters = self.model.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=self.setup.case.lr, fused=True)
        self._batches = self.batches()

    def load(self) -> Any:
        return next(self._batches)

    def train(self, batch: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self._mean_loss(batch).backward()
        self.optimizer.step()

    def loss(self, batch: Any) -> float:
        with torch.no_grad():
            return float(self._mean_loss(batch))

    def _mean_loss(self, batch: Any) -> Tensor:
        out, y, mask = self.forward(batch)
        return functional.cross_entropy(out[mask], y[mask])


# Contestants by name; a string in the place of one says why it is absent.
Field = dict[str, Contestant | str]

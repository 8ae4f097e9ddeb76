"""Context: what the phases of a model need to know of the graph they run on.

And features in the type that a model computes in: cast where they enter it, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor, nn

from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR
from gnnscale.nn.norms.segments import segment_of_rows

# Runs the phases of a block (None: of the head) on its input, and returns its output.
Runner = Callable[[nn.Module | None, Sequence[Any], Any, "Context"], Any]


def run_phases(block: nn.Module | None, phases: Sequence[Any], x: object, context: Context) -> Any:
    """Run phases one after another: the plain `Runner`."""
    for phase in phases:
        x = phase(x, context)
    return x


@dataclass
class Context:
    """One forward pass: structure, randomness, and the values that outlive a block.

    Attributes:
        adj: the adjacency of the batch or graph.
        training: whether dropout and batch statistics are on.
        seed: seed of the dropout masks; None draws one from torch's generator.
        epoch: enters the dropout masks.
        step: enters the seed of opaque modules' own randomness.
        node_id: int64 `[num_nodes]`, global ids of the rows, so that a node's dropout mask does not
            depend on the batch it is in; None numbers the rows.
        edge_attr: `[num_edges, channels]` in the order of `adj`, or None.
        edge_type: int64 `[num_edges]` in the order of `adj`, or None.
        node_type: int64 `[num_nodes]`, or None.
        batch: int64 `[num_nodes]`, the whole graph that each row is of; None where segments say it,
            or where there is one graph.
        place: int64 `[num_edges]`, where in `adj` each edge of the caller's `edge_index` stands: a
            layer may read the order of edges, and is then run in that one. None: that of `adj`.
        segments: int64 `[num_segments + 1]` by what a norm may run over: where each cluster
            ("cluster"), each graph ("graph") and, for "batch", each graph that is there whole
            begins. A kind that is missing is one segment: all rows. "cluster" must be there for
            norms that run over clusters.
        slots: values that outlive a block, by name.
        first_hop: P·X `[num_nodes, in_channels]` of the model's first propagation, where it was
            computed before training (Cluster-GCN, section 6.2); None propagates on `adj`.
        runner: how `LayeredGNN.forward` runs the phases of a block: trainers put activation
            checkpointing or compiled phases here.
    """

    adj: Adjacency
    training: bool  # without a default: each caller says which
    seed: int | None = None
    epoch: int = 0
    step: int = 0
    node_id: Tensor | None = None
    edge_attr: Tensor | None = None
    edge_type: Tensor | None = None
    node_type: Tensor | None = None
    batch: Tensor | None = None
    place: Tensor | None = None
    segments: Mapping[str, Tensor] = field(default_factory=dict)
    slots: dict[str, Tensor | CSR] = field(default_factory=dict)
    first_hop: Tensor | CSR | None = None
    runner: Runner = run_phases

    @classmethod
    def of(cls, batch: Any, *, training: bool, **more: Any) -> Context:
        """The context of a pass over a batch, with all that it carries; `more`: other fields."""
        return cls(
            batch.adj,
            training,
            node_id=batch.node_id,
            edge_attr=getattr(batch, "edge_attr", None),
            edge_type=getattr(batch, "edge_type", None),
            node_type=getattr(batch, "node_type", None),
            segments=getattr(batch, "segments", {}),
            slots=dict(getattr(batch, "slots", {})),
            first_hop=getattr(batch, "first_hop", None),
            **more,
        )

    def carried(self, names: Iterable[str]) -> dict[str, Tensor]:
        """What there is of edges' and nodes' values, by name."""
        found = {name: self._value(name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def edges(self, names: Iterable[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The edges, int64 `[2, num_edges]`, and what is carried, in the caller's order."""
        edge_index, carried, place = self.adj.edge_index, self.carried(names), self.place
        if place is None:
            return edge_index, carried
        in_order = {n: v[place] if n in EDGE_VALUES else v for n, v in carried.items()}
        return edge_index[:, place], in_order

    def _value(self, name: str) -> Tensor | None:
        if name == "edge_weight":
            return self.adj.edge_weight
        if name == "batch" and self.batch is None and "graph" in self.segments:
            self.batch = segment_of_rows(self.segments["graph"], self.adj.num_nodes)
        return getattr(self, name)

    def dropout_key(self, stream: int) -> tuple[int, int, int]:
        """The key of a dropout mask; `stream` numbers the dropouts of a model."""
        if self.seed is None:
            self.seed = int(torch.randint(2**62, ()))
        return self.seed, self.epoch, stream

    def ids(self, rows: int, device: torch.device) -> Tensor:
        """Global ids of the rows, int64 `[rows]`."""
        if self.node_id is None:
            self.node_id = torch.arange(rows, device=device)
        return self.node_id


def computed_in(model: nn.Module) -> torch.dtype | None:
    """The type of a model's parameters; None where it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def entering(x: Tensor | CSR, model: nn.Module) -> Tensor | CSR:
    """Features in the type of a model's parameters, whatever they are kept in."""
    dtype = computed_in(model)
    return x if dtype is None else of_type(x, dtype)


@overload
def of_type(x: Tensor, dtype: torch.dtype) -> Tensor: ...
@overload
def of_type(x: CSR, dtype: torch.dtype) -> CSR: ...


def of_type(x: Tensor | CSR, dtype: torch.dtype) -> Tensor | CSR:
    """Rows in a type; themselves where they have it already, or are no floats."""
    if type_of(x) == dtype or not type_of(x).is_floating_point:
        return x
    if isinstance(x, CSR):
        return x._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)
    return x.to(dtype)


def type_of(x: Tensor | CSR) -> torch.dtype:
    """The type of rows; of a CSR without values, which are ones, float32."""
    values = x.values if isinstance(x, CSR) else x
    return torch.float32 if values is None else values.dtype

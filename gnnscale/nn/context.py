"""Context: what the phases of a model need to know of the graph they run on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR

# Runs the phases of a block (None: of the head) on its input, and returns its output.
Runner = Callable[[nn.Module | None, Sequence[Any], Any, "Context"], Any]


def run_phases(block: nn.Module | None, phases: Sequence[Any], x: Any, context: Context) -> Any:
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
    training: bool = False
    seed: int | None = None
    epoch: int = 0
    step: int = 0
    node_id: Tensor | None = None
    edge_attr: Tensor | None = None
    segments: Mapping[str, Tensor] = field(default_factory=dict)
    slots: dict[str, Tensor | CSR] = field(default_factory=dict)
    first_hop: Tensor | CSR | None = None
    runner: Runner = run_phases

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

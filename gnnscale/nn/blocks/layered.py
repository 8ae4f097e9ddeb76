"""LayeredGNN: a model as a list of blocks, a block a list of phases. What every trainer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Adjacency, as_adjacency
from gnnscale.kernels import CSR
from gnnscale.nn.blocks.block import Block, Chain
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.context import Context, entering, type_of
from gnnscale.nn.blocks.operations import block_phases, head_phases, state_of
from gnnscale.nn.blocks.phases import (
    Collect,
    Dropout,
    Neighbourhood,
    Phase,
    Propagate,
    Rows,
    Save,
    Statistics,
    slots_of,
)
from gnnscale.nn.blocks.to_pyg import to_sequential
from gnnscale.nn.blocks.widths import width_after
from gnnscale.nn.convs.propagation import Propagation
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.modules import has_lazy
from gnnscale.nn.norms.segments import pointers_of


@dataclass(frozen=True)
class Slot:
    """A value that outlives the phase that makes it.

    Attributes:
        name: its key.
        width: channels, or None where they are known only at run time.
        first: the block that writes it first.
        last: the block (or, being the number of blocks, the head) that reads it last.
    """

    name: str
    width: int | None
    first: int
    last: int


class LayeredGNN(nn.Module):
    """A graph neural network as blocks and a head.

    Args:
        blocks: the blocks, in order.
        head: a row-local module after the last block, or None.
        jk: None, "cat" or "max": the head sees the outputs of all blocks, joined
            (jumping knowledge; Xu et al., ICML 2018).

    Shapes: x `[num_nodes, in_channels]` → `[num_nodes, out_channels]`.
    """

    @choices_checked
    def __init__(
        self,
        blocks: Sequence[Block | nn.Module],
        head: nn.Module | None = None,
        *,
        jk: Literal["cat", "max"] | None = None,
    ) -> None:
        super().__init__()
        if not blocks:
            raise InputError("a LayeredGNN needs at least one block")
        self._register(blocks, head)
        self.jk_mode = jk
        self.spec: dict[str, Any] | None = None
        self._compiled: tuple[Any, list[list[Phase]]] | None = None

    def _register(self, blocks: Sequence[Block | nn.Module], head: nn.Module | None) -> None:
        self.blocks: Any = nn.ModuleList(
            block if isinstance(block, Block | Chain) else Block(block) for block in blocks
        )
        self.head = head

    @override
    def forward(
        self,
        x: Tensor | CSR,
        adj: Any,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        *,
        edge_type: Tensor | None = None,
        node_type: Tensor | None = None,
        batch: Tensor | None = None,
        segments: Mapping[str, Tensor] | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Run all blocks and the head.

        Args:
            x: `[num_nodes, in_channels]`, dense or sparse.
            adj: an `Adjacency`, `edge_index` `[2, num_edges]`, or a torch sparse tensor read as PyG
                reads it.
            edge_weight: `[num_edges]`, with an `edge_index` only.
            edge_attr: `[num_edges, channels]`, in the order of `adj`.
            edge_type: int64 `[num_edges]`, in the order of `adj`.
            node_type: int64 `[num_nodes]`.
            batch: int64 `[num_nodes]`, ascending, for several whole graphs: PyG's vector of the
                graph of every node. Norms then run over each of them, and layers that take it are
                given it.
            segments: what norms run over, for a mini-batch of clusters: `Batch.segments`.
            context: what trainers pass: structure, randomness and slots of this pass.

        Returns:
            `[num_nodes, out_channels]`.
        """
        if context is None:
            context = self._context(x, adj, edge_weight, edge_attr, edge_type, node_type)
            if batch is not None:
                pointers = pointers_of(batch, x.shape[0])
                context.segments = {"batch": pointers, "graph": pointers}
            context.segments = {**context.segments, **(segments or {})}
            check_carried(self, context.carried(CARRIED))
        x = entering(x, self)
        for block, phases in zip((*self.blocks, None), self.phases, strict=True):
            x = context.runner(block, phases, x, context)
        return cast(Tensor, x)

    def _context(
        self,
        x: Tensor | CSR,
        adj: object,
        edge_weight: Tensor | None,
        edge_attr: Tensor | None,
        edge_type: Tensor | None,
        node_type: Tensor | None,
    ) -> Context:
        if not isinstance(x, Tensor | CSR) or len(x.shape) != 2:
            shape = list(getattr(x, "shape", ()))
            raise InputError(
                f"x is a tensor or CSR [num_nodes, in_channels], not {type(x).__name__} {shape}"
            )
        if self.in_channels not in (None, x.shape[1]):
            raise InputError(
                f"the model's first layer takes {self.in_channels} features, x has {x.shape[1]}"
            )
        # An opaque layer may look numbers up, as an embedding does.
        if not type_of(x).is_floating_point and not isinstance(self.phases[0][0], Neighbourhood):
            raise InputError(f"x has dtype {type_of(x)}; features are floating point (x.float())")
        place = None
        if isinstance(adj, Tensor) and adj.layout == torch.strided:
            adj, order = Adjacency.with_permutation(
                adj.as_subclass(Tensor), x.shape[0], edge_weight
            )
            edge_attr = None if edge_attr is None else edge_attr[order]
            edge_type = None if edge_type is None else edge_type[order]
            place = torch.empty_like(order)
            place[order] = torch.arange(order.numel(), device=order.device)
        elif edge_weight is not None:
            raise InputError("edge_weight goes with an edge_index; an adjacency carries its own")
        adj = as_adjacency(adj, x.shape[0])
        device = (x.indices if isinstance(x, CSR) else x).device
        if adj.indices.device != device:
            raise InputError(f"x is on {device}, adj on {adj.indices.device}; move one: .to(…)")
        return Context(
            adj,
            self.training,
            edge_attr=edge_attr,
            edge_type=edge_type,
            node_type=node_type,
            place=place,
        )

    @property
    def phases(self) -> list[list[Phase]]:
        """The phases of every block, and of the head last.

        Rebuilt when hooks come or go and when a module or a parameter is replaced.
        """
        state = state_of((*self.blocks, self.head))
        if self._compiled is None or self._compiled[0] != state:
            phases = block_phases(enumerate(self.blocks), self.jk_mode)
            phases.append(head_phases(self.head, len(self.blocks), self.jk_mode))
            _check_slots(phases)
            self._compiled = (state, phases)
        return self._compiled[1]

    @property
    def slots(self) -> list[Slot]:
        """The values that outlive a block's phases, with their widths and lifetimes."""
        seen: dict[str, list[int]] = {}
        widths: dict[str, int | None] = {}
        width = self.in_channels
        for i, phases in enumerate(self.phases):
            for phase in phases:
                for slot in slots_of(phase):
                    seen.setdefault(slot, []).append(i)
                width = width_after(phase, width, widths)
        return [Slot(name, widths[name], at[0], at[-1]) for name, at in seen.items()]

    @property
    def in_channels(self) -> int | None:
        """Features that the first block expects, or None where its convolution does not say."""
        return self.blocks[0].in_channels

    def to_pyg(self) -> nn.Module:
        """The model as a `torch_geometric.nn.Sequential`. Parameters are shared.

        Its `forward(x, edge_index, edge_weight=None, edge_attr=None)` hands weights and attributes
        to the convolutions that take them.

        Raises:
            UnsupportedModel: naming what it cannot express.
        """
        return to_sequential(self, self.blocks, self.head, self.jk_mode)

    def signature(self) -> dict[str, Any]:
        """Names, shapes and types of the parameters, and the kinds of the phases."""
        return {
            "parameters": {
                name: "lazy"
                if isinstance(value, nn.parameter.UninitializedParameter)
                else [list(value.shape), str(value.dtype).removeprefix("torch.")]
                for name, value in self.state_dict(keep_vars=True).items()
            },
            "phases": [[type(phase).__name__ for phase in phases] for phases in self.phases],
        }

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # phases refer to this model's own modules


def _check_slots(phases: list[list[Phase]]) -> None:
    """Every slot is saved once, before it is read."""
    saved: set[str] = set()
    for phase in (phase for block in phases for phase in block):
        if isinstance(phase, Save) and phase.slot in saved:
            raise InputError(f"two blocks save to the slot {phase.slot!r}; give each its own name")
        missing = set() if isinstance(phase, Save | Collect) else set(slots_of(phase)) - saved
        if missing:
            raise InputError(
                f"the slot {missing.pop()!r} is read before a block saves to it; give an earlier "
                f"block saves=…"
            )
        saved |= set(slots_of(phase))


def first_propagation(model: LayeredGNN) -> Propagation:
    """The propagation that begins a model: of the raw features, which training does not change.

    Raises:
        UnsupportedModel: something comes before it, or the first convolution is opaque.
    """
    phases = [phase for block in model.phases for phase in block]
    first = next(phase for phase in phases if not isinstance(phase, Save))
    if has_lazy(model):
        raise UnsupportedModel(
            "precompute=True needs the widths of the model: build it with in_channels=, the number "
            "of features"
        )
    if not isinstance(first, Propagate):
        raise UnsupportedModel(
            f"precompute=True needs a model that begins with a propagation of the features; this "
            f"one begins with {_name(first)}. Leave precompute out, or {_remedy(first)}"
        )
    if sum(isinstance(phase, Propagate) and phase.first for phase in phases) > 1:
        raise UnsupportedModel(
            "precompute=True needs one propagation in the first block, and there are several: "
            "leave precompute out, or make a block of each"
        )
    return first.propagation


def _name(phase: object) -> str:
    if isinstance(phase, Dropout):
        return "dropout"
    if isinstance(phase, Neighbourhood):
        return f"{type(phase.module).__name__}, an opaque convolution"
    if isinstance(phase, Statistics):
        return type(phase.norm).__name__
    return type(phase.module if isinstance(phase, Rows) else phase).__name__


def _remedy(phase: object) -> str:
    if isinstance(phase, Neighbourhood):
        return "begin with one that is a fixed propagation (GCN, GraphSAGE, GIN, ClusterGCN, SGC)"
    return "let the first block begin with its convolution (order='conv-norm-act-dropout')"

"""Phases: the steps that a block consists of, and that everything else reads.

Training runs them one after another on a batch; exact inference runs each over the whole graph in
chunks of rows; the layer-wise trainer, the pipeline and the planner read their kinds.

- `Propagate`: fixed linear propagation, with the transform beside it. Reads in-neighbours.
- `Neighbourhood`: an opaque convolution. Reads a declared number of hops.
- `Statistics`: a norm: one reduction over all rows, then a row-local map.
- `Rows`, `Dropout`: row-local.
- `Save`, `Read`, `Join`, `Collect`: row-local, through slots: values that outlive a block.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import resolver

from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR, activation_dropout, dropout, dropout_csr
from gnnscale.nn.blocks.context import Context, of_type, type_of
from gnnscale.nn.convs.networks import Call
from gnnscale.nn.convs.propagation import Propagation, call_rows, densify, reach_of
from gnnscale.nn.convs.taken import CARRIED, Taken, padded, taken_by, takes_padded, without_padding
from gnnscale.nn.modules import is_intercepted, works_in_place
from gnnscale.nn.norms import statistics
from gnnscale.nn.norms.segments import segments_for

Features = Tensor | CSR

# What PyG's resolver knows, but one that draws and one that attends.
_ACTIVATIONS = {getattr(nn, name) for name in nn.modules.activation.__all__} | {resolver.swish}
_ACTIVATIONS -= {nn.RReLU, nn.MultiheadAttention}


@dataclass(frozen=True, eq=False)
class Rows:
    """A module applied to every row by itself."""

    module: Callable[[Tensor], Tensor]

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        if isinstance(x, Tensor) and works_in_place(self.module):
            x = x.clone()  # the rows may be the user's features, or kept in a slot
        if isinstance(x, Tensor) and statistics.is_row_local(self.module):
            x = statistics.widened(x)
        return call_rows(self.module, x)


@dataclass(frozen=True, eq=False)
class Dropout:
    """Dropout with a counter hash of (seed, epoch, stream, node, channel), after an activation.

    Attributes:
        module: where the probability is read from, or the probability itself.
        stream: numbers the dropouts of a model.
        act: the activation that comes first and is fused with it, or None.
    """

    module: nn.Dropout | float
    stream: int
    act: Callable[[Tensor], Tensor] | None = None

    @property
    def p(self) -> float:
        """The probability that a channel of a row is dropped."""
        return self.module if isinstance(self.module, float) else self.module.p

    def __call__(self, x: Features, ctx: Context) -> Features:
        p = self.p
        if not ctx.training or p == 0:
            return self.activate(x, ctx)
        key = ctx.dropout_key(self.stream)
        ids = ctx.ids(x.shape[0], x.device)
        if self.act is not None:
            return activation_dropout(densify(x), self.act, p, key, ids)
        return dropout_csr(x, p, key, ids) if isinstance(x, CSR) else dropout(x, p, key, ids)

    def activate(self, x: Features, ctx: Context) -> Features:
        """The activation by itself."""
        return x if self.act is None else Rows(self.act)(x, ctx)


@dataclass(frozen=True, eq=False)
class Statistics:
    """A norm whose statistics run over rows: all, each cluster's or each graph's."""

    norm: nn.Module

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        x = statistics.widened(densify(x))
        if self.row_local_in_evaluation and not self.norm.training:
            return self.norm(x)
        statistics.check_rows(self.norm, x.shape[0])
        return statistics.normalise(self.norm, x, segments_for(self.norm, ctx.segments))

    @property
    def row_local_in_evaluation(self) -> bool:
        """Whether the norm then goes by statistics that it has kept."""
        return statistics.uses_running_statistics(self.norm)


@dataclass(frozen=True, eq=False)
class Propagate:
    """A fixed linear propagation with its transform.

    Attributes:
        propagation: what is computed.
        first: whether it is in the first block, and takes the context's first hop.
        name: what the convolution is called.
    """

    propagation: Propagation
    first: bool = False
    name: str = "a propagation"

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        if self.first and ctx.first_hop is not None:
            return self.propagation.combine(of_type(ctx.first_hop, type_of(x)), x)
        return self.propagation(x, ctx.adj)


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """An opaque convolution, run as it is on the batch's `edge_index`.

    Attributes:
        module: the convolution.
        index: its place in the model; enters the seed of its own randomness.
        declared: its reach, where the block declares one.
        slots: whose values it takes between the rows and `edge_index` (GCNII's x_0).
        takes: what it may be given of `CARRIED`: values of edges and nodes.
        on_adjacency: the same function of rows and adjacency by a kernel, where there is one.
    """

    module: nn.Module
    index: int
    declared: int | None = None
    slots: tuple[str, ...] = ()
    takes: frozenset[str] = CARRIED
    on_adjacency: Callable[[Tensor, Adjacency], Tensor] | None = None

    @property
    def hops(self) -> int:
        """The reach that the block declares, else the registry's, else 1."""
        return self.declared or reach_of(self.module) or 1

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        adj = ctx.adj
        if self.on_adjacency is not None:
            return self.on_adjacency(densify(x), adj)
        beside = [densify(ctx.slots[slot]) for slot in self.slots]
        edge_index, carried = ctx.edges(self.given)
        if not ctx.training or ctx.seed is None:
            return self.run(x, edge_index, carried, beside)
        devices = [adj.device] if adj.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            seed = hash((ctx.seed, ctx.epoch, ctx.step, self.index))
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed(seed)
            return self.run(x, edge_index, carried, beside)

    @functools.cached_property
    def taken(self) -> Taken:
        """What the module is given of `CARRIED`, and how."""
        return taken_by(self.module, len(self.slots)).among(self.takes)

    @property
    def given(self) -> frozenset[str]:
        """What the module is given of `CARRIED` where it is there."""
        return frozenset(self.taken.names)

    def run(
        self,
        x: Features,
        edge_index: Tensor,
        carried: Mapping[str, Tensor],
        beside: Sequence[Tensor] = (),
    ) -> Tensor:
        """As `run_as_it_is`, padded where the module fails on some pieces."""
        if not takes_padded(self.module):
            return self.run_as_it_is(x, edge_index, carried, beside)
        rows, edge_index, values = padded([densify(x), *beside], edge_index, carried)
        return without_padding(self.run_as_it_is(rows[0], edge_index, values, rows[1:]))

    def run_as_it_is(
        self,
        x: Features,
        edge_index: Tensor,
        carried: Mapping[str, Tensor],
        beside: Sequence[Tensor] = (),
    ) -> Tensor:
        """Call the module with the slots' values and what it takes of edges' and nodes' values.

        Args:
            x: `[num_nodes, in_channels]`.
            edge_index: int64 `[2, num_edges]`.
            carried: by names of `CARRIED`, those that are there: values of these edges and nodes.
            beside: the slots' values.

        Raises:
            InputError: something that it needs is not there, it cannot run on what it is given, or
                does not return one row a node.
        """
        x = densify(x)
        if faults := lacking(self, carried):
            raise InputError(faults)
        args, named = self.taken.arguments(x, carried)
        try:
            out = self.module(x, *beside, edge_index, *args, **named)
        except (GnnscaleError, torch.OutOfMemoryError):
            raise
        except _OF_A_LAYER as error:
            given = [name for name in sorted(carried) if self.taken.fits(name, carried[name])]
            raise InputError(
                f"{type(self.module).__name__} cannot take {x.size(1)} channels of {x.size(0)} "
                f"nodes and {edge_index.size(1)} edges, given {', '.join(given) or 'nothing else'}"
                f": {type(error).__name__}{f': {error}' if str(error) else ''}"
            ) from error
        if not isinstance(out, Tensor) or out.size(0) != x.shape[0]:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"{type(self.module).__name__} returned {shape} for {x.shape[0]} nodes; a "
                "convolution returns one row per node"
            )
        return out


# What layers of PyG, of torch and of users raise where they cannot run.
_OF_A_LAYER = (
    *(AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(ArithmeticError, ImportError),
)

_REMEDIES = {
    "edge_weight": "give edge_weight=",
    "edge_attr": "give edge_attr=, or a layer that is not built for it",
    "edge_type": "give edge_type=, as the Data of PyG's to_homogeneous() has it",
    "node_type": "give node_type=, as the Data of PyG's to_homogeneous() has it",
}


def lacking(phase: Neighbourhood, there: Iterable[str]) -> list[str]:
    """In words, what a convolution needs and is not there. A batch vector can be made up."""
    missing = phase.taken.needs - frozenset(there) - {"batch"}
    name = type(phase.module).__name__
    return [
        f"{name} needs {value}, and the graph has none: {_REMEDIES[value]}"
        for value in sorted(missing)
    ]


@dataclass(frozen=True)
class Save:
    """Keep the current values in a slot."""

    slot: str

    def __call__(self, x: Features, ctx: Context) -> Features:
        ctx.slots[self.slot] = x
        return x


@dataclass(frozen=True, eq=False)
class Join:
    """A row-local function of slots' values and the current ones.

    A residual connection, GCNII's initial residual, jumping knowledge.

    Attributes:
        function: takes the slots' values in order, then the current ones.
        slots: their names.
    """

    function: Callable[..., Tensor]
    slots: tuple[str, ...]

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        return self.function(*(densify(ctx.slots[slot]) for slot in self.slots), densify(x))


def concatenate(*values: Tensor) -> Tensor:
    """Values of the same rows side by side."""
    return torch.cat(values, dim=1)


def maximum(*values: Tensor) -> Tensor:
    """The greatest of values of the same rows."""
    return functools.reduce(torch.maximum, values)


@dataclass(frozen=True)
class Collect:
    """Join the current values into a slot: jumping knowledge as a running cat or max.

    Attributes:
        slot: the slot.
        mode: "cat" or "max".
        first: whether this phase begins the slot.
    """

    slot: str
    mode: Literal["cat", "max"]
    first: bool

    def __call__(self, x: Features, ctx: Context) -> Features:
        x = densify(x)
        if self.first:
            ctx.slots[self.slot] = x
        else:
            join = concatenate if self.mode == "cat" else maximum
            ctx.slots[self.slot] = join(densify(ctx.slots[self.slot]), x)
        return x


@dataclass(frozen=True)
class Read:
    """Go on with a slot's values."""

    slot: str

    def __call__(self, x: Features, ctx: Context) -> Tensor:
        return densify(ctx.slots[self.slot])


Phase = Rows | Dropout | Statistics | Propagate | Neighbourhood | Save | Join | Collect | Read


def opaque_of(phases: Iterable[Iterable[object]]) -> list[Neighbourhood]:
    """The opaque convolutions among the phases of a model's blocks."""
    return [phase for block in phases for phase in block if isinstance(phase, Neighbourhood)]


def slots_of(phase: object) -> tuple[str, ...]:
    """The slots that a phase reads or writes."""
    if isinstance(phase, Save | Collect | Read):
        return (phase.slot,)
    return phase.slots if isinstance(phase, Join | Neighbourhood) else ()


def is_activation(module: Any) -> bool:
    """Whether a module is a known activation with no one watching, that fusing runs or replaces."""
    kind = module.function if isinstance(module, Call) else type(module)
    # A ReLU is replaced; another would write over its input.
    sound = kind is nn.ReLU or (kind in _ACTIVATIONS and not works_in_place(module))
    return sound and not is_intercepted(module)


def fuse(phases: list[Any]) -> list[Any]:
    """Join every activation with the dropout that follows it: fewer passes and arrays."""
    fused: list[Any] = []
    for phase in phases:
        before = fused[-1] if fused else None
        if isinstance(phase, Dropout) and isinstance(before, Rows) and is_activation(before.module):
            fused[-1] = Dropout(phase.module, phase.stream, act=before.module)
        else:
            fused.append(phase)
    return fused

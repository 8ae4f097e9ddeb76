"""Operations: what a block does, in order, and how it reads as phases.

A model and each of its pipeline stages number phases by the place of their block in the model, so
that the dropouts of a block, its slots and the seeds of its opaque convolutions are the same in
either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import nn
from torch_geometric.nn import conv as pyg

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.phases import (
    Collect,
    Dropout,
    Join,
    Neighbourhood,
    Phase,
    Propagate,
    Read,
    Rows,
    Save,
    Statistics,
    fuse,
)
from gnnscale.nn.convs.networks import is_norm, row_modules
from gnnscale.nn.convs.propagation import is_convolution, propagation_of
from gnnscale.nn.convs.pyg_convs import sage_by_extremum
from gnnscale.nn.convs.taken import CARRIED, taken_by
from gnnscale.nn.modules import is_intercepted, parameters, required
from gnnscale.nn.norms import statistics


class Apply(NamedTuple):
    """A module that a block runs.

    Attributes:
        module: a convolution or a row-local module.
        slots: for a convolution: whose values it takes after x.
        takes: for a convolution: what it may be given of `CARRIED`.
        hops: for a convolution: the reach that the block declares.
        is_norm: whether the block takes it for a norm: one of the user's own may read all rows.
    """

    module: nn.Module
    slots: tuple[str, ...] = ()
    takes: frozenset[str] = CARRIED
    hops: int | None = None
    is_norm: bool = False


Operation = Apply | Save | Read | Join


def phases_of(operations: Sequence[Operation], index: int) -> list[Phase]:
    """The phases of a block's operations; `index`, the block's place, numbers its dropouts."""
    streams = iter(range(index * 64, (index + 1) * 64))
    phases: list[Phase] = []
    for operation in operations:
        if not isinstance(operation, Apply):
            phases.append(operation)
            continue
        _refuse_dictionaries(operation.module)
        if is_convolution(operation.module):
            phases += _convolution_phases(operation, index, streams)
        elif operation.is_norm and row_modules(operation.module) == [operation.module]:
            phases.append(norm_phase(operation.module))
        else:
            phases += row_phases(operation.module, streams)
    return fuse(phases)


def _convolution_phases(operation: Apply, index: int, streams: Iterator[int]) -> list[Phase]:
    """A convolution as propagation and rows where it reads as one, else as it is.

    Raises:
        InputError: it takes another number of values beside x.
        UnsupportedModel: it cannot run on one graph's rows and edges alone.
    """
    conv, slots, takes, hops, _ = operation
    _check_signature(conv, slots)
    propagation = propagation_of(conv)
    if propagation is None:
        if getattr(conv, "cached", False):
            raise UnsupportedModel(
                f"{type(conv).__name__}(cached=True) keeps the first graph it sees for all that "
                "follow; give cached=False"
            )
        return [Neighbourhood(conv, index, hops, slots, takes, sage_by_extremum(conv))]
    if "edge_weight" not in takes:
        propagation = propagation.unweighted()
    phases: list[Phase] = [Propagate(propagation, index == 0, type(conv).__name__)]
    if propagation.join is not None:
        phases.append(Join(propagation.join, slots))
    for module in propagation.then:
        phases += row_phases(module, streams)
    return phases


def row_phases(module: nn.Module, streams: Iterator[int]) -> list[Phase]:
    """A row-local network as phases, its norms and dropouts apart.

    Raises:
        UnsupportedModel: a norm is hidden inside a module that cannot be taken apart.
    """
    modules = row_modules(module)
    if modules is None:
        raise UnsupportedModel(
            f"{type(module).__name__} holds a norm that cannot be separated from it; write it as "
            "nn.Sequential or torch_geometric.nn.MLP, or as blocks of its own"
        )
    phases: list[Phase] = []
    for own in modules:
        if type(own) is nn.Dropout and not is_intercepted(own):
            phases.append(Dropout(own, next(streams)))
        elif is_norm(own):
            phases.append(norm_phase(own))
        elif not isinstance(own, nn.Identity):
            phases.append(Rows(own))
    return phases


def norm_phase(norm: nn.Module) -> Phase:
    """A norm as a phase: row-local where it is, else a reduction and a row-local map."""
    return Rows(norm) if statistics.is_row_local(norm) else Statistics(norm)


def _refuse_dictionaries(module: nn.Module) -> None:
    """Refuse layers of heterogeneous graphs.

    Raises:
        UnsupportedModel: it takes dictionaries by type.
    """
    if any(name.endswith("_dict") for name in parameters(module)):
        raise UnsupportedModel(
            f"{type(module).__name__} takes dictionaries by node and edge type; blocks see one "
            "node space: convert the data with to_homogeneous(), whose edge_type and node_type go "
            "to layers that take them (RGCNConv, RGATConv, FiLMConv, HEATConv)"
        )


def _check_signature(conv: nn.Module, slots: tuple[str, ...]) -> None:
    """Compare what `forward` asks for with x, the slots, `edge_index` and edge values."""
    name, names, needed = type(conv).__name__, list(parameters(conv)), required(conv)
    if "edge_index" in names:
        beside = names[1 : names.index("edge_index")]
    elif isinstance(conv, pyg.MessagePassing) and len(needed) == 1:
        raise UnsupportedModel(
            f"{name} takes no edge_index: it finds neighbours among all rows by itself, which "
            "neither batches nor chunks hold"
        )
    else:
        beside = names[1 : 1 + len(slots)]  # a user's own names
    if len(beside) != len(slots):
        given = f"the slots {list(slots)} are given" if slots else "no slot is given"
        raise InputError(
            f"{name} takes {beside or 'nothing'} beside x, and {given}: keep a block's output with "
            "Block(…, saves='x0') and give it with Block(conv, reads='x0')"
        )
    missing = needed[len(slots) + 2 :]
    if missing:
        carried = taken_by(conv, len(slots)).names.values()
        missing = [name for name in missing if name not in carried]
    if missing:
        raise UnsupportedModel(
            f"{name} needs {', '.join(missing)} beside edge_index; a graph carries "
            f"{', '.join(sorted(CARRIED))}"
        )


_JOINED = "jumping_knowledge"


def block_phases(blocks: Iterable[tuple[int, Any]], jk: Any) -> list[list[Phase]]:
    """The phases of some blocks.

    Args:
        blocks: each with its place in the model.
        jk: how the model joins the outputs of its blocks, "cat" or "max", or None.
    """
    phases = []
    for index, block in blocks:
        own = block.phases(index)
        phases.append(own if jk is None else [*own, Collect(_JOINED, jk, first=index == 0)])
    return phases


def head_phases(head: nn.Module | None, num_blocks: int, jk: object) -> list[Phase]:
    """The phases of the head of a model with so many blocks."""
    phases: list[Phase] = [] if jk is None else [Read(_JOINED)]
    if head is not None:
        first = num_blocks * 64
        phases += row_phases(head, iter(range(first, first + 64)))
    return fuse(phases)


def state_of(parts: Iterable[nn.Module | None]) -> tuple[Any, ...]:
    """What phases depend on: they refer to the modules and the parameters themselves.

    It changes when hooks come or go and when a module or a parameter is replaced, as
    `load_state_dict(assign=True)` does.
    """
    modules = [module for part in parts if part is not None for module in part.modules()]
    return (
        modules,
        [is_intercepted(module) for module in modules],
        # A lazy parameter stays the same object, and changes its class.
        [(id(p), type(p)) for module in modules for p in module._parameters.values()],
        [module.p > 0 for module in modules if isinstance(module, nn.Dropout)],
    )

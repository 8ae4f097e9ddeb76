"""Steps: the modules of a block in the order they run, and how each reads as phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import nn
from torch_geometric.nn import conv as pyg

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.context import CARRIED
from gnnscale.nn.blocks.phases import (
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
from gnnscale.nn.convs.propagation import is_intercepted
from gnnscale.nn.convs.pyg_convs import is_norm, row_modules, sage_by_extremum
from gnnscale.nn.convs.registry import propagation_of
from gnnscale.nn.convs.signature import is_convolution, parameters, required
from gnnscale.nn.convs.taken import taken_by
from gnnscale.nn.norms import statistics


class Step(NamedTuple):
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


AnyStep = Step | Save | Read | Join


def phases_of(steps: Sequence[AnyStep], index: int) -> list[Phase]:
    """The phases of a block's steps; `index`, the block's place, numbers its dropouts."""
    streams = iter(range(index * 64, (index + 1) * 64))
    phases: list[Phase] = []
    for step in steps:
        if not isinstance(step, Step):
            phases.append(step)
            continue
        _refuse_dictionaries(step.module)
        if is_convolution(step.module):
            phases += _convolution_phases(step, index, streams)
        elif step.is_norm and row_modules(step.module) == [step.module]:
            phases.append(norm_phase(step.module))
        else:
            phases += row_phases(step.module, streams)
    return fuse(phases)


def _convolution_phases(step: Step, index: int, streams: Iterator[int]) -> list[Phase]:
    """A convolution as propagation and rows where it reads as one, else as it is.

    Raises:
        InputError: it takes another number of values beside x.
        UnsupportedModel: it cannot run on one graph's rows and edges alone.
    """
    conv, slots, takes, hops, _ = step
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
    steps = row_modules(module)
    if steps is None:
        raise UnsupportedModel(
            f"{type(module).__name__} holds a norm that cannot be separated from it; write it as "
            "nn.Sequential or torch_geometric.nn.MLP, or as blocks of its own"
        )
    phases: list[Phase] = []
    for step in steps:
        if type(step) is nn.Dropout and not is_intercepted(step):
            phases.append(Dropout(step, next(streams)))
        elif is_norm(step):
            phases.append(norm_phase(step))
        elif not isinstance(step, nn.Identity):
            phases.append(Rows(step))
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
    carried = taken_by(conv, len(slots)).names.values()
    missing = [name for name in needed[len(slots) + 2 :] if name not in carried]
    if missing:
        raise UnsupportedModel(
            f"{name} needs {', '.join(missing)} beside edge_index; a graph carries "
            f"{', '.join(sorted(CARRIED))}"
        )

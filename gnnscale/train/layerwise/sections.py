"""Sections: a model cut before every convolution, into what is trained alone.

A section is a convolution and the row-local phases behind it, up to the next convolution. Whatever
it aggregates is fixed while it is trained, so that a fixed propagation is made once and the rest is
a perceptron on rows (You et al., CVPR 2020, section 3.1). The cut is at convolutions, not at
blocks: a norm that stands before a convolution ("norm-act-dropout-conv") has parameters, and is
trained with what comes before it.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Sequence, Set, ValuesView
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from gnnscale.errors import UnsupportedModel
from gnnscale.nn import Context, LayeredGNN, Propagation
from gnnscale.nn.blocks.phases import (
    Collect,
    Dropout,
    Features,
    Join,
    Neighbourhood,
    Phase,
    Propagate,
    Save,
    Statistics,
    slots_of,
)

# The slot of the rows that a section reads, where it needs them beside the aggregated ones.
INPUT = "layer input"


class Combine(Join):
    """What a propagation leaves to do once it has aggregated: transform, bias, root."""

    def __init__(self, propagation: Propagation) -> None:
        rooted = propagation.root is not None
        super().__init__(functools.partial(_combine, propagation), (INPUT,) if rooted else ())

    @override
    def __call__(self, x: Features, ctx: Context) -> Tensor:
        # Unlike other joins it takes sparse rows as they are.
        return self.function(*(ctx.slots[slot] for slot in self.slots), x)


def _combine(propagation: Propagation, *x: Features) -> Tensor:
    return propagation.combine(x[-1], x[0])


@dataclass(eq=False)
class Section:
    """A part of a model that is trained alone.

    Attributes:
        index: its place among the sections.
        source: its convolution; None for row-local phases that come before the first one.
        before: what the model does with the rows on the way to that convolution: `Save` and
            `Dropout`, without parameters.
        after: what follows: row-local phases and norms.
        parameters: those of its phases, by their names in the model.
        modules: the model's modules that hold them, or run in it.
        last: whether no later section has parameters: what it gives is the model's output.
    """

    index: int
    source: Propagate | Neighbourhood | None = None
    before: list[Phase] = field(default_factory=list)
    after: list[Phase] = field(default_factory=list)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    modules: list[nn.Module] = field(default_factory=list)
    last: bool = False

    def train(self) -> None:
        """Put its modules into training mode, and no others."""
        for module in self.modules:
            module.training = True

    @property
    def phases(self) -> list[Phase]:
        """All of it, as it stands in the model."""
        return [*self.before, *([] if self.source is None else [self.source]), *self.after]

    @property
    def is_separable(self) -> bool:
        """Whether what it aggregates can be made once, apart from what is trained."""
        return not isinstance(self.source, Neighbourhood)

    @functools.cached_property
    def row_phases(self) -> list[Phase | Combine]:
        """The section on aggregated rows.

        Dropout that stands before the propagation is applied behind it: what is aggregated is
        fixed.
        """
        dropouts = [phase for phase in self.before if isinstance(phase, Dropout)]
        if not isinstance(self.source, Propagate):
            return [*dropouts, *self.after]
        return [*dropouts, Combine(self.source.propagation), *self.after]

    @functools.cached_property
    def input_slots(self) -> set[str]:
        """The slots that hold the rows which the section reads, before they are aggregated."""
        saved = {phase.slot for phase in self.before if isinstance(phase, Save)}
        rooted = isinstance(self.source, Propagate) and self.source.propagation.root is not None
        return saved | ({INPUT} if rooted else set())

    @functools.cached_property
    def trained_phases(self) -> list[Phase | Combine]:
        """Of `row_phases`, or of `phases` where it is opaque, what its output depends on."""
        phases = self.row_phases
        if not self.is_separable:
            phases = [p for p in self.phases if not isinstance(p, Save) or p not in self.before]
        needed: set[str] = set()
        kept = []
        for phase in reversed(phases):
            if isinstance(phase, Save | Collect) and phase.slot not in needed:
                continue
            needed |= set(slots_of(phase))
            kept.append(phase)
        return kept[::-1]

    @property
    def norms_over_rows(self) -> list[Statistics]:
        """The norms that take statistics over all rows in evaluation."""
        norms = [phase for phase in self.after if isinstance(phase, Statistics)]
        return [norm for norm in norms if not norm.row_local_in_evaluation]

    @functools.cached_property
    def slots_read(self) -> set[str]:
        """The slots that its training reads."""
        return {slot for phase in self.trained_phases for slot in slots_of(phase)}

    @functools.cached_property
    def earlier_slots(self) -> set[str]:
        """The slots of earlier sections that its training reads."""
        read: set[str] = set()
        written = set(self.input_slots)
        for phase in self.trained_phases:
            begins = isinstance(phase, Save) or (isinstance(phase, Collect) and phase.first)
            read |= set() if begins else set(slots_of(phase)) - written
            written |= set(slots_of(phase)) if isinstance(phase, Save | Collect) else set()
        return read


def sections_of(model: LayeredGNN) -> list[Section]:
    """Cut a model into sections.

    Raises:
        UnsupportedModel: two sections share a parameter, or a parameter is in none of them.
    """
    sections = [Section(0)]
    for phase in (phase for block in model.phases for phase in block):
        if isinstance(phase, Propagate | Neighbourhood):
            sections.append(Section(len(sections), phase))
        else:
            sections[-1].after.append(phase)
    first = sections[0]
    if len(sections) > 1 and all(map(_passes_rows_on, first.after)):
        sections[1].before = first.after
        sections = sections[1:]
    names = {id(p): name for name, p in model.named_parameters()}
    modules = {id(module): module for module in model.modules()}
    owner: dict[str, int] = {}
    for index, section in enumerate(sections):
        section.index = index
        for part in _parts(section.phases, set()):
            if id(part) in modules:
                section.modules.append(part)
            if id(part) not in names:
                continue
            name = names[id(part)]
            if owner.setdefault(name, index) != index:
                raise UnsupportedModel(
                    f"the parameter {name} is used in layers {owner[name] + 1} and {index + 1}: "
                    "layer-wise training freezes one before it trains the other. Give each its own"
                )
            section.parameters[name] = part
    if lost := [name for name in names.values() if name not in owner]:
        raise UnsupportedModel(
            f"no layer reads the parameters {', '.join(lost)}: layer-wise training cannot tell "
            "with which layer to train them"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnsupportedModel("the model has no parameters that require gradients")
    # Frozen ones count: what stands before them gives rows, not the model's outputs.
    for section in sections[max(owner.values()) :]:
        section.last = True
    return sections


def _passes_rows_on(phase: Phase) -> bool:
    """Whether a phase leaves rows as they are in evaluation."""
    return isinstance(phase, Save) or (isinstance(phase, Dropout) and phase.act is None)


def _parts(value: object, seen: set[int]) -> Iterator[Any]:
    """Every module and parameter that a phase, or a function in it, refers to."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, functools.partial):
        value = (value.func, value.args, value.keywords)
    if isinstance(value, Sequence | Set | ValuesView) and not isinstance(value, str | bytes):
        for item in value:
            yield from _parts(item, seen)
        return
    if id(value) in seen or isinstance(value, type | types.ModuleType):
        return
    seen.add(id(value))
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.modules()
        yield from value.parameters()
    elif isinstance(value, types.FunctionType):
        yield from _parts([cell.cell_contents for cell in value.__closure__ or ()], seen)
    elif isinstance(value, types.MethodType):
        yield from _parts(value.__self__, seen)
    else:
        yield from _parts(getattr(value, "__dict__", {}), seen)

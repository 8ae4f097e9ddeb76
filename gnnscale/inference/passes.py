"""Passes: a model's phases, grouped into what one walk over the rows of the graph can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from gnnscale.nn.blocks.phases import Collect, Dropout, Neighbourhood, Propagate, Save, Statistics
from gnnscale.nn.norms import statistics


@dataclass
class Pass:
    """What happens between one stored layer and the next."""

    source: Propagate | Neighbourhood | Statistics | None = None
    rows: list[Any] = field(default_factory=list)
    moments_for: nn.Module | None = None  # the norm whose statistics are gathered on the way
    whole: Statistics | None = None  # a norm without a protocol, applied to the layer at once

    @property
    def row_local(self) -> bool:
        return self.source is None or isinstance(self.source, Statistics)

    @property
    def changes_rows(self) -> bool:
        """Whether there is a new layer to store, not only slots and moments to keep."""
        return self.source is not None or any(not isinstance(p, Save | Collect) for p in self.rows)


def plan_passes(phases: list[list[Any]]) -> list[Pass]:
    """Group a model's phases into passes over the rows."""
    passes = [Pass()]
    for phase in (phase for block in phases for phase in block):
        if isinstance(phase, Propagate | Neighbourhood):
            passes.append(Pass(source=phase))
        elif isinstance(phase, Statistics) and not phase.row_local_in_evaluation:
            if statistics.mergeable(phase.norm):
                passes[-1].moments_for = phase.norm
                passes.append(Pass(source=phase))
            else:
                passes[-1].whole = phase
                passes.append(Pass())
        elif not isinstance(phase, Dropout) or phase.act:  # dropout alone does nothing here
            passes[-1].rows.append(phase)
    needed = [p for p in passes[:-1] if p.source or p.rows or p.moments_for or p.whole]
    return [*needed, passes[-1]]

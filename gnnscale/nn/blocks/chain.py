"""Chain: a block read off another model, its steps in the order in which they stood there."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from gnnscale.nn.blocks.phases import Phase, Save
from gnnscale.nn.blocks.steps import AnyStep, Step, phases_of
from gnnscale.nn.blocks.widths import channels, keeps_width
from gnnscale.nn.convs.signature import is_convolution


class Chain(nn.Module):
    """Steps one after another, at most one of them a convolution.

    Args:
        steps: the steps.
    """

    def __init__(self, steps: Sequence[AnyStep]) -> None:
        super().__init__()
        self._steps = list(steps)
        parts = [
            step.module if isinstance(step, Step) else getattr(step, "function", None)
            for step in steps
        ]
        self.layers = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    @property
    def in_channels(self) -> int | None:
        """The width of the first step that says its own, or None where one before may change it."""
        for step in self._steps:
            if isinstance(step, Save):
                continue
            if not isinstance(step, Step):
                return None
            width = channels(step.module, "in")
            if width is not None or is_convolution(step.module) or not keeps_width(step.module):
                return width
        return None

    def rewritten(self, steps: Sequence[AnyStep], layers: Sequence[nn.Module]) -> Chain:
        """A chain of other steps; `layers`: its modules, at the indices that their keys have."""
        twin = Chain(steps)
        twin.layers = nn.ModuleList(layers)
        twin.training = twin.layers.training = self.training  # each layer stays in its own mode
        return twin

    def steps(self, index: int) -> list[AnyStep]:
        """What the block runs, in order."""
        return self._steps

    def phases(self, index: int) -> list[Phase]:
        """The block as phases; `index`, its place in the model, numbers its dropouts."""
        return phases_of(self._steps, index)

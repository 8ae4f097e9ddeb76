"""The phases of a model's blocks, numbered by their place in the model, and when they are stale.

A model and each of its pipeline stages read their phases here, so that the dropouts of a block, its
slots and the seeds of its opaque convolutions are the same in either.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from gnnscale.nn.blocks.phases import Collect, Phase, Read, fuse
from gnnscale.nn.blocks.steps import row_phases
from gnnscale.nn.convs.propagation import is_intercepted

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


def head_phases(head: nn.Module | None, num_blocks: int, jk: Any) -> list[Phase]:
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

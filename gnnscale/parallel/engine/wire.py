"""The wire: what travels between the processes of a pipeline, between which, in which order.

All of it follows from the schedule and the stages, so nothing is negotiated while a step runs.
Every message has the rows of its micro-batch and no padding: both ends put the batch together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.errors import GnnscaleError
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.nn.modules import evaluation_mode
from gnnscale.parallel.engine.passes import Computation, Values
from gnnscale.parallel.schedules import Action, Schedule
from gnnscale.parallel.stages import Stage


class Packet(NamedTuple):
    """One value that crosses a boundary.

    Attributes:
        name: "x" or a slot.
        channels: its width.
        dtype: its type; half precision under autocast.
        has_gradient: whether its gradient comes back.
    """

    name: str
    channels: int
    dtype: torch.dtype
    has_gradient: bool


def packets(
    stages: Sequence[Stage], sample: Batch, computation: Computation
) -> list[tuple[Packet, ...]]:
    """What leaves every stage but the last, found by running them all once on a batch.

    In evaluation mode, so that running statistics stay as they are; under the autocast of training.
    """
    found = []
    given: Mapping[str, Tensor | CSR | None] = {"x": sample.x}
    with torch.no_grad():
        for stage in stages[:-1]:
            context = computation.context(sample)
            context.training = False
            with evaluation_mode(stage), computation.autocast():
                values: Values = stage(given, context)
            found.append(
                tuple(
                    Packet(name, value.size(1), value.dtype, name in stage.receives_gradients_for)
                    for name, value in values.items()
                )
            )
            given = values
    return found


def messages(schedule: Schedule, source: int, target: int) -> list[Action]:
    """The actions of one device that another needs, in the order in which they are run."""
    found = []
    for action in schedule.table[source]:
        reader = schedule.reader_of(action)
        if reader is not None and schedule.placement[reader.stage] == target:
            found.append(action)
    return found


def links(schedule: Schedule) -> list[tuple[int, int]]:
    """The pairs of devices between which messages go, with their direction."""
    pairs = set()
    for one in range(schedule.stages - 1):
        here, there = schedule.placement[one], schedule.placement[one + 1]
        if here != there:
            pairs |= {(here, there), (there, here)}
    return sorted(pairs)


def travelling(action: Action, crossing: Sequence[tuple[Packet, ...]]) -> tuple[Packet, ...]:
    """What an action sends: its stage's values forwards, else gradients of what it received."""
    if action.kind == "forward":
        return crossing[action.stage]
    return tuple(packet for packet in crossing[action.stage - 1] if packet.has_gradient)


def as_agreed(
    action: Action, values: Values, expected: Sequence[Packet], rows: int
) -> list[Tensor]:
    """The values of a message in order, contiguous.

    Raises:
        GnnscaleError: they are not what the other end expects; it would read past them.
    """
    sent = []
    for packet in expected:
        value = values[packet.name].detach()
        if tuple(value.shape) != (rows, packet.channels) or value.dtype != packet.dtype:
            raise GnnscaleError(
                f"{action} makes {packet.name!r} as {list(value.shape)} {value.dtype}, where a "
                f"sample batch had [{rows}, {packet.channels}] {packet.dtype}: a stage's output "
                "may not change its width or type from batch to batch"
            )
        sent.append(value.contiguous())
    return sent

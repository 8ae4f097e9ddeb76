"""What a `PipelineTrainer` is told, and the layout that follows: stages, devices, pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Schedule, make_schedule
from gnnscale.parallel.stages import stage_faults
from gnnscale.train.options import PipelineOptions
from gnnscale.train.setup import choose_device

_CHUNKS = {"gpipe": 1, "1f1b": 1, "interleaved": 2, "zbv": 2}  # stages a device, unless told


class Layout(NamedTuple):
    """How a model is spread.

    Attributes:
        cuts: where it is cut, or None where that is still to be found.
        schedule: of a full step.
        pipelines: how many there are beside each other: data parallelism.
    """

    cuts: list[int] | None
    schedule: Schedule
    pipelines: int


def layout_of(options: PipelineOptions, num_blocks: int, ranks: int) -> Layout:
    """Read what a trainer is told of its pipeline.

    Args:
        options: the trainer's.
        num_blocks: of the model.
        ranks: processes that train together.

    Raises:
        InputError: listing every fault found.
    """
    schedule, given = options.schedule, options.devices
    faults = stage_faults(options.stages, num_blocks)
    names = list(given) if isinstance(given, list | tuple) else None
    count = None if names is not None else given
    if given is not None and not (names or _is_whole(count)):
        faults.append(f"devices={given!r} must be a number from 1 on, a list of devices or None")
    elif names is not None and ranks > 1:
        faults.append(
            f"devices={names!r}: under torchrun every rank has its own device; give how many make "
            "a pipeline, or None"
        )
    if faults:
        raise InputError(faults)
    width = count if isinstance(count, int) else None
    if names is not None and len(names) > 1:
        width = len(names)
    chunks = _CHUNKS[schedule]
    if isinstance(options.stages, str):
        width = width or (ranks if ranks > 1 else max(1, torch.cuda.device_count()))
        stages, cuts = min(num_blocks // chunks * chunks, width * chunks) or 1, None
    elif isinstance(options.stages, int):
        stages, cuts = options.stages, None
    else:
        cuts = list(options.stages)
        stages = len(cuts) + 1
    if stages == 1:
        cuts = []
    found = make_schedule(
        schedule, width or max(1, stages // chunks), options.micro_batches, stages
    )
    if ranks > 1 and ranks % found.devices:
        raise InputError(
            f"{ranks} ranks make no pipelines of {found.devices} devices each: start a multiple of "
            f"{found.devices} with torchrun, or one process alone"
        )
    if schedule == "zbv" and ranks > found.devices:
        raise InputError(
            f"schedule 'zbv' is experimental and not combined with data parallelism: {ranks} ranks "
            f"would make {ranks // found.devices} pipelines; start {found.devices}, or take '1f1b'"
        )
    return Layout(cuts, found, max(1, ranks // found.devices))


def local_devices(
    devices: int | Sequence[str] | None, schedule: Schedule, own: torch.device
) -> list[torch.device]:
    """The devices of a pipeline in one process: one a row of its schedule, or a single one.

    Args:
        devices: as `PipelineTrainer` takes them.
        schedule: of a full step.
        own: the process's device, which is taken where it is no GPU or there are not enough.
    """
    if isinstance(devices, Sequence):
        return [choose_device(name) for name in devices]
    if own.type == "cuda" and torch.cuda.device_count() >= schedule.devices > 1:
        return [torch.device("cuda", number) for number in range(schedule.devices)]
    return [own]


def first_of(schedule: Schedule, micro_batches: int) -> Schedule:
    """A schedule without the micro-batches that an epoch's last step lacks.

    What is left keeps its order, and nothing needs another micro-batch: it runs as the whole does.
    """
    table = tuple(
        tuple(action for action in row if action.micro_batch < micro_batches)
        for row in schedule.table
    )
    return replace(schedule, micro_batches=micro_batches, table=table)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

"""What a `PipelineTrainer` is told, and the layout that follows: stages, devices, pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Schedule, make_schedule
from gnnscale.parallel.stages import stage_faults
from gnnscale.parallel.tables import ROWS
from gnnscale.train.config import ClusterConfig
from gnnscale.train.device import choose_device

_CHUNKS = {"gpipe": 1, "1f1b": 1, "interleaved": 2, "zbv": 2}  # stages a device, unless told


@dataclass(frozen=True)
class PipelineConfig(ClusterConfig):
    """What a `PipelineTrainer` is told besides."""

    stages: int | str | list[int] = 2
    schedule: str = "1f1b"
    micro_batches: int = 8
    devices: int | list[str] | None = None
    order: str = "drawn"


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


def layout_of(
    stages: Any, schedule: Any, micro_batches: Any, devices: Any, num_blocks: int, ranks: int
) -> Layout:
    """Read what a trainer is told of its pipeline.

    Args:
        stages: "auto" for as many as the devices take, how many, or cuts as `cut` takes them.
        schedule: as `make_schedule` takes it.
        micro_batches: of an optimizer step.
        devices: of a pipeline: how many, or which; None where stages and ranks tell.
        num_blocks: of the model.
        ranks: processes that train together.

    Raises:
        InputError: listing every fault found.
    """
    faults = stage_faults(stages, num_blocks)
    if not isinstance(schedule, str) or schedule not in ROWS:
        faults.append(f"schedule={schedule!r} must be one of {', '.join(ROWS)}")
    if not _is_whole(micro_batches):
        faults.append(f"micro_batches={micro_batches!r} must be a whole number from 1 on")
    named = isinstance(devices, Sequence) and not isinstance(devices, str)
    if devices is not None and not (len(devices) if named else _is_whole(devices)):
        faults.append(f"devices={devices!r} must be a number from 1 on, a list of devices or None")
    elif named and ranks > 1:
        faults.append(
            f"devices={list(devices)!r}: under torchrun every rank has its own device; give how "
            "many make a pipeline, or None"
        )
    if faults:
        raise InputError(faults)
    chunks = _CHUNKS[schedule]
    width = (len(devices) if len(devices) > 1 else None) if named else devices
    if stages == "auto":
        width = width or (ranks if ranks > 1 else max(1, torch.cuda.device_count()))
        stages = min(num_blocks // chunks * chunks, width * chunks) or 1
    count = len(stages) + 1 if isinstance(stages, Sequence) else stages
    found = make_schedule(schedule, width or max(1, count // chunks), micro_batches, count)
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
    cuts = list(stages) if isinstance(stages, Sequence) else [] if count == 1 else None
    return Layout(cuts, found, max(1, ranks // found.devices))


def local_devices(
    devices: int | Sequence[str] | None, schedule: Schedule, own: torch.device
) -> list[torch.device]:
    """The devices of a pipeline in one process: one a row of its schedule, or a single one.

    Args:
        devices: as `layout_of` takes it.
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

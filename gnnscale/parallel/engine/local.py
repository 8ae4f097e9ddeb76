"""LocalExecutor: the tables of a schedule in one process, on one or several devices.

With several devices every row of the table is a thread, and values are handed over with
`.to(device)`; the devices compute beside each other, each on its own default stream, on which a
copy waits for what it copies. With one device the rows are run in turn: the same passes in the
same order, without a thread. That is the oracle of the tests, and the fallback without `torchrun`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from gnnscale.loader import Batch
from gnnscale.parallel.engine.passes import (
    Computation,
    Recorder,
    StagePasses,
    Values,
    on_stage,
    put,
)
from gnnscale.parallel.schedules import Action, Schedule
from gnnscale.parallel.simulation.timeline import Event
from gnnscale.parallel.stages import Stage


class LocalExecutor:
    """Runs optimizer steps of a pipeline in this process.

    Args:
        stages: the stages of the model.
        schedule: a full step: which stage is in which row.
        devices: one, or one a row of the schedule; one may be there several times.
        record: keep what was run when, of the last step, in `events`. A GPU is waited for after
            every action, so that the times are its own.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        schedule: Schedule,
        devices: Sequence[torch.device],
        record: bool = False,
    ) -> None:
        self.stages = list(stages)
        self.devices = list(devices)
        self.places = [self.devices[row % len(self.devices)] for row in schedule.placement]
        self.record = record
        self.events: list[Event] = []

    def place(self) -> None:
        """Move every stage to its device."""
        for stage in self.stages:
            put(stage, self.places[stage.index])

    def run(
        self, schedule: Schedule, batches: Sequence[Batch], computation: Computation
    ) -> list[Tensor]:
        """Add the gradients of one step.

        Args:
            schedule: of as many micro-batches, with the placement of the full step.
            batches: the micro-batches, on any device.
            computation: what is computed.

        Returns:
            The sum of losses of every micro-batch, on the last stage's device.
        """
        step = _Step(self, schedule, batches, computation)
        if len(self.devices) == 1:
            for action in schedule.in_order():
                step.run(action)
        else:
            step.run_rows()
        self.events = sorted(step.recorder.events, key=lambda event: event.start)
        losses = step.passes[-1].losses
        return [losses[micro_batch] for micro_batch in range(len(batches))]


class _Step:
    """One optimizer step under way."""

    def __init__(
        self,
        executor: LocalExecutor,
        schedule: Schedule,
        batches: Sequence[Batch],
        computation: Computation,
    ) -> None:
        self.schedule = schedule
        self.devices = executor.places
        self.passes = [
            StagePasses(stage, [on_stage(batch, stage, device) for batch in batches], computation)
            for stage, device in zip(executor.stages, self.devices, strict=True)
        ]
        self.recorder = Recorder(executor.record)
        self._sent: dict[Action, Values] = {}
        self._arrival = threading.Condition()
        self._failure: BaseException | None = None

    def run_rows(self) -> None:
        """Every row in a thread of its own; the first error ends all."""

        def walk(row: Sequence[Action]) -> None:
            try:
                device = self.devices[row[0].stage] if row else torch.device("cpu")
                with torch.cuda.device(device if device.type == "cuda" else -1):
                    for action in row:
                        self.run(action)
            except BaseException as error:
                with self._arrival:
                    self._failure = self._failure or error
                    self._arrival.notify_all()

        rows = self.schedule.table
        with ThreadPoolExecutor(len(rows), thread_name_prefix="gnnscale-stage") as pool:
            list(pool.map(walk, rows))
        if self._failure is not None:
            raise self._failure

    def run(self, action: Action) -> None:
        """Run one action, once what it needs is there."""
        row, device = self.schedule.placement[action.stage], self.devices[action.stage]
        received: Values | None = None
        if (source := self.schedule.source_of(action)) is not None:
            # Detached: what is kept of this device's graph must not hold the other's.
            received = {
                name: value.detach().to(device, non_blocking=True)
                for name, value in self._take(source).items()
            }
        with self.recorder(action, row, device):
            values = self.passes[action.stage].run(action, received)
        if self.schedule.reader_of(action) is not None:
            with self._arrival:
                self._sent[action] = values
                self._arrival.notify_all()

    def _take(self, source: Action) -> Values:
        with self._arrival:
            self._arrival.wait_for(lambda: source in self._sent or self._failure is not None)
            if source not in self._sent:
                raise _Ended
            return self._sent.pop(source)


class _Ended(Exception):
    """Another thread has failed; its error is raised."""

"""Timelines: when every device of a pipeline computed what, predicted or measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.parallel.tables import Kind
from gnnscale.storage.files import atomic_write, write_json

if TYPE_CHECKING:
    from rich.table import Table


class Event(NamedTuple):
    """One computation of a device; times in seconds."""

    device: int
    kind: Kind
    stage: int
    micro_batch: int
    start: float
    end: float


class Transfer(NamedTuple):
    """One message between two devices; times in seconds.

    Attributes:
        source: the device that sends.
        target: the device that receives.
        boundary: s, for what passes between the stages s and s+1.
        forward: whether it holds activations; else gradients.
        micro_batch: whose.
        num_bytes: its size.
        start: when it began to move.
        end: when it had arrived.
    """

    source: int
    target: int
    boundary: int
    forward: bool
    micro_batch: int
    num_bytes: int
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """What happened on every device in one optimizer step; time 0 is the first event's start.

    Attributes:
        placement: the device of every stage, `[stages]`.
        events: the computations of all devices, by start.
        transfers: the messages between devices; empty where none were recorded.
        activation_bytes: int64 `[stages, micro_batches]`, what a stage holds from a forward to the
            end of its gradients; None where it is unknown.
    """

    placement: tuple[int, ...]
    events: tuple[Event, ...]
    transfers: tuple[Transfer, ...] = ()
    activation_bytes: NDArray[np.int64] | None = None

    @classmethod
    def from_events(
        cls, events: Iterable[Sequence], transfers: Iterable[Sequence] = ()
    ) -> Timeline:
        """The timeline of what an executor recorded, in any order and on any common clock.

        Args:
            events: (device, kind, stage, micro_batch, start, end) each.
            transfers: as `Transfer`.

        Raises:
            InputError: no event, one that ends before it starts, or a stage on two devices.
        """
        found = sorted((Event(*event) for event in events), key=lambda e: (e.start, e.device))
        if not found:
            raise InputError("a timeline needs at least one event; record the events of a step")
        places: dict[int, int] = {}
        faults = []
        for event in found:
            if event.end < event.start:
                faults.append(f"{event} ends before it starts")
            if places.setdefault(event.stage, event.device) != event.device:
                faults.append(f"stage {event.stage} ran on device {event.device} and on another")
        if sorted(places) != list(range(len(places))):
            faults.append(f"events of stages {sorted(places)} only; gather those of all devices")
        if faults:
            raise InputError(faults)
        zero = found[0].start
        return cls(
            tuple(places[stage] for stage in range(len(places))),
            tuple(e._replace(start=e.start - zero, end=e.end - zero) for e in found),
            tuple(
                t._replace(start=t.start - zero, end=t.end - zero)
                for t in (Transfer(*transfer) for transfer in transfers)
            ),
        )

    @property
    def num_devices(self) -> int:
        """Devices, each of which has at least one stage."""
        return max(self.placement) + 1

    @property
    def makespan(self) -> float:
        """Seconds from the first event's start to the last one's end."""
        return max(event.end for event in self.events)

    @property
    def busy(self) -> NDArray[np.float64]:
        """Seconds that every device computed, `[devices]`."""
        seconds = np.zeros(self.num_devices)
        for event in self.events:
            seconds[event.device] += event.end - event.start
        return seconds

    @property
    def bubble(self) -> float:
        """The fraction of all devices' time in which they computed nothing."""
        makespan = self.makespan
        return float(1 - self.busy.mean() / makespan) if makespan else 0.0

    @property
    def peak_activations(self) -> list[int]:
        """The most micro-batches whose activations each stage held at once, `[stages]`."""
        stages = len(self.placement)
        ones = np.ones((stages, self._micro_batches), np.int64)
        return [self._peak([stage], ones) for stage in range(stages)]

    @property
    def peak_stage_bytes(self) -> list[int] | None:
        """The most bytes of activations that each stage held at once, `[stages]`."""
        if self.activation_bytes is None:
            return None
        return [self._peak([stage], self.activation_bytes) for stage in range(len(self.placement))]

    @property
    def peak_device_bytes(self) -> list[int] | None:
        """The same of each device, over all its stages together, `[devices]`."""
        if self.activation_bytes is None:
            return None
        return [
            self._peak(self.stages_of(d), self.activation_bytes) for d in range(self.num_devices)
        ]

    @property
    def bytes_sent(self) -> NDArray[np.int64]:
        """Bytes over each boundary, forward and backward, `[stages − 1, 2]`."""
        sent = np.zeros((len(self.placement) - 1, 2), np.int64)
        for transfer in self.transfers:
            sent[transfer.boundary, 0 if transfer.forward else 1] += transfer.num_bytes
        return sent

    def stages_of(self, device: int) -> list[int]:
        """The stages that a device runs."""
        return [stage for stage, place in enumerate(self.placement) if place == device]

    @property
    def _micro_batches(self) -> int:
        return max(event.micro_batch for event in self.events) + 1

    def _peak(self, stages: list[int], size: NDArray[np.int64]) -> int:
        """The most that these stages held: from a forward's start to its last gradient's end."""
        spans: dict[tuple[int, int], list[float]] = defaultdict(list)
        for event in self.events:
            if event.stage in stages:
                spans[event.stage, event.micro_batch] += event.start, event.end
        changes = []
        for key, times in spans.items():
            changes += [(min(times), int(size[key])), (max(times), -int(size[key]))]
        held = peak = 0
        for _, change in sorted(changes):  # at equal times what is let go comes first
            held += change
            peak = max(peak, held)
        return peak

    def plot(self, path: str | Path, measured: Timeline | None = None) -> Path:
        """Draw who computed what when to a PNG; with `measured`, that below on the same scale.

        Raises:
            StoreError: the file cannot be written.
        """
        from gnnscale.parallel.simulate.gantt import draw_timelines

        drawn = {"": self} if measured is None else {"predicted": self, "measured": measured}
        with atomic_write(path) as file:
            draw_timelines(drawn, file)
        return Path(path)

    def save_trace(self, path: str | Path, measured: Timeline | None = None) -> Path:
        """Write Chrome's trace events (JSON), which Perfetto and chrome://tracing open.

        Raises:
            StoreError: the file cannot be written.
        """
        from gnnscale.parallel.simulate.trace import trace_events

        drawn = (
            {"pipeline": self} if measured is None else {"predicted": self, "measured": measured}
        )
        write_json(path, {"traceEvents": trace_events(drawn), "displayTimeUnit": "ms"})
        return Path(path)

    def table(self) -> Table:
        """What every device did: its stages, its time, its bubble, what it held and sent."""
        from gnnscale.parallel.simulate.timeline_table import timeline_table

        return timeline_table(self)

"""Timelines: when every device of a pipeline computed what, predicted or measured; drawn, too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Kind
from gnnscale.storage.files import atomic_write, write_json
from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {
    "forward": "#1f77b4",
    "backward": "#ff7f0e",
    "input_grad": "#ff7f0e",
    "weight_grad": "#2ca02c",
}
_LANE = 0.8  # of the room between two devices
_UNITS = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))  # times of few digits; how many are a second


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
        drawn = {"": self} if measured is None else {"predicted": self, "measured": measured}
        with atomic_write(path) as file:
            _draw(drawn, file)
        return Path(path)

    def save_trace(self, path: str | Path, measured: Timeline | None = None) -> Path:
        """Write Chrome's trace events (JSON), which Perfetto and chrome://tracing open.

        Raises:
            StoreError: the file cannot be written.
        """
        drawn = (
            {"pipeline": self} if measured is None else {"predicted": self, "measured": measured}
        )
        write_json(path, {"traceEvents": list(_trace(drawn)), "displayTimeUnit": "ms"})
        return Path(path)

    def table(self) -> Table:
        """What every device did: its stages, its time, its bubble, what it held and sent."""
        from rich.table import Table

        table = Table(
            title=f"{self.makespan * 1e3:.3f} ms, bubble {self.bubble:.1%}",
            caption="activations: micro-batches held at once; sent: on to the next stage and back",
        )
        for name in ("stage", "device", "busy", "device idle", "activations", "held", "sent"):
            table.add_column(name, justify="right")
        held, sent = self.peak_stage_bytes, self.bytes_sent.sum(1)
        busy = self.busy
        for stage, device in enumerate(self.placement):
            own = sum(e.end - e.start for e in self.events if e.stage == stage)
            table.add_row(
                str(stage),
                str(device),
                f"{own * 1e3:.3f} ms",
                f"{1 - busy[device] / self.makespan:.1%}" if self.makespan else "",
                str(self.peak_activations[stage]),
                "" if held is None else f"{held[stage] / 1e6:,.1f} MB",
                f"{sent[stage] / 1e6:,.1f} MB" if self.transfers and stage < len(sent) else "",
            )
        return table


def _trace(timelines: Mapping[str, Timeline]) -> Iterator[dict[str, object]]:
    """A process a timeline; in it a thread a device, and one a link that carried messages.

    Times are in microseconds ("Trace Event Format", Google).
    """
    for process, (name, timeline) in enumerate(timelines.items()):
        links = sorted({(t.source, t.target) for t in timeline.transfers})
        threads = [f"device {device}" for device in range(timeline.num_devices)]
        threads += [f"link {source} → {target}" for source, target in links]
        names = [("process_name", 0, name)]
        names += [("thread_name", thread, label) for thread, label in enumerate(threads)]
        for what, thread, label in names:
            about = {"ph": "M", "pid": process, "tid": thread}
            yield {**about, "name": what, "args": {"name": label}}
        bars: list[Event | Transfer] = [*timeline.events, *timeline.transfers]
        for event in bars:
            if isinstance(event, Event):
                thread, kind, what = event.device, str(event.kind), str(event.kind)
                told = {"stage": event.stage, "micro_batch": event.micro_batch}
            else:
                thread = timeline.num_devices + links.index((event.source, event.target))
                kind, what = "transfer", "activations" if event.forward else "gradients"
                told = {"boundary": event.boundary, "bytes": event.num_bytes}
            yield {
                "ph": "X", "pid": process, "tid": thread, "cat": kind,
                "name": f"{what} {event.micro_batch}",
                "ts": event.start * 1e6, "dur": (event.end - event.start) * 1e6, "args": told,
            }  # fmt: skip


def _draw(timelines: Mapping[str, Timeline], file: IO[bytes]) -> None:
    """Draw timelines one above the other, on one scale, to a PNG.

    Bars hold the micro-batch's number; those of a device's later stages are paler.
    """
    lanes = sum(timeline.num_devices for timeline in timelines.values())
    figure = blank_figure(11, 0.9 * len(timelines) + 0.45 * lanes)
    rows = figure.subplots(len(timelines), 1, sharex=True, squeeze=False)[:, 0]
    longest = max(timeline.makespan for timeline in timelines.values())
    factor, unit = next((u for u in _UNITS if longest * u[0] >= 1), _UNITS[-1])
    for axes, (name, timeline) in zip(rows, timelines.items(), strict=True):
        devices = range(timeline.num_devices)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_yticks(devices, [f"device {device}" for device in devices])
        axes.set_ylim(len(devices) - 0.5, -0.5)
        for event in timeline.events:
            width, chunk = event.end - event.start, timeline.stages_of(event.device)
            axes.broken_barh(
                [(event.start * factor, width * factor)],
                (event.device - _LANE / 2, _LANE),
                facecolor=_COLOURS[event.kind],
                alpha=1 / (1 + 0.6 * chunk.index(event.stage)),
                edgecolor="white",
                linewidth=0.4,
            )
            if width > 0.012 * longest:  # narrower bars have no room for two digits
                axes.text(
                    (event.start + width / 2) * factor, event.device, str(event.micro_batch),
                    ha="center", va="center", fontsize=6, clip_on=True,
                )  # fmt: skip
        figures = f"{timeline.makespan * factor:.4g} {unit}, bubble {timeline.bubble:.1%}"
        axes.set_title(f"{name}: {figures}" if name else figures, loc="left", fontsize=9)
    rows[-1].set_xlabel(unit)
    rows[-1].set_xlim(0, longest * factor or 1)
    kinds = {event.kind for timeline in timelines.values() for event in timeline.events}
    for kind in (kind for kind in _COLOURS if kind in kinds):
        rows[-1].broken_barh([], (0, 0), facecolor=_COLOURS[kind], label=kind.replace("_", " "))
    figure.legend(loc="outside lower right", ncols=len(kinds), frameon=False)
    figure.savefig(file, format="png", dpi=120)

"""Timelines as Chrome's trace events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnscale.parallel.simulate.timeline import Timeline


def trace_events(timelines: Mapping[str, Timeline]) -> list[dict[str, Any]]:
    """A process a timeline; in it a thread a device, and one a link that carried messages.

    Times are in microseconds ("Trace Event Format", Google).
    """
    return [
        event
        for process, (name, timeline) in enumerate(timelines.items())
        for event in _process(process, name, timeline)
    ]


def _process(process: int, name: str, timeline: Timeline) -> Iterable[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": name}}
    links = sorted({(t.source, t.target) for t in timeline.transfers})
    threads = [f"device {device}" for device in range(timeline.num_devices)]
    threads += [f"link {source} → {target}" for source, target in links]
    for thread, label in enumerate(threads):
        about = {"ph": "M", "pid": process, "tid": thread}
        yield {**about, "name": "thread_name", "args": {"name": label}}
    for event in timeline.events:
        yield {
            "ph": "X", "pid": process, "tid": event.device, "cat": event.kind,
            "name": f"{event.kind} {event.micro_batch}",
            "ts": event.start * 1e6, "dur": (event.end - event.start) * 1e6,
            "args": {"stage": event.stage, "micro_batch": event.micro_batch},
        }  # fmt: skip
    for transfer in timeline.transfers:
        what = "activations" if transfer.forward else "gradients"
        yield {
            "ph": "X", "pid": process, "cat": "transfer",
            "tid": timeline.num_devices + links.index((transfer.source, transfer.target)),
            "name": f"{what} {transfer.micro_batch}",
            "ts": transfer.start * 1e6, "dur": (transfer.end - transfer.start) * 1e6,
            "args": {"boundary": transfer.boundary, "bytes": transfer.num_bytes},
        }  # fmt: skip

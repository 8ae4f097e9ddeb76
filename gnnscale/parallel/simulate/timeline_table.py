"""A timeline as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gnnscale.parallel.simulate.timeline import Timeline


def timeline_table(timeline: Timeline) -> Table:
    """A row a stage: its device, its time, what it held at most and what it passed on."""
    from rich.table import Table

    table = Table(
        title=f"{timeline.makespan * 1e3:.3f} ms, bubble {timeline.bubble:.1%}",
        caption="activations: micro-batches held at once; sent: on to the next stage and back",
    )
    for name in ("stage", "device", "busy", "device idle", "activations", "held", "sent"):
        table.add_column(name, justify="right")
    held, sent = timeline.peak_stage_bytes, timeline.bytes_sent.sum(1)
    busy = timeline.busy
    for stage, device in enumerate(timeline.placement):
        own = sum(e.end - e.start for e in timeline.events if e.stage == stage)
        table.add_row(
            str(stage),
            str(device),
            f"{own * 1e3:.3f} ms",
            f"{1 - busy[device] / timeline.makespan:.1%}" if timeline.makespan else "",
            str(timeline.peak_activations[stage]),
            "" if held is None else f"{held[stage] / 1e6:,.1f} MB",
            f"{sent[stage] / 1e6:,.1f} MB" if timeline.transfers and stage < len(sent) else "",
        )
    return table

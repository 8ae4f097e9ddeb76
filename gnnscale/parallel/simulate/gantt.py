"""Timelines as pictures: a lane a device, a bar a computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from gnnscale.parallel.simulate.timeline import Timeline

_COLOURS = {
    "forward": "#1f77b4",
    "backward": "#ff7f0e",
    "input_grad": "#ff7f0e",
    "weight_grad": "#2ca02c",
}
_LANE = 0.8  # of the room between two devices


def draw_timelines(timelines: Mapping[str, Timeline], file: IO[bytes]) -> None:
    """Draw timelines one above the other, on one scale, to a PNG.

    Bars hold the micro-batch's number; those of a device's later stages are paler.
    """
    lanes = sum(timeline.num_devices for timeline in timelines.values())
    figure = blank_figure(11, 0.9 * len(timelines) + 0.45 * lanes)
    rows = figure.subplots(len(timelines), 1, sharex=True, squeeze=False)[:, 0]
    longest = max(timeline.makespan for timeline in timelines.values())
    factor, unit = _unit(longest)
    for axes, (name, timeline) in zip(rows, timelines.items(), strict=True):
        _draw(timeline, axes, factor, longest)
        figures = f"{timeline.makespan * factor:.4g} {unit}, bubble {timeline.bubble:.1%}"
        axes.set_title(f"{name}: {figures}" if name else figures, loc="left", fontsize=9)
    rows[-1].set_xlabel(unit)
    rows[-1].set_xlim(0, longest * factor or 1)
    kinds = {event.kind for timeline in timelines.values() for event in timeline.events}
    handles = [_patch(kind) for kind in _COLOURS if kind in kinds]
    figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), frameon=False)
    figure.savefig(file, format="png", dpi=120)


def _draw(timeline: Timeline, axes: Any, factor: float, longest: float) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks(
        range(timeline.num_devices), [f"device {d}" for d in range(timeline.num_devices)]
    )
    axes.set_ylim(timeline.num_devices - 0.5, -0.5)
    chunk = {
        stage: place
        for device in range(timeline.num_devices)
        for place, stage in enumerate(timeline.stages_of(device))
    }
    for event in timeline.events:
        width = event.end - event.start
        axes.broken_barh(
            [(event.start * factor, width * factor)],
            (event.device - _LANE / 2, _LANE),
            facecolor=_COLOURS[event.kind],
            alpha=1 / (1 + 0.6 * chunk[event.stage]),
            edgecolor="white",
            linewidth=0.4,
        )
        if width > 0.012 * longest:  # narrower bars have no room for two digits
            axes.text(
                (event.start + width / 2) * factor, event.device, str(event.micro_batch),
                ha="center", va="center", fontsize=6, clip_on=True,
            )  # fmt: skip


def _patch(kind: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=_COLOURS[kind], label=kind.replace("_", " "))


def _unit(seconds: float) -> tuple[float, str]:
    """The unit in which a time has few digits, and how many of it are a second."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return factor, unit
    return 1e6, "µs"

"""Runs an example and draws what it trained: `python drawing.py PICTURE LABELS EXAMPLE`."""

from __future__ import annotations

import functools
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gnnscale as gs
from gnnscale import comm

reports: list[gs.Report] = []
timelines: list[Any] = []
depth = 0  # a fine-tuning runs within the fit of another trainer


def kept(method: Callable[..., Any], results: list[Any]) -> Callable[..., Any]:
    """A method that also appends what it returns."""

    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        global depth
        depth += 1
        try:
            result = method(*args, **kwargs)
        finally:
            depth -= 1
        if depth == 0:
            results.append(result)
        return result

    return wrapper


def draw(path: Path, labels: list[str]) -> None:
    """Draw the timeline of a pipeline, the curves of one run, or several runs beside each other."""
    if timelines:
        timelines[-1].plot(path)
    elif len(reports) == 1 or not labels:
        reports[0].plot(path)  # what comes later are baselines
    else:
        compare(path, labels)


def compare(path: Path, labels: list[str]) -> None:
    """Draw the validation metric of several runs over their epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    for label, report in zip(labels, reports, strict=True):
        key = f"val_{report.headline}"
        points = [(i, row[key]) for i, row in enumerate(report.rows, 1) if row.get(key) is not None]
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=f"validation {reports[0].headline}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the example and draw."""
    picture, labels, example = sys.argv[1:4]
    sys.argv[:] = sys.argv[3:]
    for trainer in (gs.ClusterTrainer, gs.LayerwiseTrainer, gs.GraphTrainer, gs.PipelineTrainer):
        trainer.fit = kept(trainer.fit, reports)  # type: ignore[method-assign]
    gs.PipelineTrainer.timeline = kept(gs.PipelineTrainer.timeline, timelines)  # type: ignore[method-assign]
    runpy.run_path(example, run_name="__main__")
    if comm.is_main():
        draw(Path(picture), json.loads(labels))


if __name__ == "__main__":
    main()

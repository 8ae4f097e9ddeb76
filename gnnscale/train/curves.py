"""Learning curves as a picture."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from gnnscale.train.report import Report

_SETS = {"train": "#888888", "val": "#1f77b4", "test": "#d62728"}


def draw_curves(report: Report, file: IO[bytes]) -> None:
    """Draw loss and headline metric over epochs to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure and canvas by hand: pyplot would pick a window system and keep global state.
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in report.rows]
    left.plot(epochs, [row["loss"] for row in report.rows], color="#444444")
    left.set(xlabel="epoch", ylabel="training loss")
    for name, colour in _SETS.items():
        key = f"{name}_{report.headline}"
        points = [(row["epoch"], row[key]) for row in report.rows if row.get(key) is not None]
        if points:
            right.plot(*zip(*points, strict=True), marker="o", ms=3, color=colour, label=name)
    right.set(xlabel="epoch", ylabel=report.headline.replace("_", " "))
    if report.best_epoch is not None:
        right.axvline(report.best_epoch, color="#bbbbbb", lw=1, ls="--", label="best")
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(report.run.get("title", ""), fontsize=10)
    figure.savefig(file, format="png", dpi=120)

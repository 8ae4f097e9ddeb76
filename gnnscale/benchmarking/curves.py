"""Learning curves of several seeds as one picture: the mean, and a band of one deviation."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from gnnscale.benchmarking.results import SETS, Spread
from gnnscale.extras import from_extra
from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from gnnscale.benchmarking.results import BenchReport

_COLOURS = {"loss": "#444444", "train": "#888888", "val": "#1f77b4", "test": "#d62728"}


def draw_band(report: BenchReport, file: IO[bytes], kind: str) -> None:
    """Draw loss and headline metric over epochs.

    Args:
        report: the benchmark.
        file: what is written to.
        kind: "png" or "svg".
    """
    figure = blank_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for axes, names in ((left, ("loss",)), (right, SETS)):
        for name in names:
            epochs, means, lows, highs = _band(report, name)
            if not epochs:
                continue
            axes.plot(epochs, means, color=_COLOURS[name], label=name, lw=1.2)
            axes.fill_between(epochs, lows, highs, color=_COLOURS[name], alpha=0.2, lw=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=report.metric.replace("_", " "))
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    count = len(report.runs)
    figure.suptitle(f"{report.title}, {count} seed{'s' * (count != 1)}", fontsize=10)
    # One report, one file, byte for byte: no random ids, no date.
    with from_extra("plots", "matplotlib").rc_context({"svg.hashsalt": "gnnscale"}):
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else {})


def _band(
    report: BenchReport, name: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Mean, and mean ∓ deviation, over the seeds that reached an epoch."""
    by_epoch: dict[int, list[float]] = {}
    for run in report.runs:
        for row in run.curve:
            if name in row:
                by_epoch.setdefault(int(row["epoch"]), []).append(row[name])
    epochs = sorted(by_epoch)
    means, lows, highs = [], [], []
    for epoch in epochs:
        spread = Spread.of(by_epoch[epoch])
        assert spread is not None
        wide = spread.sd or 0.0
        means.append(spread.mean)
        lows.append(spread.mean - wide)
        highs.append(spread.mean + wide)
    return epochs, means, lows, highs

"""Learning curves as a picture."""

from __future__ import annotations

from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

from gnnscale.storage.pictures import blank_figure

if TYPE_CHECKING:
    from gnnscale.train.run.report import Report
from typing import TYPE_CHECKING

_SETS = {"train": "#888888", "val": "#1f77b4", "test": "#d62728"}


def draw_curves(report: Report, file: IO[bytes]) -> None:
    """Draw loss and headline metric over epochs to a PNG; layers trained one by one are marked."""
    figure = blank_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=report.headline.replace("_", " "))
    if report.layers:
        draw_loss_of_layers(report, left)
    else:
        epochs = [row["epoch"] for row in report.rows]
        left.plot(epochs, [row["loss"] for row in report.rows], color="#444444")
    for name, colour in _SETS.items():
        _draw_metric(report, f"{name}_{report.headline}", right, color=colour, label=name)
    # Of layers each has a best epoch of its own.
    if report.best_epoch is not None and not report.layers:
        right.axvline(report.best_epoch, color="#bbbbbb", lw=1, ls="--", label="best")
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False)
    figure.suptitle(report.run.get("title", ""), fontsize=10)
    figure.savefig(file, format="png", dpi=120)


def _draw_metric(report: Report, key: str, axes: Any, color: str, label: str) -> None:
    """A line a layer: the figures of one are of another classifier than those of the next."""
    for _, rows in groupby(report.rows, key=lambda row: row.get("layer")):
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", ms=3, color=color, label=label)
            label = "_" + label.removeprefix("_")  # the legend has it once


_LOSS, _P_STOP, _END, _WORDS = "#444444", "#d62728", "#bbbbbb", "#777777"


def draw_loss_of_layers(report: Report, axes: Any) -> None:
    """Draw the loss of every layer, where and why it stopped, and p(stop) where it was decided.

    Args:
        report: of a run layer by layer.
        axes: matplotlib's, to draw on.
    """
    for layer in report.layers:
        own = [row for row in report.rows if row["layer"] == layer["layer"]]
        axes.plot([row["epoch"] for row in own], [row["loss"] for row in own], color=_LOSS)
        if own and layer.get("stopped"):
            first, last = own[0]["epoch"], own[-1]["epoch"]
            axes.axvline(last, color=_END, lw=1, ls="--")
            name = layer["layer"] if isinstance(layer["layer"], str) else f"layer {layer['layer']}"
            axes.annotate(
                f"{name}: {layer['stopped']}",
                ((first + last) / 2, 0.98),
                xycoords=("data", "axes fraction"),
                rotation=90,
                ha="center",
                va="top",
                fontsize=8,
                color=_WORDS,
            )
    decided = [(r["epoch"], r["p_stop"]) for r in report.rows if r.get("p_stop") is not None]
    if decided:
        beside = axes.twinx()
        beside.plot(*zip(*decided, strict=True), color=_P_STOP, marker="o", ms=3, ls=":", lw=1)
        beside.set(ylim=(0, 1))
        beside.set_ylabel("p(stop)", color=_P_STOP)
        beside.spines[["top"]].set_visible(False)

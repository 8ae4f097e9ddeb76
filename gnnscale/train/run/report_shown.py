"""A report as tables and as a picture: epochs, or layers where a run trained them one by one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, Protocol

from gnnscale.shown import shown
from gnnscale.storage.pictures import CURVES, curves
from gnnscale.train.run.evidence import compared
from gnnscale.train.run.records import Description, Row

if TYPE_CHECKING:
    from rich.table import Table

# Columns of every epoch; a row with more was evaluated.
_PLAIN = ("epoch", "loss", "lr", "seconds", "nodes_per_second")
_P_STOP, _END, _WORDS = "#d62728", "#bbbbbb", "#777777"


class Recorded(Protocol):
    """What is shown of a run: see `Report`."""

    rows: list[Row]
    layers: list[Row]
    headline: str
    best_epoch: int | None
    final: dict[str, dict[str, float]]
    notes: list[str]
    run: Description
    predicted: Description
    measured: Description


def report_text(report: Recorded) -> str:
    """The layers, or else the epochs that were evaluated, and the final metrics."""
    from rich.console import Console

    console = Console(width=110, record=True, file=io.StringIO())
    console.print(layers_table(report) if report.layers else _epochs_table(report))
    for where, metrics in report.final.items():
        told = f"{where}: " + ", ".join(f"{k} {_text(v)}" for k, v in metrics.items())
        console.print(shown(told), markup=False)
    for told in compared(report.predicted, report.measured):
        console.print(told, markup=False, highlight=False)
    for note in report.notes:
        console.print(shown(note), markup=False, highlight=False)
    return console.export_text()


def layers_table(report: Recorded) -> Table:
    """How long each layer was trained, to what figures, and why it stopped."""
    headline = report.headline.replace("_", " ")
    rows = []
    for layer in report.layers:
        stopped = layer.get("stopped")
        if layer.get("kept") is False:  # fine-tuning that made nothing better
            stopped = f"{stopped}, not kept"
        rows.append(
            {
                "layer": layer["layer"],
                "epochs": layer["epochs"],
                "training": _seconds(layer["seconds"]),
                "aggregation": _seconds(layer.get("aggregate_seconds")),
                "loss": layer.get("loss"),
                f"val {headline}": layer.get(f"val_{report.headline}"),
                "stopped": stopped,
            }
        )
    return _table(report, rows)


def _epochs_table(report: Recorded) -> Table:
    evaluated = [row for row in report.rows if len(row) > len(_PLAIN)]
    return _table(report, evaluated or report.rows[-1:])


def _table(report: Recorded, rows: Sequence[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = report.run.get("title")
    table = Table(title=None if title is None else Text(shown(title)))
    names = list(dict.fromkeys(key for row in rows for key in row))
    for name in names:
        table.add_column(Text(shown(name).replace("_", " ")), justify="right")
    for row in rows:
        table.add_row(*(Text(shown(_text(row.get(name)))) for name in names))
    return table


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} s"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}"
    return "" if value is None else str(value)


def draw_curves(report: Recorded, file: IO[bytes]) -> None:
    """Draw loss and headline metric over epochs to a PNG; layers trained one by one are marked."""
    with curves(file, report.run.get("title", ""), report.headline) as (left, right):
        if report.layers:
            draw_loss_of_layers(report, left)
        else:
            epochs = [row["epoch"] for row in report.rows]
            left.plot(epochs, [row["loss"] for row in report.rows], color=CURVES["loss"])
        for name in ("train", "val", "test"):
            _draw_metric(report, f"{name}_{report.headline}", right, CURVES[name], label=name)
        # Of layers each has a best epoch of its own.
        if report.best_epoch is not None and not report.layers:
            right.axvline(report.best_epoch, color="#bbbbbb", lw=1, ls="--", label="best")


def _draw_metric(report: Recorded, key: str, axes: Any, color: str, label: str) -> None:
    """A line a layer: the figures of one are of another classifier than those of the next."""
    for _, rows in groupby(report.rows, key=lambda row: row.get("layer")):
        points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", ms=3, color=color, label=label)
            label = "_" + label.removeprefix("_")  # the legend has it once


def draw_loss_of_layers(report: Recorded, axes: Any) -> None:
    """Draw the loss of every layer, where and why it stopped, and p(stop) where it was decided.

    Args:
        report: of a run layer by layer.
        axes: matplotlib's, to draw on.
    """
    for layer in report.layers:
        own = [row for row in report.rows if row["layer"] == layer["layer"]]
        axes.plot([row["epoch"] for row in own], [row["loss"] for row in own], color=CURVES["loss"])
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

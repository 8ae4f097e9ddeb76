"""A report as tables: epochs, or layers where a run trained them one by one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnnscale.shown import shown

if TYPE_CHECKING:
    from rich.table import Table

    from gnnscale.train.run.report import Report

# Columns of every epoch; a row with more was evaluated.
_PLAIN = ("epoch", "loss", "lr", "seconds", "nodes_per_second")


def report_text(report: Report) -> str:
    """The layers, or else the epochs that were evaluated, and the final metrics."""
    from rich.console import Console

    console = Console(width=110, record=True, file=io.StringIO())
    console.print(layers_table(report) if report.layers else _epochs_table(report))
    for where, metrics in report.final.items():
        told = f"{where}: " + ", ".join(f"{k} {_text(v)}" for k, v in metrics.items())
        console.print(shown(told), markup=False)
    for note in report.notes:
        console.print(shown(note), markup=False, highlight=False)
    return console.export_text()


def layers_table(report: Report) -> Table:
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


def _epochs_table(report: Report) -> Table:
    evaluated = [row for row in report.rows if len(row) > len(_PLAIN)]
    return _table(report, evaluated or report.rows[-1:])


def _table(report: Report, rows: Sequence[dict[str, Any]]) -> Table:
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


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4f}"
    return "" if value is None else str(value)

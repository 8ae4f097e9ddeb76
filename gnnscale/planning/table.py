"""A plan as text: what each way costs, in figures and in the symbols of the theory."""

from __future__ import annotations

import io
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gnnscale.costs.predicted.prediction import Prediction
from gnnscale.planning.words import many, seconds, short, way
from gnnscale.shown import shown, size

if TYPE_CHECKING:
    from rich.table import Table

#: How wide the text is, in columns.
WIDTH = 120
_MARK = "►"


def as_text(tables: Sequence[Table], lines: Sequence[tuple[str, str]]) -> str:
    """Tables, and below them lines, each with what it is about."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=WIDTH, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    grid = Table.grid(padding=(0, 2, 0, 1))
    for about, line in lines:
        grid.add_row(Text(about), Text(shown(line)))
    console.print(grid)
    text = console.export_text().replace("\N{NO-BREAK SPACE}", " ")
    return "\n".join(row.rstrip() for row in text.splitlines())


def ways_table(
    rows: Sequence[Prediction], best: Prediction | None, fits: Sequence[str], title: str
) -> Table:
    """What one decides by: memory, seconds, steps an epoch, edges that are dropped.

    Args:
        rows: predictions.
        best: the recommended one, which is marked.
        fits: of every row, whether it fits, in a word.
        title: of the table.
    """
    timed = any(row.seconds is not None for row in rows)
    table = _table(title)
    names = ["", "way", "sizes", "memory", "fits"]
    names += ["epoch", "evaluate", "before", "bound by"] if timed else []
    for name in [*names, "steps", "dropped"]:
        words = name in ("", "way", "sizes", "fits", "bound by")
        table.add_column(name, justify="left" if words else "right", no_wrap=name != "sizes")
    for row, fit in zip(rows, fits, strict=True):
        cells = [_MARK if row is best else "", way(row.configuration), short(row.configuration)]
        cells += [size(row.bytes), fit]
        if timed:
            taken = row.seconds
            assert taken is not None
            cells += [seconds(taken.epoch), seconds(taken.evaluation), seconds(taken.setup)]
            cells.append(taken.bound_by)
        cells += [f"{row.epoch.steps:,}", f"{row.epoch.dropped:.1%}"]
        table.add_row(*cells)
    return table


def theory_table(rows: Sequence[Prediction]) -> Table:
    """Work, depth, average parallelism, bytes moved and sent, of an epoch."""
    table = _table("An epoch: work W and depth D")
    names = ["way", "sizes", "W", "D", "W/D", "moved", "sent", "rounds", "W before"]
    for name in names:
        words = name in names[:2]
        table.add_column(name, justify="left" if words else "right", no_wrap=name != "sizes")
    for row in rows:
        epoch = row.epoch
        table.add_row(
            way(row.configuration),
            short(row.configuration),
            many(epoch.work),
            many(epoch.depth),
            many(epoch.parallelism),
            size(epoch.moved),
            size(epoch.sent) if epoch.sent else "0",
            f"{epoch.rounds:,}",
            many(row.ahead.work),
        )
    return table


def memory_table(rows: Sequence[Prediction]) -> Table:
    """The peak of memory part by part, the largest first; and a step where that is another time."""
    table = _table("Memory at its peak")
    table.add_column("way", no_wrap=True)
    table.add_column("when", no_wrap=True)
    table.add_column("all", justify="right", no_wrap=True)
    table.add_column("of which")
    for row in rows:
        memory = row.memory
        for name in dict.fromkeys([memory.moment, *(n for n in ("step",) if n in memory.moments)]):
            there = memory.moments[name]
            parts = sorted(there.items(), key=operator.itemgetter(1), reverse=True)
            told = ", ".join(f"{of} {_joined(size(value))}" for of, value in parts if value >= 1)
            called = way(row.configuration) if name == memory.moment else ""
            table.add_row(called, name, size(sum(there.values())), told)
    return table


def _joined(text: str) -> str:
    """Text that is not broken between lines."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))

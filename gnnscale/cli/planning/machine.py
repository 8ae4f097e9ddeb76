"""`gnnscale machine`: how fast this machine is at what training does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gnnscale.cli.console import facts, line, listing, out, plain
from gnnscale.cli.options import Verbose
from gnnscale.errors import StoreError
from gnnscale.shown import size

if TYPE_CHECKING:
    from gnnscale.costs.machine.profile import Machine
    from gnnscale.costs.machine.table import Table


_DISTURBED = 0.1  # share of the runs, above which it is said


def machine(
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew, in the place of what is kept.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(help="Measuring takes so many at most, beside compiling; 6 at least.")
    ] = 10.0,
    tables: Annotated[
        bool, typer.Option("--tables", help="Show what was measured at every class of sizes.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Show how fast this machine computes, moves and sends: what predictions of time go by.

    It is measured once, by the library's own kernels, and kept until processor, threads or a
    version are others. Leave the machine to itself meanwhile.

    [bold]Examples[/bold]

    gnnscale machine

    gnnscale machine --tables [dim]# by rows, columns, entries a row[/dim]

    gnnscale machine --again [dim]# after something else had been running[/dim]
    """
    from gnnscale.costs.machine import cached
    from gnnscale.costs.machine.measured import measure

    found, unkept = None if again else cached.known(), ""
    if found is None:
        line("measuring; what is not compiled yet is compiled first …")
        found = measure(seconds)
        try:
            cached.remember(found)
        except StoreError as error:  # what was measured is shown
            unkept = str(error)
    _show(found)
    if tables:
        for name, table in found.tables.items():
            _show_table(name, table)
    else:
        line("gnnscale machine --tables shows the rates of every class of sizes.")
    if unkept:
        line(f"it is not kept, and is measured again the next time: {unkept}", style="yellow")
    else:
        line(f"kept in {cached.Kind.here().path}; gnnscale machine --again measures anew.")


def _show(found: Machine) -> None:
    widest, beside = max(found.alone), max(found.cores)
    fixed = found.fixed
    step = sum(fixed[name] for name in ("step", "loop", "optimizer", "batch"))
    facts(
        {
            "processor": found.processor,
            "threads": f"{found.threads} of {found.processors} processors, by {found.layer}",
            "versions": f"torch {found.torch}, gnnscale {found.gnnscale}",
            "dense products": f"{_giga(_least(found, 'dense'))} billion multiply-adds a second",
            "sparse products": f"{_giga(_least(found, 'sparse'))} in the caches, "
            f"{_giga(_most(found, 'sparse'))} out of them",
            "passes over rows": f"{_rate(_least(found, 'rows'))} in the caches, "
            f"{_rate(_most(found, 'rows'))} out of them",
            "memory": f"copied at {_rate(found.copied)}, new from the system at "
            f"{_rate(found.fresh)}",
            "files": f"read at {_rate(found.read)}",
            f"{widest} threads": f"{found.alone[widest]:.2f} times one",
            f"{beside} processes": f"{found.cores[beside]:.2f} times one",
            "messages": "none came in time: of several ranks no seconds are predicted"
            if found.latency is None or found.sent is None
            else f"{1e6 * found.latency:.0f} µs, then {_rate(found.sent)}",
            "a step": f"{1e6 * step:.0f} µs, {1e6 * (fixed['phase'] + fixed['gradient']):.0f} µs a "
            f"phase with its gradient, {1e6 * fixed['parameter']:.0f} µs an array of parameters",
            "measured in": f"{found.measured_in:.1f} s",
        },
        "This machine",
    )
    if found.disturbed > _DISTURBED:
        line(
            f"{found.disturbed:.0%} of the runs took far longer than others of the same: something "
            "else was running. Predictions are better once it is measured by itself: "
            "gnnscale machine --again",
            style="yellow",
        )


def _show_table(name: str, table: Table) -> None:
    """A table of rates, the bytes of the step in columns."""
    working = table.axes[-1]
    shown = listing(f"{name}, in units a nanosecond")
    for title in table.names[:-1]:
        shown.add_column(title, justify="right")
    for bytes_of_step in working:
        shown.add_column(f"a step of {size(bytes_of_step)}", justify="right")
    rows = table.rows()
    for start in range(0, len(rows), len(working)):
        some = rows[start : start + len(working)]
        point, rates = some[0][0][:-1], [1e-9 / value for _, value in some]
        shown.add_row(*(plain(f"{p:,.0f}") for p in point), *(f"{rate:.3g}" for rate in rates))
    out.print(shown)


def _least(found: Machine, name: str) -> float:
    return min(found.tables[name].values)


def _most(found: Machine, name: str) -> float:
    """Seconds a unit of the largest sizes, which come from memory."""
    return found.tables[name].values[-1]


def _giga(seconds: float) -> str:
    return f"{1e-9 / seconds:.3g}"


def _rate(seconds: float) -> str:
    return f"{size(1 / seconds)}/s"

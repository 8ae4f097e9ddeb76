"""What all commands write with: results to stdout, errors and the log to stderr."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from gnnscale.shown import shown

# Under torchrun every rank runs the command, and rank 0 tells of it.
_TELLS = int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"

out = Console(quiet=not _TELLS)
err = Console(stderr=True)
_said: Callable[[str], str] = str


def speak(words: Callable[[str], str]) -> None:
    """Say from now on what the library says in the words of a command; see `cli.words`."""
    global _said
    _said = words


def said(message: str) -> str:
    """A message of the library in the words of the command that runs."""
    return _said(message)


def plain(value: object, style: str = "") -> Text:
    """Text as it is: no markup is read in it, and no control character reaches the terminal."""
    return Text(shown(value), style=style)


def line(*parts: object, console: Console = out, style: str = "") -> None:
    """Print one line as it is: no markup is read in it, and no path in it is broken."""
    text = plain(" ".join(map(str, parts)), style)
    console.print(text, soft_wrap=True)


def error_line(message: str, hint: str = "") -> None:
    """Print an error to stderr, and below it what to do."""
    err.print(Text.assemble(("error: ", "bold red"), shown(said(message))), soft_wrap=True)
    if hint:
        line(hint, console=err, style="dim")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning to stderr, without the line of code that it is of."""
    text = shown(said(str(message)))
    err.print(Text.assemble(("warning: ", "yellow"), text), soft_wrap=True)


def facts(rows: dict[str, Any], title: str | None = None) -> None:
    """Print names and values as two columns; rows whose value is None are left out."""
    table = Table(
        title=None if title is None else plain(title, "bold"),
        title_justify="left",
        show_header=False,
        box=None,
    )
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(plain(name), plain(value))
    out.print(table)


class _InWords(logging.Filter):
    """Has messages said in the words of the command."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = said(record.getMessage()), ()
        return True


def listing(title: str) -> Table:
    """A table as wide as the terminal, whose columns are to come."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        expand=True,
        padding=(0, 1, 0, 0),
    )


def show_log(verbose: bool) -> None:
    """Send the log of gnnscale to stderr: warnings, and with `verbose` what is being done."""
    logger = logging.getLogger("gnnscale")
    for handler in logger.handlers[:]:
        if isinstance(handler, RichHandler):
            logger.removeHandler(handler)
    handler = RichHandler(console=err, show_path=False, log_time_format="[%X]")
    handler.addFilter(_InWords())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("gnnscale.train.run.expected").setLevel(logging.INFO)

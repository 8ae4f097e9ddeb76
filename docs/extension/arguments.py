"""A table of a trainer's arguments, from their declaration: values, default, what each does."""

from __future__ import annotations

import inspect

from gnnscale.declared import Argument, arguments_of
from gnnscale.train import options

GOING_ON = {"free": "any", "longer": "greater"}


def arguments(of: str) -> str:
    """All arguments of a trainer, as a table."""
    declaration = getattr(options, of.replace("Trainer", "Options"))
    rows = ["| argument | what it may be | default | | on resume |", "|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, arguments_of(declaration).values())])


def _row(argument: Argument) -> str:
    default = "" if argument.default is inspect.Parameter.empty else f"`{argument.default!r}`"
    kind = argument.words() or f"`{argument.written}`"
    about = f"{argument.said['help']} {argument.said['more']}"
    going_on = GOING_ON.get(argument.said.get("resume", ""), "")
    cells = (f"`{argument.name}`", kind, default, about, going_on)
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

"""A table of a trainer's arguments: name, type, default, what it does."""

from __future__ import annotations

import inspect
import re
from typing import Any

import gnnscale

ARGUMENT = re.compile(r"^(?P<name>\w+): (?P<text>.*(?:\n {4,}.*)*)", re.M)


def arguments(of: str) -> str:
    """All arguments of a class of `gnnscale`, as a table."""
    trainer = getattr(gnnscale, of)
    helps = _helps(inspect.getdoc(trainer) or "")
    rows = ["| argument | type | default | |", "|---|---|---|---|"]
    for name, parameter in inspect.signature(trainer).parameters.items():
        kind = _cell(str(parameter.annotation).strip("'"))
        default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        rows.append(f"| `{name}` | `{kind}` | {default} | {_cell(helps.get(name, ''))} |")
    return "\n".join(rows)


def _helps(doc: str) -> dict[str, str]:
    section = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", doc + "\n", re.M)
    if section is None:
        return {}
    text = inspect.cleandoc(section[1])
    return {found["name"]: found["text"] for found in ARGUMENT.finditer(text)}


def _cell(text: Any) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")

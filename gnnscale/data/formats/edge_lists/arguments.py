"""What is said of tables in text, in the name of a data set or as options, as arguments."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.options import by_table
from gnnscale.data.tables.edge_list import from_edge_list
from gnnscale.errors import InputError
from gnnscale.graph.reading.nodes import part_of
from gnnscale.storage.files import expanded

_OF_TEXTS = ("sep", "comment", "header", "encoding", "decimal")
_HEADERS = {"yes": True, "true": True, "no": False, "false": False}


def arguments_of(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `from_edge_list` as they are said of a file of edges.

    Raises:
        InputError: there is no such argument.
    """
    told = as_arguments(given)
    if "split" in told:  # as other formats call it
        told.setdefault("splits", told.pop("split"))
    known = [name for name in inspect.signature(from_edge_list).parameters if name != "edges"]
    if unknown := [name for name in told if name not in known]:
        raise InputError(
            f"{path}: a table of edges takes no {', '.join(unknown)}; there are {', '.join(known)}"
        )
    # Other tables are found again from another folder, when the graph is loaded by its source.
    for name in ("features", "labels"):
        file = expanded(told[name]) if isinstance(told.get(name), str | Path) else Path()
        if file.suffix and file.exists():
            told[name] = os.path.abspath(file)
    if isinstance(told.get("splits"), str):
        told["splits"] = _by_values(told["splits"])
    if isinstance(recipe := told.get("recipe"), str) and "=" in recipe:
        told["recipe"] = dict(_pair(part) for part in recipe.split(","))
    return told


def as_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Columns and dialects as they are said in text, as `from_edge_list` takes them."""
    told = dict(given)
    for name in ("drop", "labels", "time"):
        value = told.get(name)
        value = by_table(value) if name == "drop" and isinstance(value, str) else value
        if isinstance(value, Mapping) and name == "drop":
            told[name] = {table: _columns(str(own)) for table, own in value.items()}
        elif isinstance(value, str) and "," in value and not os.path.exists(value):
            told[name] = _columns(value)
    for name in _OF_TEXTS:
        value = told.get(name)
        value = by_table(value) if isinstance(value, str) else value
        if isinstance(value, Mapping):
            told[name] = {table: _said(name, one) for table, one in value.items()}
        elif value is not None:
            told[name] = _said(name, value)
    return told


def _columns(text: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in text.split(",")]


def _said(name: str, value: Any) -> Any:
    """What is said of one text: whether it has a header, or its names; a separator; …."""
    if name != "header" and isinstance(value, int):
        value = str(value)  # as it was written: encoding=437
    if not isinstance(value, str):
        return value
    if name == "header":
        return _HEADERS.get(value.lower(), value.split(","))
    return value.replace("\\t", "\t") if name == "sep" else value


def _by_values(text: str) -> Any:
    """A column and its values of each part, as fold:train=0+1,val=2,test=3; other text as it is."""
    column, _, rest = text.rpartition(":")
    pairs = [part.partition("=") for part in rest.split(",")]
    if not column or not all(equals and part_of(name)[0] for name, equals, _ in pairs):
        return text
    return column, {name: values.split("+") for name, _, values in pairs}


def _pair(text: str) -> tuple[str | int, str]:
    name, equals, kind = text.rpartition("=")
    if not equals:
        raise InputError(f"recipe={text!r}: write column=kind,column=kind")
    name = name.strip()
    return int(name) if name.isdecimal() else name, kind.strip()

"""Tables of edges given to ``gnnscale.load``, with the arguments of ``from_edge_list``."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.formats import seen
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.edge_list import from_edge_list
from gnnscale.data.tables.files import part_files
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.nodes import part_of
from gnnscale.storage.files import expanded

_TABLES = frozenset((".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".arrow", ".ipc"))
_LISTS = frozenset(
    (".edges", ".edgelist", ".edge", ".el", ".wel", ".ncol", ".list", ".dat", ".data", "")
)
_COLUMNAR = (b"PAR1", b"ARROW1", b"FEA1")
_COMMENTS = ("#", "%", "//")


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
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
    return from_edge_list(path, **told)


def as_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `from_edge_list` as they are said in text, as it takes them."""
    told = dict(given)
    for name in ("drop", "labels", "time"):
        value = told.get(name)
        if isinstance(value, str) and "," in value and not os.path.exists(value):
            told[name] = [int(part) if part.isdecimal() else part for part in value.split(",")]
    if isinstance(told.get("sep"), str):
        told["sep"] = told["sep"].replace("\\t", "\t")
    return told


def _by_values(text: str) -> Any:
    """A column and its values of each part, as fold:train=0+1,val=2,test=3; other text as it is."""
    column, _, rest = text.rpartition(":")
    pairs = [part.partition("=") for part in rest.split(",")]
    if not column or not all(equals and part_of(name)[0] for name, equals, _ in pairs):
        return text
    return column, {name: values.split("+") for name, _, values in pairs}


def _pair(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals:
        raise InputError(f"recipe={text!r}: write column=kind,column=kind")
    return name.strip(), kind.strip()


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return _are_parts(path)
    kind = seen.kind(path)
    if path.suffix.lower() == ".npy":
        shape, what = seen.shape(path)
        return len(shape) == 2 and 2 in shape and what in "iu"
    if kind in _TABLES or seen.head(path).startswith(_COLUMNAR):
        return True
    return kind in _LISTS and _has_pairs(path)


def _are_parts(path: Path) -> bool:
    """Whether all files in a folder look like parts of one table, by their names and suffixes."""
    try:
        files = part_files(path)
    except GnnscaleError:
        return False
    kinds = {seen.kind(file) for file in files}
    stems = {file.name.split(".")[0].rstrip("0123456789-_") for file in files}
    apart = any("node" in stem.lower() for stem in stems) and len(stems) > 1
    return len(kinds) == 1 and kinds <= _TABLES and not apart


def _has_pairs(path: Path) -> bool:
    """Whether the first row of a text without a name for tables has several cells."""
    if b"\x00" in seen.head(path)[:4096]:
        return False
    rows = [line for line in seen.lines(path) if line.strip() and not line.startswith(_COMMENTS)]
    return (
        bool(rows)
        and rows[0].lstrip()[:1] not in "{[<*"
        and len(re.split(r"::|[,;|\s]\s*", rows[0].strip())) in (2, 3, 4)
    )


FORMATS = (
    Format(
        "edges",
        "a table of edges, or a folder of its parts, read as gnnscale.from_edge_list reads it",
        "*.csv, *.tsv, *.txt, *.parquet, *.feather, *.edges, *.npy",
        _recognises,
        _read,
        options=None,
        streams=True,
        needs="tables",
        general=True,
        documented="docs/guide/data.md",
    ),
)

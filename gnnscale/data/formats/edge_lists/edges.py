"""Tables of edges given to ``gnnscale.load``, with the arguments of ``from_edge_list``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.formats import seen
from gnnscale.data.formats.edge_lists.arguments import arguments_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.edge_list import from_edge_list
from gnnscale.data.tables.files import COLUMNAR, part_files
from gnnscale.data.tables.text.comments import MARKS
from gnnscale.errors import GnnscaleError
from gnnscale.graph import Graph

_TABLES = frozenset((".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".arrow", ".ipc"))
_LISTS = frozenset(
    (".edges", ".edgelist", ".edge", ".el", ".wel", ".ncol", ".list", ".dat", ".data", "")
)
_BETWEEN_CELLS = re.compile(r"\s*(?:::|[,;|])\s*|\s+")


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    return from_edge_list(path, **arguments_of(path, given))


def _recognises(path: Path) -> bool:
    if path.is_dir():
        return _are_parts(path)
    kind = seen.kind(path)
    if path.suffix.lower() == ".npy":
        shape, what = seen.shape(path)
        return len(shape) == 2 and 2 in shape and what in "iu"
    if kind in _TABLES or seen.head(path).startswith(tuple(start for start, _ in COLUMNAR)):
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
    rows = [line for line in seen.lines(path) if line.strip() and not line.startswith(MARKS)]
    return (
        bool(rows)
        and rows[0].lstrip()[:1] not in "{[<*"
        and len(_BETWEEN_CELLS.split(rows[0].strip())) in (2, 3, 4)
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

"""Tables of edges given to ``gnnscale.load``, with the arguments of ``from_edge_list``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.formats import seen
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.edge_list import from_edge_list
from gnnscale.graph import Graph

_TABLES = (".csv", ".tsv", ".txt", ".parquet")


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    return from_edge_list(path, **given)


def _recognises(path: Path) -> bool:
    return path.is_file() and seen.kind(path) in _TABLES


FORMATS = (
    Format(
        "edges",
        "a table of edges, read as gnnscale.from_edge_list reads it, with its arguments",
        "*.csv, *.tsv, *.txt, *.parquet",
        _recognises,
        _read,
        options=None,
        streams=True,
        needs="tables",
        general=True,
        documented="docs/guide/data.md",
    ),
)

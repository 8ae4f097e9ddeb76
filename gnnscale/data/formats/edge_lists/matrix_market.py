"""Matrix Market, as SuiteSparse and networkrepository.com give graphs: a matrix's entries."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.edge_lists.structure import OPTIONS, graph_of_edges
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.text import number_rows
from gnnscale.data.options import Option, read_bool
from gnnscale.data.tables.files import opened
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph

logger = logging.getLogger(__name__)

_BANNER = "%%matrixmarket"
_FIELDS = {"pattern": 2, "real": 3, "integer": 3, "double": 3, "unsigned-integer": 3}
_SYMMETRIES = ("general", "symmetric", "skew-symmetric")


@dataclass(frozen=True)
class _Header:
    field: str
    symmetry: str
    rows: int
    columns: int
    entries: int


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    with opened(path) as file:
        header = _header(file, path)
    bipartite = given.get("bipartite", False)
    if header.rows != header.columns and not bipartite:
        raise InputError(
            f"{path} has {header.rows:,} rows and {header.columns:,} columns; that of a graph is "
            "square. Where rows and columns are different nodes, say bipartite=True: the nodes "
            "are the rows, then the columns"
        )
    logger.info(
        "%s: entry (i, j) is the edge from i to j, nodes numbered from 0%s",
        *(path, "" if header.symmetry == "general" else "; " + header.symmetry),
    )
    offset = header.rows if bipartite else 0
    num_nodes = header.rows + header.columns if bipartite else header.rows
    return graph_of_edges(
        path,
        given,
        num_nodes,
        lambda: _chunks(path, header, offset),
        undirected=bipartite or header.symmetry == "symmetric",
        node_type=(lambda: (np.arange(num_nodes) >= header.rows).astype(np.int64))
        if bipartite
        else None,
    )


def _header(file: IO[bytes], path: Path) -> _Header:
    """The first lines, up to that of the sizes; the rows come next in the file."""
    banner = file.readline().decode("latin-1").lower().split()
    if len(banner) < 4 or banner[0] != _BANNER or banner[1] != "matrix":
        raise InputError(f"{path} does not begin with %%MatrixMarket matrix coordinate …")
    layout, field, symmetry = (*banner[2:], "general")[:3]
    if layout == "array":
        raise InputError(
            f"{path} is a dense matrix; save its entries: scipy.io.mmwrite(path, "
            "scipy.sparse.coo_array(scipy.io.mmread(path)))"
        )
    if layout != "coordinate" or field not in _FIELDS or symmetry not in _SYMMETRIES:
        raise InputError(
            f"{path} is {layout} {field} {symmetry}; a graph is coordinate, "
            f"{', '.join(list(_FIELDS)[:3])}, {', '.join(_SYMMETRIES)}"
        )
    for line in iter(file.readline, b""):
        if line.strip() and not line.lstrip().startswith(b"%"):
            cells = line.split()
            if len(cells) != 3 or not all(cell.isdigit() for cell in cells):
                raise InputError(
                    f"{path}: {line.decode('latin-1').strip()!r} is no line of rows, columns and "
                    "entries"
                )
            return _Header(field, symmetry, *map(int, cells))
    raise StoreError(f"{path} ends before its sizes")


def _chunks(path: Path, header: _Header, offset: int) -> Iterator[tuple[np.ndarray, ...]]:
    with opened(path) as file:
        _header(file, path)
        found = 0
        columns = _FIELDS[header.field]
        for rows in number_rows(file, path, columns, int if columns == 2 else float):
            found += len(rows)
            if found > header.entries:
                break
            source, target = (_ids(rows[:, i], path, header, i) for i in (0, 1))
            weight = [rows[:, 2]] if columns == 3 else []
            yield (source, target + offset, *weight)
            if header.symmetry == "skew-symmetric":
                yield (target, source, *(-value for value in weight))
    if found != header.entries:
        more = "more" if found > header.entries else f"{found:,}"
        raise StoreError(f"{path} has {more} entries, and its header says {header.entries:,}")


def _ids(column: np.ndarray, path: Path, header: _Header, axis: int) -> np.ndarray:
    size = header.columns if axis else header.rows
    ids = column.astype(np.int64) - 1
    if column.size and (ids.min() < 0 or ids.max() >= size or not (ids + 1 == column).all()):
        wrong = column[(ids < 0) | (ids >= size) | (ids + 1 != column)][0]
        raise InputError(
            f"{path}: {('row', 'column')[axis]} {wrong:g} is none of 1 to {size:,}, as Matrix "
            "Market counts"
        )
    return ids


def _recognises(path: Path) -> bool:
    first = seen.lines(path, 1)
    return bool(first) and first[0].lower().startswith(_BANNER)


FORMATS = (
    Format(
        "matrix-market",
        "a sparse matrix as text: SuiteSparse, networkrepository.com, scipy.io.mmwrite",
        "*.mtx, *.mtx.gz",
        _recognises,
        _read,
        options={**OPTIONS, "bipartite": Option(read_bool, False)},
        streams=True,
        needs="tables",
        documented="https://math.nist.gov/MatrixMarket/formats.html",
    ),
)

"""Graphs as the DIMACS challenges give them: a line with the problem, and an edge or an arc a line.

=====================  =============================================================================
``c …``                a comment
``p edge 5 7``         5 nodes and 7 edges: of colourings and cliques (``edge``, ``col``), shortest
                       paths (``sp``), flows (``max``); others are refused
``e 1 2``              an edge, in both directions, nodes numbered from 1
``a 1 2 17``           an arc from 1 to 2 and its length or capacity
``n``, ``d``, ``v``    what is said of nodes: left out
=====================  =============================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.edge_lists.structure import OPTIONS, graph_of_edges
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.files import opened
from gnnscale.data.tables.text.no_table import DIMACS
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames

logger = logging.getLogger(__name__)

_LINES_AT_ONCE = 1 << 22  # bytes
_LOOKED_AT = 1_000  # lines, of which most may be comments
_EDGES = {"edge": b"e", "edges": b"e", "col": b"e", "sp": b"a", "max": b"a"}
_OF_NODES = (b"n", b"d", b"v", b"x")


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    with opened(path) as file:
        problem, nodes, _ = _head(file, path)
    arcs = _EDGES[problem] == b"a"
    logger.info(
        "%s: DIMACS, %s, nodes numbered from 1",
        *(path, "arcs in one direction with a weight" if arcs else "edges in both directions"),
    )
    return graph_of_edges(
        path,
        given,
        nodes,
        lambda: _chunks(path),
        undirected=False if arcs else "unless given",
        names=lambda: NodeNames(torch.arange(1, nodes + 1)),
    )


def _head(file: IO[bytes], path: Path) -> tuple[str, int, int]:
    """The problem, and how many nodes and edges it has; the edges come next in the file."""
    for line in iter(file.readline, b""):
        cells = line.split()
        if not cells or cells[0].startswith(b"c"):
            continue
        shown = line.decode("latin-1").strip()[:80]
        if cells[0] != b"p" or len(cells) < 4 or not (cells[2] + cells[3]).isdigit():
            raise InputError(f"{path}: {shown!r} is no line as 'p edge 5 7', as DIMACS begins with")
        if (problem := cells[1].decode("latin-1").lower()) not in _EDGES:
            raise InputError(f"{path}: {shown!r} is a problem of none of {', '.join(_EDGES)}")
        return problem, int(cells[2]), int(cells[3])
    raise StoreError(f"{path} ends before its line of the problem")


def _chunks(path: Path) -> Iterator[tuple[np.ndarray, ...]]:
    with opened(path) as file:
        problem, nodes, edges = _head(file, path)
        mark, found = _EDGES[problem], 0
        width = 4 if mark == b"a" else 3
        while lines := file.readlines(_LINES_AT_ONCE):
            rows = [cells for line in lines if (cells := line.split()) and cells[0][:1] != b"c"]
            own = [row for row in rows if row[0] == mark]
            if odd := [row for row in rows if row[0] not in (mark, *_OF_NODES)]:
                raise _no_row(path, odd[0], mark)
            if odd := [row for row in own if len(row) != width]:
                raise _no_row(path, odd[0], mark)
            try:
                numbers = np.array([row[1:] for row in own], dtype=bytes).astype(np.float64)
            except ValueError as error:
                raise InputError(f"{path} holds what is no number: {error}") from error
            if not own:
                continue
            found += len(own)
            ids = numbers[:, :2]
            if ids.min() < 1 or ids.max() > nodes or (ids != ids.round()).any():
                wrong = ids[(ids < 1) | (ids > nodes) | (ids != ids.round())][0]
                raise InputError(f"{path}: {wrong:g} is none of its nodes, 1 to {nodes:,}")
            source, target = ids.astype(np.int64).T - 1
            yield (source, target, *([numbers[:, 2]] if mark == b"a" else []))
    if found not in (edges, 2 * edges, edges / 2):  # of an edge in both directions one counts two
        logger.warning("%s has %d edges, and says that it has %d: is it whole?", path, found, edges)


def _no_row(path: Path, row: list[bytes], mark: bytes) -> InputError:
    shown = b" ".join(row).decode("latin-1")[:80]
    said = "a 1 2 17" if mark == b"a" else "e 1 2"
    return InputError(f"{path}: {shown!r} is no line of an edge, as {said!r}")


def _recognises(path: Path) -> bool:
    return DIMACS.match("\n".join(seen.lines(path, _LOOKED_AT))) is not None


FORMATS = (
    Format(
        "dimacs",
        "edges and arcs of the DIMACS challenges: colourings, cliques, shortest paths, flows",
        "*.col, *.gr, *.clq, *.dimacs with p edge 5 7",
        _recognises,
        _read,
        options=OPTIONS,
        streams=True,
        needs="tables",
        documented="https://archive.dimacs.rutgers.edu/pub/challenge/graph/doc/ccformat.tex",
    ),
)

"""Graphs as METIS reads them, also those of DIMACS: the neighbours of a node a line."""

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
from gnnscale.data.tables.neighbours import MetisHead, head_of, layout_of
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames

logger = logging.getLogger(__name__)

_LINES_AT_ONCE = 1 << 22  # bytes


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    with opened(path) as file:
        head = _head(file, path)
    logger.info("%s: a line a node, numbered from 1; each edge stands there twice", path)
    return graph_of_edges(
        path,
        given,
        head.nodes,
        lambda: _chunks(path, head),
        undirected=False,
        names=lambda: NodeNames(torch.arange(1, head.nodes + 1)),
    )


def _head(file: IO[bytes], path: Path) -> MetisHead:
    for line in iter(file.readline, b""):
        if line.strip() and not line.lstrip().startswith(b"%"):
            head = MetisHead.read(line.decode("latin-1"))
            if head is None:
                raise InputError(
                    f"{path}: {line.decode('latin-1').strip()[:80]!r} is no line of nodes, edges "
                    "and format, as METIS begins with"
                )
            return head
    raise StoreError(f"{path} ends before its sizes")


def _chunks(path: Path, head: MetisHead) -> Iterator[tuple[np.ndarray, ...]]:
    node = found = 0
    with opened(path) as file:
        _head(file, path)
        while lines := file.readlines(_LINES_AT_ONCE):
            own = (line for line in lines if not line.lstrip().startswith(b"%"))
            rows = [line.replace(b",", b" ").split() for line in own]
            while node + len(rows) > head.nodes and not rows[-1]:
                rows.pop()
            sizes = np.array([len(row) for row in rows], np.int64)
            if node + len(rows) > head.nodes:
                raise StoreError(f"{path} has more lines than its {head.nodes:,} nodes")
            try:
                cells = np.array([cell for row in rows for cell in row], dtype=bytes)
                numbers = cells.astype(np.float64)
            except ValueError as error:
                raise InputError(f"{path} holds what is no number: {error}") from error
            found += numbers.size
            row = np.repeat(np.arange(len(rows)), sizes)
            place = np.arange(numbers.size) - np.repeat(sizes.cumsum() - sizes, sizes) - head.before
            step = 1 + head.weighted
            ends = (place >= 0) & (place % step == 0)
            ids = numbers[ends].astype(np.int64)
            if ids.size and (ids.min() < 1 or ids.max() > head.nodes):
                wrong = ids.min() if ids.min() < 1 else ids.max()
                raise InputError(f"{path}: {wrong} is none of its nodes, 1 to {head.nodes:,}")
            if head.weighted and int(((place >= 0) & (place % step == 1)).sum()) != ids.size:
                raise InputError(f"{path}: a neighbour has no weight behind it")
            weights = [numbers[np.flatnonzero(ends) + 1]] if head.weighted else []
            yield (row[ends] + node, ids - 1, *weights)
            node += len(rows)
    if found != head.numbers:
        raise StoreError(
            f"{path} has {found:,} numbers below its first line, which says {head.numbers:,}: "
            f"each of {head.edges:,} edges twice"
        )


def _recognises(path: Path) -> bool:
    kind = seen.kind(path)
    if kind in (".graph", ".metis"):
        lines = head_of(path)[0]
        return bool(lines) and MetisHead.read(lines[0]) is not None
    return kind in (".txt", ".dat", "") and layout_of(*head_of(path)) == "metis"


FORMATS = (
    Format(
        "metis",
        "the neighbours of a node a line, of METIS, KaHIP, KaMinPar and the DIMACS challenges",
        "*.graph, *.metis, *.txt with such lines",
        _recognises,
        _read,
        options=OPTIONS,
        streams=True,
        needs="tables",
        documented="https://github.com/KarypisLab/METIS/blob/master/manual/manual.pdf",
    ),
)

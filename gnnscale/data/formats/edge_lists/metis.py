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
from gnnscale.data.tables.neighbours import MetisHead, head_of, is_comment, layout_of
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames

logger = logging.getLogger(__name__)

_LINES_AT_ONCE = 1 << 22  # bytes
_MIXED = np.uint64(0x9E3779B97F4A7C15)  # odd, and without a pattern


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
        if line.strip() and not is_comment(line):
            head = MetisHead.read(line.decode("latin-1"))
            if head is None:
                raise InputError(
                    f"{path}: {line.decode('latin-1').strip()[:80]!r} is no line of nodes, edges "
                    "and format, as METIS begins with"
                )
            return head
    raise StoreError(f"{path} ends before its sizes")


def _chunks(path: Path, head: MetisHead) -> Iterator[tuple[np.ndarray, ...]]:
    node = found = balance = 0
    with opened(path) as file:
        _head(file, path)
        while lines := file.readlines(_LINES_AT_ONCE):
            rows = [line.replace(b",", b" ").split() for line in lines if not is_comment(line)]
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
            named = numbers[ends]
            wrong = ~((named >= 1) & (named <= head.nodes) & (named == np.floor(named)))
            if wrong.any():
                raise InputError(
                    f"{path}: {named[wrong][0]:.12g} is none of its nodes, 1 to {head.nodes:,}"
                )
            ids = named.astype(np.int64)
            if head.weighted and int(((place >= 0) & (place % step == 1)).sum()) != ids.size:
                raise InputError(f"{path}: a neighbour has no weight behind it")
            weights = [numbers[np.flatnonzero(ends) + 1]] if head.weighted else []
            edges = row[ends] + node, ids - 1
            balance = (balance + _balance(*edges)) % 2**64
            yield (*edges, *weights)
            node += len(rows)
    if found != head.numbers:
        raise StoreError(
            f"{path} has {found:,} numbers below its first line, which says {head.numbers:,}: "
            f"each of {head.edges:,} edges twice"
        )
    if balance:
        raise InputError(
            f"{path}: an edge stands in the line of one of its nodes alone; METIS has it in both. "
            "Where lines are edges, say format='edges'"
        )


def _balance(source: np.ndarray, target: np.ndarray) -> int:
    """A sum over edges, modulo 2^64, to which an edge and its reverse add nothing together."""
    low, high = np.minimum(source, target), np.maximum(source, target)
    mixed = (low.astype(np.uint64) * _MIXED + high.astype(np.uint64)) * _MIXED
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIXED
    return int((mixed * np.sign(target - source).astype(np.uint64)).sum())


def _recognises(path: Path) -> bool:
    kind = seen.kind(path)
    if kind not in (".graph", ".metis", ".txt", ".dat", ""):
        return False
    lines, whole = head_of(path)
    if not lines or MetisHead.read(lines[0]) is None:
        return False
    if kind == ".metis" or layout_of(lines, whole) == "metis":
        return True
    # A damaged one, and no list of edges: its lines have numbers of cells of their own.
    return kind == ".graph" and len({len(line.split()) for line in lines if line.strip()}) > 1


FORMATS = (
    Format(
        "metis",
        "the neighbours of a node a line, of METIS, KaHIP, KaMinPar and the DIMACS challenges",
        "*.metis; *.graph, *.txt with such lines",
        _recognises,
        _read,
        options=OPTIONS,
        streams=True,
        needs="tables",
        documented="https://github.com/KarypisLab/METIS/blob/master/manual/manual.pdf",
    ),
)

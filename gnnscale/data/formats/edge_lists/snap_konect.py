"""Lists of edges as two large collections give them, with a header in comments: SNAP and KONECT."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.edge_lists.arguments import arguments_of
from gnnscale.data.formats.edge_lists.structure import OPTIONS, graph_of_edges
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.text import number_rows
from gnnscale.data.tables.edge_list import from_edge_list
from gnnscale.data.tables.files import opened
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames

logger = logging.getLogger(__name__)

_KONECT = re.compile(
    r"%\s*(?P<kind>sym|asym|bip)\s+(?P<weights>(?:un|pos|multi|multipos)?weighted|positive|"
    r"(?:multi)?signed|dynamic)\b",
    re.IGNORECASE,
)
_SNAP = re.compile(r"#\s*(?:(un)?directed\b|nodes:\s*\d+\s+edges:\s*\d+|fromnodeid\b)", re.I)
_WEIGHTS = ("sign", "weight", "rating", "trust", "count")
_SIZES = re.compile(r"#\s*nodes:\s*(\d+)\s+edges:\s*(\d+)", re.I)


# --- KONECT -------------------------------------------------------------------------------------


def _konect(path: Path, given: Mapping[str, Any]) -> Graph:
    head = seen.lines(path) or [""]
    said = _KONECT.match(head[0])
    if said is None:
        raise InputError(f"{path} does not begin with '% sym unweighted' or the like, as KONECT's")
    kind, weights = said["kind"].lower(), said["weights"].lower()
    if weights == "dynamic":
        raise InputError(
            f"{path} is dynamic: its edges appear (1) and vanish (-1). Choose a time, write the "
            "edges of then to a file, and give it to gnnscale.from_edge_list"
        )
    second = head[1].lstrip("%").split() if len(head) > 1 and head[1].startswith("%") else []
    sizes = [int(cell) for cell in second] if all(cell.isdecimal() for cell in second) else []
    if len(sizes) < 3:
        sizes = [0, *_greatest(path)]
    left, right = sizes[1], sizes[2]
    left, right = (left, right) if kind == "bip" else (max(left, right),) * 2
    told = {"sym": "undirected", "asym": "directed", "bip": f"{left:,} and {right:,} nodes apart"}
    timed = _is_timed(path)
    clock = ", the fourth column is time, 0 an unknown one" if timed else ""
    logger.info("%s: %s, %s%s", path, told[kind], weights, clock)
    offset = left if kind == "bip" else 0
    chunks = partial(_chunks, path, left, right, offset, weights, sizes[0], timed)
    if kind == "bip":
        return graph_of_edges(
            *(path, given, left + right, chunks),
            undirected=True,
            node_type=lambda: (np.arange(left + right) >= left).astype(np.int64),
        )
    return graph_of_edges(
        *(path, given, left, chunks),
        undirected=kind == "sym",
        names=lambda: NodeNames(torch.from_numpy(np.arange(1, left + 1))),
    )


def _is_timed(path: Path) -> bool:
    """Whether the fourth column says when an edge came: 0 throughout, it does not."""
    for rows in _rows(path):
        if rows.shape[1] < 4:
            return False
        if rows[:, 3].any():
            return True
    return False


def _greatest(path: Path) -> tuple[int, int]:
    greatest = np.zeros(2, np.int64)
    for rows in _rows(path):
        greatest = np.maximum(greatest, rows[:, :2].max(axis=0).astype(np.int64))
    return int(greatest[0]), int(greatest[1])


def _rows(path: Path) -> Iterator[np.ndarray]:
    with opened(path) as file:
        for rows in number_rows(file, path, 0, float):
            if rows.shape[1] < 2:
                raise InputError(f"{path} has one number a line; an edge has two")
            yield rows


def _chunks(
    path: Path, left: int, right: int, offset: int, weights: str, edges: int, timed: bool
) -> Iterator[tuple[np.ndarray | None, ...]]:
    found = 0
    for rows in _rows(path):
        found += len(rows)
        ids = rows[:, :2].astype(np.int64)
        if ids.min() < 1 or (ids > (left, right)).any() or not (ids == rows[:, :2]).all():
            raise InputError(
                f"{path}: ids are from {rows[:, :2].min():g} to {rows[:, :2].max():g}; its header "
                f"says 1 to {left:,}" + (f" and 1 to {right:,}" if offset else "")
            )
        weight = [rows[:, 2]] if weights != "unweighted" and rows.shape[1] > 2 else []
        ends = ids[:, 0] - 1, ids[:, 1] - 1 + offset
        if timed and rows.shape[1] > 3:
            when = np.where(rows[:, 3] == 0, np.nan, rows[:, 3])
            yield (*ends, weight[0] if weight else None, when)
        else:
            yield (*ends, *weight)
    if edges and found != edges:
        logger.warning("%s has %d edges, and its header says %d: is it whole?", path, found, edges)


def _is_konect(path: Path) -> bool:
    first = seen.lines(path, 1)
    return bool(first) and _KONECT.match(first[0]) is not None


# --- SNAP ---------------------------------------------------------------------------------------


def _snap(path: Path, given: Mapping[str, Any]) -> Graph:
    lines = [line for line in seen.lines(path) if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    said = [
        match[1] for line in comments if (match := re.match(r"#\s*(un)?directed\b", line, re.I))
    ]
    undirected = not said or said[0] is not None
    logger.info("%s: %s, its header says", path, "undirected" if undirected else "directed")
    known = {"undirected": undirected, "comment": "#", **_columns(lines)}
    told = arguments_of(path, given)
    dropped = told.get("drop", ())
    if known.get("weight", "") in (dropped if isinstance(dropped, list | tuple) else [dropped]):
        del known["weight"]
    for key in ("comment", "header"):  # of other tables something else may be said
        if isinstance(told.get(key), Mapping):
            told[key] = {"edges": known.get(key), **told[key]}
    graph = from_edge_list(path, **{**known, **told})
    sizes = next((match for line in comments if (match := _SIZES.match(line))), None)
    if sizes is not None and graph.num_nodes != int(sizes[1]):
        logger.warning(
            "%s has %d nodes with edges, and its header says %s: is it whole?",
            *(path, graph.num_nodes, sizes[1]),
        )
    return graph


def _columns(lines: list[str]) -> dict[str, Any]:
    """What the comment above the first row calls the columns, where it names all that there are."""
    row = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if not row:
        return {}
    names = lines[row - 1].lstrip("#").split()
    if len(names) != len(lines[row].split()) or len(names) < 2:
        return {}
    told: dict[str, Any] = {"header": names, "source": names[0], "target": names[1]}
    weights = [name for name in names[2:] if name.lower() in _WEIGHTS]
    return told | ({"weight": weights[0]} if len(weights) == 1 else {})


def _is_snap(path: Path) -> bool:
    return seen.kind(path) in (".txt", ".tsv", ".csv", "") and any(
        _SNAP.match(line) for line in seen.lines(path, 10) if line.startswith("#")
    )


FORMATS = (
    Format(
        "snap",
        "lists of snap.stanford.edu: directed or not as their header says",
        "*.txt, *.txt.gz with # Nodes: … Edges: …",
        _is_snap,
        _snap,
        options=None,
        streams=True,
        needs="tables",
        documented="https://snap.stanford.edu/data/",
    ),
    Format(
        "konect",
        "lists of konect.cc, ids from 1: sym, asym and bip, with weights",
        "out.NAME with % sym unweighted",
        _is_konect,
        _konect,
        options=OPTIONS,
        streams=True,
        needs="tables",
        documented="https://github.com/kunegis/konect-handbook",
    ),
)

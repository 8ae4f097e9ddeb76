"""Pajek's networks. networkx merges vertices of one label, and forgets arcs where edges follow."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.attributed.attributes import OPTIONS, Attributed, graph_of_attributes
from gnnscale.data.formats.registry import Format
from gnnscale.data.formats.text import read_text
from gnnscale.errors import InputError
from gnnscale.graph import Graph

logger = logging.getLogger(__name__)

_VERTEX = re.compile(r'\s*(\d+)(?:\s+(?:"((?:[^"\\]|\\.)*)"|(\S+)))?')
_Edge = tuple[int, int, float | None]


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    sections = _sections(path)
    head, vertices = sections[0]
    sizes = [int(word) for word in head.split()[1:] if word.isdecimal()]
    if not head.startswith("*vertices") or not sizes:
        raise InputError(f"{path} does not begin with *Vertices and their number")
    names = [str(i + 1) for i in range(sizes[0])]
    for line in vertices:
        match = _VERTEX.match(line)
        if match is None or not 1 <= int(match[1]) <= sizes[0]:
            raise InputError(f"{path}: {line[:80]!r} is no vertex of 1 to {sizes[0]:,}")
        names[int(match[1]) - 1] = match[2] or match[3] or match[1]
    if len(set(names)) < len(names):
        logger.info("%s: labels do not tell vertices apart: they are called by their numbers", path)
        names = [str(i + 1) for i in range(sizes[0])]
    arcs: list[_Edge] = []
    edges: list[_Edge] = []
    for kind, lines in sections[1:]:
        if kind.startswith(("*arc", "*edge", "*matrix")):
            found = [edge for i, line in enumerate(lines) for edge in _edges(kind, i, line, path)]
            (edges if kind.startswith("*edge") else arcs).extend(found)
        else:
            logger.info("%s: %s is left out", path, kind)
    if arcs and edges:  # an edge among arcs is one in both directions
        arcs += edges + [(v, u, weight) for u, v, weight in edges if u != v]
    both = arcs or edges
    if wrong := [end for u, v, _ in both for end in (u, v) if not 1 <= end <= sizes[0]]:
        raise InputError(f"{path}: vertex {wrong[0]} is none of 1 to {sizes[0]:,}")
    ends = np.array([(u, v) for u, v, _ in both], np.int64).reshape(-1, 2).T - 1
    weights = [weight for *_, weight in both]
    known = [weight is not None for weight in weights]
    values = {"weight": [1.0 if w is None else w for w in weights]} if any(known) else {}
    found_graph = Attributed(names, ends, bool(arcs), edges=values)
    return graph_of_attributes(found_graph, path, given)


def _sections(path: Path) -> list[tuple[str, list[str]]]:
    """Headings in small letters, each with the lines below it."""
    sections: list[tuple[str, list[str]]] = []
    for line in read_text(path):
        if line.lstrip().startswith("*"):
            heading = line.strip().lower()
            if not heading.startswith("*network"):
                sections.append((heading, []))
        elif sections and not line.lstrip().startswith("%"):
            sections[-1][1].append(line)
    if not sections:
        raise InputError(f"{path} does not begin with *Vertices and their number")
    return sections


def _edges(kind: str, row: int, line: str, path: Path) -> list[_Edge]:
    """The edges of a line: one, one to each of several, or a row of the matrix."""
    try:
        if kind.startswith("*matrix"):
            values = [float(cell) for cell in line.split()]
            return [(row + 1, i + 1, value) for i, value in enumerate(values) if value]
        if kind.startswith(("*arcslist", "*edgeslist")):
            first, *others = (int(cell) for cell in line.split())
            return [(abs(first), abs(other), None) for other in others]
        source, target, *rest = line.split()
        return [(int(source), int(target), float(rest[0]) if rest and _number(rest[0]) else None)]
    except ValueError:
        raise InputError(f"{path}: {line[:80]!r} is no line of {kind}") from None


def _number(word: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word) is not None


def _recognises(path: Path) -> bool:
    first = [line.lstrip().lower() for line in seen.lines(path) if not line.startswith("%")]
    return any(line.startswith("*vertices") for line in first[:5])


FORMATS = (
    Format(
        "pajek",
        "Pajek's networks, of arcs, edges or a matrix; nodes are called by their labels",
        "*.net with *Vertices",
        _recognises,
        _read,
        options=OPTIONS,
        needs="tables",
        documented="http://mrvar.fdv.uni-lj.si/pajek/",
    ),
)

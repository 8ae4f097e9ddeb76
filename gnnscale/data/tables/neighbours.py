"""Texts with the neighbours of a node a line, as METIS and NetworkX write graphs: no edges a line.

METIS: a line `nodes edges [format [weights a node]]`, then a line a node with its neighbours,
numbered from 1; every edge stands there twice (METIS 5.1.0, manual, section 4.5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gnnscale.data.tables.files import file_kind, opened
from gnnscale.errors import GnnscaleError, InputError

_HEAD = 1 << 18
_COLON = re.compile(r"\s*[^\s:,;|]+\s*:(\s+[^:]*)?")


def refuse_neighbours(path: Path, error: InputError | None = None) -> None:
    """Refuse a text that lists neighbours, as far as one sees.

    Args:
        path: of a table.
        error: what reading it as rows has said; without that, only what is sure is refused.

    Raises:
        InputError: it does, with the line that reads it.
    """
    if not path.is_file() or file_kind(path) != "text":
        return
    layout = layout_of(*head_of(path), sure=error is None)
    if layout is not None:
        what = {
            "metis": "as METIS writes graphs",
            "adjlist": "a node and its neighbours a line",
        }[layout]
        raise InputError(
            f"{path} {'may be' if error else 'is'} a list of neighbours, {what}, and no list of "
            f"edges: gnnscale.load({str(path)!r}, format={layout!r}) reads it"
            + (f". As a table: {error}" if error else "; for a list of edges, say source=, target=")
        ) from error


def head_of(path: Path) -> tuple[list[str], bool]:
    """The first lines of a text without comments, and whether they are all.

    Nothing of what cannot be read.
    """
    try:
        with opened(path) as file:
            content = file.read(_HEAD + 1)
    except (OSError, GnnscaleError):
        return [], False
    whole = len(content) <= _HEAD
    lines = content.decode("utf-8-sig", "replace").splitlines()
    lines = lines if whole else lines[:-1]
    return [line for line in lines if not is_comment(line)], whole


def is_comment(line: str | bytes) -> bool:
    """Whether a line is a comment, of METIS or of NetworkX."""
    mark = line.lstrip()[:1]
    return mark in ("%", "#") or mark in (b"%", b"#")


def layout_of(lines: Sequence[str], whole: bool, *, sure: bool = True) -> str | None:
    """What a text with these first lines is: metis, adjlist, or None of these.

    Args:
        lines: of it, without comments.
        whole: whether they are all.
        sure: whether nothing else may be meant.
    """
    filled = [line for line in lines if line.replace(",", " ").strip()]
    if len(filled) > 1 and all(map(_COLON.fullmatch, filled)):
        return "adjlist"
    if _is_metis(lines, whole, sure):
        return "metis"
    return None if sure or not _may_be_lists(filled) else "adjlist"


class MetisHead(NamedTuple):
    """The first line of a graph as METIS writes it.

    Attributes:
        nodes: how many there are.
        edges: likewise, each counted once.
        before: numbers of a line before its neighbours: the size and the weights of the node.
        weighted: whether a weight stands behind every neighbour.
    """

    nodes: int
    edges: int
    before: int
    weighted: bool

    @classmethod
    def read(cls, line: str) -> MetisHead | None:
        """It, out of its text; None where it is none."""
        cells = line.replace(",", " ").split()
        if not 2 <= len(cells) <= 4 or not all(re.fullmatch(r"[0-9]{1,18}", c) for c in cells):
            return None
        kind = cells[2].zfill(3) if len(cells) > 2 else "000"
        if len(kind) != 3 or {*kind} - {"0", "1"}:
            return None
        weights = (int(cells[3]) if len(cells) > 3 else 1) if kind[1] == "1" else 0
        return cls(int(cells[0]), int(cells[1]), int(kind[0]) + weights, kind[2] == "1")

    @property
    def numbers(self) -> int:
        """How many numbers there are in all lines below it."""
        return self.nodes * self.before + 2 * self.edges * (1 + self.weighted)


def _is_metis(lines: Sequence[str], whole: bool, sure: bool) -> bool:
    """Whether lines name other nodes, and each whose line is there names the first one, too."""
    head = MetisHead.read(lines[0]) if lines else None
    if head is None or not head.edges:
        return False
    rows = [line.replace(",", " ").split() for line in lines[1:]]
    while len(rows) > head.nodes and not rows[-1]:
        rows.pop()
    if not all(cell.isdecimal() for row in rows for cell in row):
        return False
    named = [row[head.before :: 1 + head.weighted] for row in rows]
    found = {(i, int(cell)) for i, row in enumerate(named, 1) for cell in row}
    if not all(1 <= j <= head.nodes and i != j for i, j in found):
        return False
    if whole and not (len(rows) == head.nodes and sum(map(len, rows)) == head.numbers):
        return False
    if not whole and len(rows) >= head.nodes:
        return False
    back = {(j, i) for i, j in found if j <= len(rows)}
    return back <= found and bool(back or not (whole or sure))


def _may_be_lists(lines: Sequence[str]) -> bool:
    """Rows of different lengths, each of a node of its own and others that have rows, too.

    A first line that is shorter than all others may be the numbers of nodes and edges.
    """
    rows = [line.replace(",", " ").split() for line in lines]
    first = {row[0] for row in rows}
    others = [cell for row in rows for cell in row[1:]]
    return (
        len(first) == len(rows) > 2
        and len({len(row) for row in rows[1:]}) > 1
        and max(map(len, rows)) > 2
        and sum(cell in first for cell in others) > len(others) / 2
    )

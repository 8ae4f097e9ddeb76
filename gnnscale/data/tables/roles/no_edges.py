"""Tables that are no list of edges: matrices, lists of neighbours, and edges below their number."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gnnscale.data.tables.roles.evidence import Look, as_ids, nameless
from gnnscale.data.tables.table import Table
from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow

_WIDE = 100  # columns of what is no list of edges, but for its rows


def refuse_matrix(table: Table, looks: Sequence[Look]) -> None:
    """Refuse a square table of numbers that may be a matrix.

    Its columns have no names but their numbers, or those that stand in front of its rows. It holds
    zeros and ones alone, is symmetric, has zeros where a node meets itself, numbers that are not
    whole where edges have ids, or columns of which nobody knows what edges have them for.

    Raises:
        InputError: it is one, saying how to read it as a matrix or as edges.
    """
    cells, named = _square(table, looks)
    size = len(cells)
    if size < 2 or any(look.moments for look in cells):
        return
    if size < _WIDE:
        values = np.stack([_values(look) for look in cells], axis=1)
        if np.isnan(values).any():
            return
        binary = np.isin(values, (0, 1)).all()
        # Two edges of which one goes on where the other ends are symmetric, too.
        like = np.array_equal(values, values.T) or not values.diagonal().any()
        ids = all(look.whole for look in cells[:2])
        more = [look for look in cells[2:] if (look.numbers != 1).any()]
        asked = len(more) > 1 or any(look.whole for look in more)
        if not (binary or named or not ids or (size > 2 and (like or asked))):
            return
    written = [repr(look.name) if named else look.column.number for look in cells[:3]]
    raise InputError(
        f"{table.what} has {size} rows and {size} columns of numbers{' and their names' * named}, "
        "as an adjacency matrix has. For a matrix, write its entries, scipy.sparse.save_npz("
        "'graph.npz', scipy.sparse.csr_array(matrix)), and give gnnscale.load('graph.npz'); for a "
        f"list of edges, say source={written[0]}, target={written[1]}"
        + (f", and what the others are, as weight={written[2]}" if size > 2 else "")
    )


def refuse_counts(table: Table, looks: Sequence[Look]) -> None:
    """Refuse numbers of nodes and of edges in the first row, as many programs write above edges.

    Raises:
        InputError: the rows below are so many, and name no greater node.
    """
    ends = [look for look in looks if not look.row_number]
    if len(ends) != 2 or not nameless(looks):
        return
    if not all(look.whole and look.complete for look in ends):
        return
    nodes, edges = (look.numbers for look in ends)
    if edges.size != nodes.size or edges.size < 3 or edges[0] != edges.size - 1:
        return
    if nodes[0] >= max(nodes[1:].max(), edges[1:].max()) > 1:
        raise InputError(
            f"{table.what}: its first row ({nodes[0]:.0f}, {edges[0]:.0f}) may be the numbers of "
            "nodes and edges, or an edge. Say header=True to leave it out, header=False to read it"
        )


def refuse_lists(table: Table, source: Look, target: Look) -> None:
    """Refuse neighbours in one cell, as "b,c": several ids that others are called by.

    Raises:
        InputError: all cells with commas, bars, semicolons or blanks consist of ids of others.
    """
    if target.column.kind != "text":
        return
    first, second = (
        as_ids(look.cells).drop_null().unique().to_pylist() for look in (source, target)
    )
    parts = {cell: re.findall(r"[^\s,;|\[\]{}()'\"]+", cell) for cell in second}
    known = {*first, *(cell for cell in second if len(parts[cell]) == 1)}
    several = [cell for cell in second if len(parts[cell]) > 1]
    if not several or not all(cell not in known and known >= {*parts[cell]} for cell in several):
        return
    name = target.name
    raise InputError(
        f"{table.what}: {name} holds {several[0]!r}, several ids of others in one cell: give each "
        f"a row of its own, as table.assign({name}=table[{name!r}].str.findall(r'[^\\s,;|]+'))"
        f".explode({name!r}) of pandas; where it is one id, say source=, target="
    )


def _square(table: Table, looks: Sequence[Look]) -> tuple[list[Look], bool]:
    """The columns of a square of numbers; and whether its rows are called as the columns."""
    rest = [look for look in looks if not look.row_number]
    for look in [k for k in looks if k.may_name_nodes or k.row_number]:
        others = [one for one in rest if one is not look]
        if len(others) < 2 or look.complete is not (len(look.cells) == len(others)):
            continue
        names = as_ids(look.cells).to_pylist()
        if names == [o.name for o in others[: len(names)]] and _numbers(others):
            return others, True
    numbered = all(re.fullmatch(f"f?{i}", look.name) for i, look in enumerate(rest))
    numbered = bool(rest) and numbered and _numbers(rest)
    fits = numbered and len(rest) == (
        len(rest[0].cells) if rest[0].complete or len(rest) < _WIDE else table.num_rows
    )
    return (rest if fits else []), False


def _numbers(looks: Sequence[Look]) -> bool:
    return all(look.is_number or look.column.kind == "bool" for look in looks)


def _values(look: Look) -> np.ndarray:
    found = look.cells.cast(pyarrow.float64(), safe=False).fill_null(np.nan)
    values: np.ndarray = found.to_numpy(zero_copy_only=False)
    return values

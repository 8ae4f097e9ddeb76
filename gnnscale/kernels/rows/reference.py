"""Rows and edges sorted, moved and renumbered in plain NumPy, for small arrays.

All of it is in place, on arrays that are mapped, or read, piece by piece.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray

from gnnscale.kernels.structure.reference import asymmetry


def sort_rows(indptr: ndarray, cols: ndarray) -> None:
    """Sort the columns of every row, in place."""
    for i in range(len(indptr) - 1):
        cols[indptr[i] : indptr[i + 1]].sort()


def sorting_order(indptr: ndarray, cols: ndarray, order: ndarray) -> None:
    """Fill ``order`` with the permutation that sorts the columns of every row, stably."""
    for a, b in pairwise(indptr):
        order[a:b] = np.argsort(cols[a:b], kind="stable") + a


def order_by_part(
    assignment: ndarray, first: ndarray, cursor: ndarray, order: ndarray, position: ndarray
) -> None:
    """Order nodes by part, those marked ``first`` ahead in each; stable.

    Args:
        assignment: int32 ``[nodes]``.
        first: bool ``[nodes]``.
        cursor: int64 ``[2 * parts + 1]``, zero: filled; part p begins at ``cursor[2 * p]``, its
            other nodes at ``cursor[2 * p + 1]``.
        order: int64 ``[nodes]``: filled with the nodes in the new order.
        position: integer ``[nodes]``: filled with the place of every node in it.
    """
    key = 2 * assignment + ~first
    order[:] = np.argsort(key, kind="stable")
    position[order] = np.arange(order.size)
    cursor[1:] = np.cumsum(np.bincount(key, minlength=cursor.size - 1))


def copy_rows(
    start: ndarray, stop: ndarray, source: ndarray, width: int, put: ndarray, out: ndarray
) -> None:
    """Copy entries ``start[i]`` up to ``stop[i]`` to ``put[i]`` and on, for every i.

    Args:
        start: int64 ``[rows]``.
        stop: int64 ``[rows]``.
        source: ``[entries * width]``.
        width: items an entry.
        put: int64 ``[rows]``.
        out: as ``source``: filled.
    """
    for a, b, c in zip(start * width, stop * width, put * width, strict=True):
        out[c : c + b - a] = source[a:b]


def renumber(ids: ndarray, new_id: ndarray) -> None:
    """Replace every id by its new one, in place."""
    ids[:] = new_id[ids]


def spread_edges(
    source: ndarray,
    target: ndarray,
    weight: ndarray,
    both: bool,
    shift: int,
    counts: ndarray,
    row: ndarray,
    col: ndarray,
    value: ndarray,
) -> int:
    """Write edges ordered by bucket of rows: row i lies in bucket ``i >> shift``; stable.

    Args:
        source: integer ``[edges]``.
        target: integer ``[edges]``, the row of each edge.
        weight: float ``[edges]``, or ``[0]`` for none.
        both: whether the reverse of every edge but self-loops is one as well.
        shift: see above.
        counts: int64 ``[buckets]``, zero: filled with the directed edges in each.
        row: unsigned ``[directed edges]`` at least: filled with the lowest bits of their rows.
        col: integer, as long: filled with their columns.
        value: float, as long, or ``[0]``: filled with their weights.

    Returns:
        How many directed edges there are.
    """
    ways = np.stack([[target, source], [source, target]][: 1 + both], 2)  # the reverse beside each
    kept = np.stack([np.ones(source.size, bool), source != target][: 1 + both], 1).ravel()
    rows, cols = ways.reshape(2, -1)[:, kept]
    order = np.argsort(rows >> shift, kind="stable")
    counts += np.bincount(rows >> shift, minlength=counts.size)
    row[: order.size], col[: order.size] = rows[order].astype(row.dtype), cols[order]
    if weight.size:
        value[: order.size] = np.repeat(weight, 1 + both)[kept][order]
    return order.size


def sort_edges(
    row: ndarray,
    col: ndarray,
    value: ndarray,
    first: int,
    bits: int,
    pointers: ndarray,
    cols: ndarray,
    values: ndarray,
) -> None:
    """Put the entries of some rows in order: by row, column and value.

    By column, some bits after the others, and last by row, each time stably (LSD radix sort).

    Args:
        row: unsigned ``[entries]``: the lowest bits of the row of each.
        col: integer ``[entries]``.
        value: float ``[entries]``, or ``[0]`` for none.
        first: the first of the rows.
        bits: how many a column may have.
        pointers: int64 ``[rows + 1]``, zero: filled with where each row begins. The rows are no
            more than `row` tells apart.
        cols: integer ``[entries]``: filled.
        values: float ``[entries]``, or ``[0]``: filled.
    """
    rows = row - row.dtype.type(first % 2 ** (8 * row.itemsize))  # which wraps
    order = np.lexsort((*((value,) if value.size else ()), col, rows))
    pointers[1:] = np.cumsum(np.bincount(rows, minlength=pointers.size - 1))
    cols[:] = col[order]
    if value.size:
        values[:] = value[order]


def edge_asymmetry(source: ndarray, target: ndarray, weight: ndarray) -> int:
    """Hashes of edges less those of their reverse, modulo 2^64: see `structure.asymmetry`.

    Args:
        source: integer ``[edges]``.
        target: integer ``[edges]``.
        weight: float ``[edges]``, or ``[0]`` for none.
    """
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=1)
    pointers = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
    value = torch.from_numpy(weight[order]) if weight.size else None
    return asymmetry(pointers, torch.from_numpy(source[order]), value, 0)


def every_second(indptr: ndarray, cols: ndarray, values: ndarray, first: int) -> int:
    """Keep every second of the equal columns of sorted rows, in place, and all on the diagonal.

    Args:
        indptr: int64 ``[rows + 1]``: changed with them.
        cols: integer ``[entries]``.
        values: float ``[entries]``, ascending where columns are equal, or ``[0]``.
        first: the number of the first row.

    Returns:
        How many are left.
    """
    rows = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    kept = np.ones(rows.size, bool)
    for k in range(1, rows.size):
        equal = rows[k] == rows[k - 1] and cols[k] == cols[k - 1]
        kept[k] = rows[k] + first == cols[k] or not (equal and kept[k - 1])
    left = int(kept.sum())
    cols[:left] = cols[: rows.size][kept]
    if values.size:
        values[:left] = values[: rows.size][kept]
    indptr[1:] = np.cumsum(np.bincount(rows[kept], minlength=indptr.size - 1))
    return left


def merge_equal(indptr: ndarray, cols: ndarray, values: ndarray) -> int:
    """Merge equal columns of sorted rows in place, adding their values; returns how many are left.

    ``indptr`` is changed with them.
    """
    rows = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    own = slice(indptr[0], indptr[-1])
    new = np.ones(rows.size, bool)
    new[1:] = (rows[1:] != rows[:-1]) | (cols[own][1:] != cols[own][:-1])
    left = int(new.sum())
    if values.size and left:
        values[:left] = np.add.reduceat(values[own], np.flatnonzero(new))
    cols[:left] = cols[own][new]
    indptr[1:] = np.cumsum(np.bincount(rows[new], minlength=indptr.size - 1))
    return left

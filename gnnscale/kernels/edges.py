"""Sorting edges piece by piece: spread over buckets of rows, then put in order within some.

Floors, bytes moved, where a piece fits the processor's cache: `spread_edges` reads an edge (8 bytes
of 32-bit ids) twice and writes each directed edge once (6: its row within 2^16, and its column);
`sort_edges` moves that once for every 11 bits of a column, and writes the columns (4).
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numpy as np

from gnnscale.kernels.threads import njit_serial

_MOST_BITS = 11  # of a column at once: their counts fit the smallest cache


@njit_serial
def spread_edges(source, target, weight, both, shift, counts, row, col, value):
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
    weighted = weight.shape[0] > 0
    for k in range(source.shape[0]):
        counts[np.uintp(target[k] >> shift)] += 1
        if both and source[k] != target[k]:
            counts[np.uintp(source[k] >> shift)] += 1
    cursor = (np.cumsum(counts) - counts).astype(np.uintp)
    for k in range(source.shape[0]):
        for way in range(1 + (both and source[k] != target[k])):
            i, j = (source[k], target[k]) if way else (target[k], source[k])
            bucket = np.uintp(i >> shift)
            at = cursor[bucket]
            cursor[bucket] = at + np.uintp(1)
            row[at] = i
            col[at] = j
            if weighted:
                value[at] = weight[k]
    return counts.sum()


@njit_serial
def sort_edges(row, col, value, first, bits, pointers, cols, values):
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
    entries = row.shape[0]
    weighted = value.shape[0] > 0
    passes = max(1, -(-bits // _MOST_BITS))
    width = -(-bits // passes)
    lowest = np.uintp((1 << width) - 1)
    own, one = np.uintp((1 << (8 * row.itemsize)) - 1), np.uintp(1)
    base = np.uintp(first)
    cursors = np.zeros((passes, 1 << width), np.uintp)
    for p in range(passes):
        cursor = cursors[p]
        for k in range(entries):
            cursor[np.uintp(col[k]) >> np.uintp(p * width) & lowest] += one
    for k in range(entries):
        pointers[(np.uintp(row[k]) - base & own) + one] += 1
    pointers[:] = np.cumsum(pointers)

    other_row, other_col, other_value = row, col, value
    for p in range(passes):
        cursor = cursors[p]
        cursor[:] = np.cumsum(cursor) - cursor
        if p < 2:  # what was given is kept as it is
            to_row, to_col, to_value = np.empty_like(row), np.empty_like(col), np.empty_like(value)
        else:
            to_row, to_col, to_value = other_row, other_col, other_value
        for k in range(entries):
            digit = np.uintp(col[k]) >> np.uintp(p * width) & lowest
            at = cursor[digit]
            cursor[digit] = at + one
            to_row[at] = row[k]
            to_col[at] = col[k]
            if weighted:
                to_value[at] = value[k]
        other_row, other_col, other_value = row, col, value
        row, col, value = to_row, to_col, to_value

    cursor = pointers[:-1].astype(np.uintp)
    for k in range(entries):
        i = np.uintp(row[k]) - base & own
        at = cursor[i]
        cursor[i] = at + one
        cols[at] = col[k]
        if weighted:
            values[at] = value[k]
    if weighted:
        _sort_parallel(pointers, cols, values)


@njit_serial
def _sort_parallel(pointers, cols, values):
    """Sort the values of parallel edges, in place."""
    for i in range(pointers.shape[0] - 1):
        start = pointers[i]
        for k in range(start + 1, pointers[i + 1] + 1):
            if k == pointers[i + 1] or cols[k] != cols[start]:
                if k - start > 1:
                    values[start:k].sort()
                start = k


@njit_serial
def merge_equal(indptr, cols, values):
    """Merge equal columns of sorted rows in place, adding their values; returns how many are left.

    ``indptr`` is changed with them.
    """
    weighted = values.shape[0] > 0
    at = 0
    begin = indptr[0]
    for i in range(indptr.shape[0] - 1):
        end = indptr[i + 1]
        row_start = at
        for k in range(begin, end):
            if at > row_start and cols[at - 1] == cols[k]:
                if weighted:
                    values[at - 1] += values[k]
                continue
            cols[at] = cols[k]
            if weighted:
                values[at] = values[k]
            at += 1
        begin = end
        indptr[i + 1] = at
    return at

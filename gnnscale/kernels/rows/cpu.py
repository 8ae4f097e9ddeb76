"""Rows and edges sorted, moved and renumbered on the CPU.

Floors: bytes moved; of `sort_rows`, comparisons: about log2(row length) an entry. Where a piece
fits the processor's cache, `spread_edges` reads an edge (8 bytes of 32-bit ids) twice and writes
each directed edge once (6: its row within 2^16, and its column); `sort_edges` moves that once for
every 11 bits of a column, and writes the columns (4).
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np

from gnnscale.kernels.structure.cpu import hash_entry
from gnnscale.kernels.threads import njit_parallel, njit_serial

_MOST_BITS = 11  # of a column at once: their counts fit the smallest cache


@njit_parallel
def sort_rows(indptr, cols):
    """See the reference."""
    for i in numba.prange(indptr.shape[0] - 1):
        cols[indptr[i] : indptr[i + 1]].sort()


@njit_serial
def order_by_part(assignment, first, cursor, order, position):
    """See the reference."""
    for node in range(assignment.shape[0]):
        cursor[2 * assignment[node] + (0 if first[node] else 1) + 1] += 1
    for key in range(1, cursor.shape[0]):
        cursor[key] += cursor[key - 1]
    for node in range(assignment.shape[0]):
        key = 2 * assignment[node] + (0 if first[node] else 1)
        order[cursor[key]] = node
        position[node] = cursor[key]
        cursor[key] += 1
    for key in range(cursor.shape[0] - 1, 0, -1):
        cursor[key] = cursor[key - 1]
    cursor[0] = 0


@njit_parallel
def copy_rows(start, stop, source, width, put, out):
    """See the reference."""
    for i in numba.prange(start.shape[0]):
        shift = (put[i] - start[i]) * width
        for k in range(start[i] * width, stop[i] * width):
            out[k + shift] = source[k]


@njit_parallel
def renumber(ids, new_id):
    """See the reference."""
    for k in numba.prange(ids.shape[0]):
        ids[k] = new_id[ids[k]]


@njit_parallel
def sorting_order(indptr, cols, order):
    """See the reference."""
    for i in numba.prange(indptr.shape[0] - 1):
        a, b = indptr[i], indptr[i + 1]
        order[a:b] = np.argsort(cols[a:b], kind="mergesort") + a


@njit_serial
def spread_edges(source, target, weight, both, shift, counts, row, col, value):
    """See the reference."""
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
    """See the reference."""
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


def edge_asymmetry(source, target, weight):
    """See the reference."""
    bits = (weight.astype(np.float64) + 0.0).view(np.uint64)  # those of -0.0 being 0.0's
    return int(_edge_asymmetry(source, target, bits))


@njit_serial
def _edge_asymmetry(source, target, bits):
    total = np.uint64(0)
    weighted = bits.shape[0] > 0
    for k in range(source.shape[0]):
        value = bits[k] if weighted else np.uint64(0)
        row, col = np.uint64(target[k]), np.uint64(source[k])
        total += hash_entry(row, col, value) - hash_entry(col, row, value)
    return total


@njit_serial
def every_second(indptr, cols, values, first):
    """See the reference."""
    return _without_equal(indptr, cols, values, first, False)


@njit_serial
def merge_equal(indptr, cols, values):
    """See the reference."""
    return _without_equal(indptr, cols, values, 0, True)


@njit_serial
def _without_equal(indptr, cols, values, first, merging):
    """Of equal entries drop all but the first, whose value grows; or every second but of loops."""
    weighted = values.shape[0] > 0
    at = 0
    begin = indptr[0]
    for i in range(indptr.shape[0] - 1):
        end = indptr[i + 1]
        pending = False  # whether the entry before is one that an equal one goes with
        for k in range(begin, end):
            equal = k > begin and cols[k] == cols[k - 1]
            if equal and pending and (merging or cols[k] != first + i):
                pending = merging
                if merging and weighted:
                    values[at - 1] += values[k]
                continue
            pending = True
            cols[at] = cols[k]
            if weighted:
                values[at] = values[k]
            at += 1
        begin = end
        indptr[i + 1] = at
    return at

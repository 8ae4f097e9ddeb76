"""Moving the rows of sparse matrices that are built or renumbered piece by piece.

Floors, bytes moved: `spread_edges` reads an edge (8 bytes of 32-bit ids) twice and writes each
directed edge once (8); `place_edges` reads it and writes its column (4, at random within the rows
in hand); `sort_rows` is bound by comparisons, not bytes: about log2(row length) of them an entry.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np

from gnnscale.kernels.threads import njit_parallel, njit_serial


@njit_parallel
def count_edges(source, target, both, shift, counts):
    """Count edges by bucket of rows: row i lies in bucket ``i >> shift``.

    The edges are cut into as many blocks as ``counts`` has rows, one for each thread.

    Args:
        source: integer ``[edges]``.
        target: integer ``[edges]``, the row of each edge.
        both: whether the reverse of every edge but self-loops is one as well.
        shift: see above.
        counts: int64 ``[blocks, buckets]``, zero: filled.
    """
    blocks = counts.shape[0]
    size = (source.shape[0] + blocks - 1) // blocks
    for block in numba.prange(blocks):
        for k in range(block * size, min((block + 1) * size, source.shape[0])):
            counts[block, target[k] >> shift] += 1
            if both and source[k] != target[k]:
                counts[block, source[k] >> shift] += 1


@njit_parallel
def spread_edges(source, target, weight, both, shift, cursor, row, col, value):
    """Write edges ordered by bucket, as `count_edges` counted them; stable.

    Args:
        source: integer ``[edges]``.
        target: integer ``[edges]``.
        weight: float ``[edges]``, or ``[0]`` for none.
        both: see `count_edges`.
        shift: see `count_edges`.
        cursor: int64 ``[blocks, buckets]``: where the edges of a block in a bucket go; moved on.
        row: integer ``[directed edges]``: filled with the row of each.
        col: integer ``[directed edges]``: filled with its column.
        value: float ``[directed edges]``, or ``[0]``: filled with its weight.
    """
    blocks = cursor.shape[0]
    size = (source.shape[0] + blocks - 1) // blocks
    weighted = weight.shape[0] > 0
    for block in numba.prange(blocks):
        for k in range(block * size, min((block + 1) * size, source.shape[0])):
            bucket = target[k] >> shift
            at = cursor[block, bucket]
            cursor[block, bucket] = at + 1
            row[at] = target[k]
            col[at] = source[k]
            if weighted:
                value[at] = weight[k]
            if both and source[k] != target[k]:
                bucket = source[k] >> shift
                at = cursor[block, bucket]
                cursor[block, bucket] = at + 1
                row[at] = source[k]
                col[at] = target[k]
                if weighted:
                    value[at] = weight[k]


@njit_serial
def count_rows(row, first, counts):
    """Add the entries of every row to ``counts``; row ``first`` is the first that it counts."""
    for k in range(row.shape[0]):
        counts[row[k] - first] += 1


@njit_serial
def place_edges(row, col, value, first, cursor, cols, values):
    """Write the entries of the rows ``first`` up to ``first + len(cursor)`` where they belong.

    Args:
        row: integer ``[entries]``; entries of other rows are passed over.
        col: integer ``[entries]``.
        value: float ``[entries]``, or ``[0]``.
        first: the first row in hand.
        cursor: int64 ``[rows]``: where the next entry of each row goes; moved on.
        cols: integer, filled.
        values: float, filled where there are values.
    """
    weighted = value.shape[0] > 0
    rows = cursor.shape[0]
    for k in range(row.shape[0]):
        i = row[k] - first
        if 0 <= i < rows:
            cols[cursor[i]] = col[k]
            if weighted:
                values[cursor[i]] = value[k]
            cursor[i] += 1


@njit_parallel
def sort_rows(indptr, cols):
    """Sort the columns of every row, in place."""
    for i in numba.prange(indptr.shape[0] - 1):
        cols[indptr[i] : indptr[i + 1]].sort()


@njit_parallel
def sort_weighted_rows(indptr, cols, values):
    """Sort every row by column, equal columns by value: the same however the entries came."""
    for i in numba.prange(indptr.shape[0] - 1):
        a, b = indptr[i], indptr[i + 1]
        order = np.argsort(cols[a:b])
        cols[a:b] = cols[a:b][order]
        values[a:b] = values[a:b][order]
        start = a
        for k in range(a + 1, b + 1):
            if k == b or cols[k] != cols[start]:
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


@njit_serial
def order_by_part(assignment, first, cursor, order, position):
    """Order nodes by part, those marked ``first`` ahead in each; stable.

    Args:
        assignment: int32 ``[nodes]``.
        first: bool ``[nodes]``.
        cursor: int64 ``[2 * parts + 1]``, zero: filled; part p begins at ``cursor[2 * p]``, its
            other nodes at ``cursor[2 * p + 1]``.
        order: int64 ``[nodes]``: filled with the nodes in the new order.
        position: integer ``[nodes]``: filled with the place of every node in it.
    """
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
    """Copy entries ``start[i]`` up to ``stop[i]`` to ``put[i]`` and on, for every i.

    Args:
        start: int64 ``[rows]``.
        stop: int64 ``[rows]``.
        source: ``[entries * width]``.
        width: items an entry.
        put: int64 ``[rows]``.
        out: as ``source``: filled.
    """
    for i in numba.prange(start.shape[0]):
        shift = (put[i] - start[i]) * width
        for k in range(start[i] * width, stop[i] * width):
            out[k + shift] = source[k]


@njit_parallel
def renumber(ids, new_id):
    """Replace every id by its new one, in place."""
    for k in numba.prange(ids.shape[0]):
        ids[k] = new_id[ids[k]]


@njit_parallel
def sorting_order(indptr, cols, order):
    """Fill ``order`` with the permutation that sorts the columns of every row, stably."""
    for i in numba.prange(indptr.shape[0] - 1):
        a, b = indptr[i], indptr[i + 1]
        order[a:b] = np.argsort(cols[a:b], kind="mergesort") + a


@njit_parallel
def hash_asymmetry(indptr, indices, bits, first, totals):
    """Add up the hash of every entry less that of its transpose, modulo 2^64, block by block.

    Over a whole matrix the sum is 0 where it equals its transpose, and by chance alone (2^-64)
    where it does not. Sums of integers do not depend on the order.

    Args:
        indptr: int64 ``[rows + 1]`` of the rows in hand.
        indices: integer ``[entries]``.
        bits: uint64 ``[entries]``, the values; ``[0]`` where all are one.
        first: the row of the matrix that the first in hand is.
        totals: uint64 ``[blocks]``, zero: filled; the sum of them is wanted.
    """
    rows, blocks = indptr.shape[0] - 1, totals.shape[0]
    size = (rows + blocks - 1) // blocks
    weighted = bits.shape[0] > 0
    base = indptr[0]
    for block in numba.prange(blocks):
        total = np.uint64(0)
        for i in range(block * size, min((block + 1) * size, rows)):
            for k in range(indptr[i] - base, indptr[i + 1] - base):
                value = bits[k] if weighted else np.uint64(0)
                row, col = np.uint64(first + i), np.uint64(indices[k])
                total += _hash(row, col, value) - _hash(col, row, value)
        totals[block] = total


@njit_serial
def _hash(row, col, value):
    # Two rounds of splitmix64's finaliser, the column and the value mixed in between.
    z = row * np.uint64(0x9E3779B97F4A7C15) + value
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) + col * np.uint64(0x9FB21C651E98DF25)
    z = (z ^ (z >> np.uint64(28))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

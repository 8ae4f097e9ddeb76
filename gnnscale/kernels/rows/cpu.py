"""Moving the rows of sparse matrices that are built or renumbered piece by piece.

Floors: bytes moved; of `sort_rows`, comparisons: about log2(row length) an entry.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np

from gnnscale.kernels.threads import njit_parallel, njit_serial


@njit_parallel
def sort_rows(indptr, cols):
    """Sort the columns of every row, in place."""
    for i in numba.prange(indptr.shape[0] - 1):
        cols[indptr[i] : indptr[i + 1]].sort()


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

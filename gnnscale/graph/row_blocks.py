"""Rows of a sparse matrix by range: views of one in memory, copies of what lies in a file."""

from __future__ import annotations

from collections.abc import Iterator

from gnnscale.graph.mapped import is_mapped, read_rows
from gnnscale.kernels import CSR

_ENTRIES = 1 << 22  # of a block: what is derived of each takes tens of bytes


def slice_rows(a: CSR, start: int, stop: int) -> CSR:
    """Rows `start` to `stop` (exclusive) of a matrix, which may lie in a file."""
    pointers = read_rows(a.indptr, start, stop + 1)
    first, last = int(pointers[0]), int(pointers[-1])
    values = None if a.values is None else read_rows(a.values, first, last)
    indptr = pointers - first if first else pointers
    return CSR(indptr, read_rows(a.indices, first, last), values, (stop - start, a.shape[1]))


def row_blocks(a: CSR) -> Iterator[tuple[int, int, CSR]]:
    """Yield `(start, stop, rows)` over a matrix, in blocks of some million entries.

    What takes several bytes an entry stays small that way, whatever the graph.
    """
    rows = a.shape[0]
    at_once = max(1, rows * _ENTRIES // max(a.nnz, 1))
    if at_once >= rows and not is_mapped(a.indices):  # on a GPU nothing waits for its sizes
        yield 0, rows, a
        return
    for start in range(0, rows, at_once):
        stop = min(start + at_once, rows)
        yield start, stop, slice_rows(a, start, stop)

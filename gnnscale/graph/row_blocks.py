"""Rows of a sparse matrix by range: views of one in memory, copies of what lies in a file."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped, read_rows, release

_MOST = 1 << 22  # entries of a block, and rows: what is derived of each takes tens of bytes


def slice_rows(a: CSR, start: int, stop: int) -> CSR:
    """Rows `start` to `stop` (exclusive) of a matrix, which may lie in a file."""
    pointers = read_rows(a.indptr, start, stop + 1)
    first, last = int(pointers[0]), int(pointers[-1])
    values = None if a.values is None else read_rows(a.values, first, last)
    indptr = pointers - first if first else pointers
    return CSR(indptr, read_rows(a.indices, first, last), values, (stop - start, a.shape[1]))


def release_all(*values: torch.Tensor | CSR | None) -> None:
    """Let go of the resident pages of whatever lies in files among these."""
    for value in values:
        if isinstance(value, CSR):
            release_all(value.indptr, value.indices, value.values)
        elif value is not None:
            release(value)


def row_blocks(a: CSR) -> Iterator[tuple[int, int, CSR]]:
    """Yield `(start, stop, rows)` over a matrix, in blocks of some million entries, or of one row.

    What takes several bytes an entry stays small that way, whatever the graph.
    """
    rows, start = a.shape[0], 0
    if max(rows, a.nnz) <= _MOST and not is_mapped(a.indices):  # a GPU waits for no sizes then
        yield 0, rows, a
        return
    while start < rows:
        room = int(a.indptr[start]) + _MOST
        stop = int(torch.searchsorted(a.indptr, room, right=True)) - 1
        stop = min(max(stop, start + 1), start + _MOST, rows)
        yield start, stop, slice_rows(a, start, stop)
        start = stop

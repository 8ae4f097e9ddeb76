"""Rows of a structure in blocks, so that one which lies in a file is read and never resident.

A pass over the blocks costs the bytes of the indices once, from the page cache or from disk, and
one buffer of `ENTRIES` in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gnnscale.storage.mapped import is_mapped, read_rows, release

#: Entries of a block: 4 MiB, which a second-level cache nearly holds and a disk reads at its speed.
ENTRIES = 1 << 20


class RowBlock(NamedTuple):
    """Rows `start` up to `start + len(indptr) - 1`.

    Entries of row i are `indices[indptr[i - start] - indptr[0] : indptr[i - start + 1] -
    indptr[0]]`; they are overwritten when the next block is read.
    """

    start: int
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]


class RowBlocks:
    """The blocks of a structure: as many whole rows as `entries` hold, one row at least."""

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[np.int32], entries: int = ENTRIES
    ) -> None:
        self._indptr, self._indices = indptr, torch.from_numpy(indices)
        bounds = [0]
        while bounds[-1] < len(indptr) - 1:
            room = int(indptr[bounds[-1]]) + entries
            bounds.append(max(bounds[-1] + 1, int(np.searchsorted(indptr, room, "right")) - 1))
        #: First row of every block, and the number of rows.
        self.bounds = np.array(bounds)
        self._buffer = torch.empty(0, dtype=self._indices.dtype)
        if is_mapped(self._indices):
            widest = int(np.diff(indptr[self.bounds]).max(initial=0))
            self._buffer = torch.empty(widest, dtype=self._indices.dtype)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, number: int) -> RowBlock:
        start, stop = (int(row) for row in self.bounds[number : number + 2])
        indptr = self._indptr[start : stop + 1]
        first, last = int(indptr[0]), int(indptr[-1])
        out = self._buffer[: last - first] if len(self._buffer) else None
        return RowBlock(start, indptr, read_rows(self._indices, first, last, out).numpy())

    def __iter__(self) -> Iterator[RowBlock]:
        return (self[number] for number in range(len(self)))


def entry_blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The entries of any array in order, a block at a time, overwritten when the next is read."""
    flags = array.flags
    lies_in_file = flags.writeable and flags.c_contiguous and is_mapped(torch.from_numpy(array))
    buffer = torch.from_numpy(np.empty(ENTRIES, array.dtype)) if lies_in_file else None
    for start in range(0, len(array), ENTRIES):
        stop = min(start + ENTRIES, len(array))
        if buffer is None:
            yield array[start:stop]
        else:
            yield read_rows(torch.from_numpy(array), start, stop, buffer[: stop - start]).numpy()


def let_go(*arrays: NDArray[Any]) -> None:
    """Release the pages of arrays that lie in files."""
    for array in arrays:
        release(torch.from_numpy(array))

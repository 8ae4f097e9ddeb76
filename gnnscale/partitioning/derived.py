"""Structures made of one that lies in a file: in a file too, so that memory does not bound them.

The files have no name once they are made: the disk has their space back when the arrays are gone.
Floor of an induced structure: 4 bytes an entry read, and those kept written and hashed. Of a
symmetrised one: that of the external sort (see `edge_sort`) of every entry in both directions. What
a native partitioner reads is a copy in its own format: 4 bytes an entry out of the page cache are
little beside its work, and repair reads the rows when the worker's file is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gnnscale.graph.build.edge_sort import Edges, write_edges
from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.native.launch import work_folder
from gnnscale.partitioning.rows import RowBlocks, let_go
from gnnscale.storage.array_folder import ArrayFolder, open_arrays
from gnnscale.storage.files import read_json

_SORT = 256 << 20  # bytes of memory that a sort takes

#: `indptr` int64 `[n + 1]` and `indices` int32 `[m]`.
Rows = tuple[NDArray[np.int64], NDArray[np.int32]]


def symmetrised(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> Rows:
    """The pattern of A + Aᵀ, duplicates merged, self-loops removed, rows sorted.

    Raises:
        PartitionError: a scratch file cannot be written.
    """

    def write(folder: ArrayFolder) -> None:
        write_edges(folder, len(indptr) - 1, _edges(indptr, indices), True, True, _SORT)

    return _in_file(write, indptr, indices)


def induced(indptr: NDArray[np.int64], indices: NDArray[np.int32], kept: NDArray[np.bool_]) -> Rows:
    """The rows and columns of some nodes, in their order and numbered by it.

    Args:
        indptr: int64 `[n + 1]`.
        indices: int32 `[m]`.
        kept: bool `[n]`.

    Raises:
        PartitionError: a scratch file cannot be written.
    """
    number = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    num_rows = int(np.count_nonzero(kept))

    def write(folder: ArrayFolder) -> None:
        total = 0
        with (
            folder.array("indptr", np.dtype(np.int64), (num_rows + 1,)) as pointers,
            folder.array("indices", np.dtype(np.int32), (None,)) as entries,
        ):
            pointers.append(np.zeros(1, np.int64))
            for start, rows, columns in RowBlocks(indptr, indices):
                ends = np.empty(np.count_nonzero(kept[start : start + len(rows) - 1]), np.int64)
                found = np.empty(len(columns), np.int32)
                count = _keep(start, rows, columns, kept, number, ends, found)
                pointers.append(ends + total)
                entries.append(found[:count])
                total += count

    return _in_file(write, indptr, indices)


def _in_file(write: Callable[[ArrayFolder], None], *given: NDArray[np.integer]) -> Rows:
    """Map `indptr` and `indices` as they were written, and take their names away."""
    with work_folder(*given) as path:
        folder = ArrayFolder(path, "a structure")
        write(folder)
        folder.finish()
        arrays = open_arrays(path, read_json(path / "meta.json"), None)  # nobody else has seen it
    let_go(*given)
    return arrays["indptr"].numpy(), arrays["indices"].numpy()


def _edges(indptr: NDArray[np.int64], indices: NDArray[np.int32]) -> Iterator[Edges]:
    for start, rows, columns in RowBlocks(indptr, indices):
        row = np.repeat(np.arange(start, start + len(rows) - 1, dtype=np.int32), np.diff(rows))
        straight = columns != row
        yield columns[straight], row[straight], None, None


@njit_serial
def _keep(start, indptr, indices, kept, number, ends, found):
    """Take what is kept of a block of rows; returns how many entries that is."""
    row, count = 0, 0
    for r in range(len(indptr) - 1):
        if kept[start + r]:
            for e in range(indptr[r] - indptr[0], indptr[r + 1] - indptr[0]):
                if kept[indices[e]]:
                    found[count] = number[indices[e]]
                    count += 1
            ends[row] = count
            row += 1
    return count

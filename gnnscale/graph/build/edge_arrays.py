"""Edge lists in `.npy` files, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gnnscale.errors import InputError, StoreError
from gnnscale.storage.files import expanded

_EDGES_AT_ONCE = 1 << 21


def edge_chunks(path: str | Path) -> Iterator[tuple[np.ndarray, ...]]:
    """Read an edge list that may be larger than memory.

    Args:
        path: an .npy of integers `[2, num_edges]` or `[num_edges, 2]` (two edges are read as the
            former).

    Yields:
        `(source, target)`, int64 `[k]`, for `build_graph`.

    Raises:
        InputError: it is of another kind or shape.
        StoreError: it is missing or damaged.
    """
    path = expanded(path)
    if path.suffix != ".npy":
        raise InputError(f"{path} is no .npy; gs.from_edge_list({str(path)!r}) reads tables")
    if not path.is_file():
        raise StoreError(f"{path} is missing")
    return _npy_chunks(path)


def _npy_chunks(path: Path) -> Iterator[tuple[np.ndarray, ...]]:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if version == (2, 0):
                read = np.lib.format.read_array_header_2_0
            shape, columns_first, dtype = read(file)
            start = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if len(shape) != 2 or 2 not in shape or dtype.kind not in "iu":
        raise InputError(f"{path} is {dtype} {shape}; an edge list is integers [2, num_edges]")
    expected = start + dtype.itemsize * shape[0] * shape[1]
    if path.stat().st_size != expected:
        raise StoreError(f"{path} has {path.stat().st_size:,} bytes; its header says {expected:,}")
    rows = shape[0] == 2
    num_edges = shape[1] if rows else shape[0]
    together = rows == columns_first  # source and target of an edge lie side by side
    for first in range(0, num_edges, _EDGES_AT_ONCE):
        count = min(_EDGES_AT_ONCE, num_edges - first)
        if together:
            pairs = _read(path, dtype, start, 2 * first, 2 * count).reshape(count, 2)
            yield pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        else:
            yield (
                _read(path, dtype, start, first, count).astype(np.int64, copy=False),
                _read(path, dtype, start, num_edges + first, count).astype(np.int64, copy=False),
            )


def _read(path: Path, dtype: np.dtype, start: int, first: int, count: int) -> np.ndarray:
    return np.fromfile(path, dtype, count, offset=start + first * dtype.itemsize)

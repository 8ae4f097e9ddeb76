"""Edge lists in files, read chunk by chunk: .npy, and text with one edge a line."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.errors import InputError, StoreError
from gnnscale.graph.files import checked_path

_EDGES_AT_ONCE = 1 << 21
_TEXT = {".csv": ",", ".tsv": "\t", ".txt": r"\s+"}


def edge_chunks(path: str | Path) -> Iterator[tuple[np.ndarray, ...]]:
    """Read an edge list that may be larger than memory.

    Args:
        path: an .npy of integers `[2, num_edges]` or `[num_edges, 2]` (two edges are read as the
            former); or text, .csv, .tsv or .txt, also .gz, without a header: source, target and,
            where there is a third column, weight.

    Yields:
        `(source, target)`, int64 `[k]`, or `(source, target, weight)`, for `build_graph`.

    Raises:
        InputError: it is of another kind or shape.
        StoreError: it is missing or damaged.
    """
    path = checked_path(path).expanduser()
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind != ".npy" and kind not in _TEXT:
        raise InputError(
            f"{path} is no edge list: give .npy, .csv, .tsv or .txt, the latter .gz too"
        )
    if not path.is_file():
        raise StoreError(f"{path} is missing")
    return _npy_chunks(path) if kind == ".npy" else _text_chunks(path, _TEXT[kind])


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


def _text_chunks(path: Path, separator: str) -> Iterator[tuple[np.ndarray, ...]]:
    import pandas  # half a second to import

    try:
        reader: Any = pandas.read_csv(
            path, sep=separator, header=None, comment="#", chunksize=_EDGES_AT_ONCE
        )
        with reader:
            for chunk in reader:
                columns = [chunk[name].to_numpy() for name in chunk]
                if len(columns) not in (2, 3):
                    raise InputError(
                        f"{path} has {len(columns)} columns; an edge list has source, target and "
                        "perhaps weight"
                    )
                yield tuple(columns)
    except pandas.errors.EmptyDataError:
        return  # no edges
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:  # pandas' own are ValueErrors
        raise StoreError(f"{path} cannot be read as an edge list: {error}") from error

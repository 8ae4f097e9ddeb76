"""Runs: records sorted by bucket in a scratch file, so that a bucket can be read on its own.

The first half of an external sort. A run is as many records as memory takes, ordered by bucket and
written in one piece; a range of buckets is then one read a run, in order.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gnnscale.graph.files import AT_ONCE, read_at


class Runs:
    """A scratch file of runs. It has no name, so that nothing is left of it whatever happens.

    Args:
        folder: a folder on the disk to use.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "runs"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        self._end = 0
        # Of every array of every run: its type, the shape of a row, and the place in the file where
        # each bucket begins.
        self._runs: list[list[tuple[np.dtype, tuple[int, ...], np.ndarray]]] = []

    def add(self, arrays: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Write a run: arrays ordered by bucket, each with its number of rows in every bucket."""
        run = []
        for array, counts in arrays:
            row = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
            starts = np.zeros(counts.size + 1, np.int64)
            np.cumsum(counts, out=starts[1:])
            starts = self._end + starts * row
            self._write(array)
            run.append((array.dtype, array.shape[1:], starts))
        self._runs.append(run)

    def read(self, first: int, last: int, count: int | None = None) -> Iterator[list[np.ndarray]]:
        """The arrays (or the first so many) of the buckets `first` up to `last`, run by run."""
        for run in self._runs:
            yield [
                self._read(int(starts[first]), int(starts[last]), dtype, shape)
                for dtype, shape, starts in run[:count]
            ]

    def close(self) -> None:
        """Give the space back to the disk."""
        os.close(self._file)

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, array: np.ndarray) -> None:
        if not array.size:
            return
        left = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        while left:
            count = os.pwrite(self._file, left[:AT_ONCE], self._end)
            self._end += count
            left = left[count:]

    def _read(self, start: int, stop: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        width = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        array = np.empty(((stop - start) // width if width else 0, *shape), dtype)
        if not array.size:
            return array
        if read_at(self._file, start, array.reshape(-1).view(np.uint8).data):
            raise OSError(errno.EIO, "the scratch file is shorter than what was written")
        return array

"""Runs: records sorted by bucket in a scratch file, so that a bucket can be read on its own.

The first half of an external sort. A run is as many records as memory takes, ordered by bucket and
written in one piece; a range of buckets is then one read a run, in order. The last need not be
written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gnnscale.storage.files import AT_ONCE, read_at

_MERGED_AT_ONCE = 1 << 22  # bytes

#: An array ordered by bucket, and the row of it where each bucket begins.
_Held = tuple[np.ndarray, np.ndarray]


class Runs:
    """A scratch file of runs. It has no name, so that nothing is left of it whatever happens.

    Args:
        folder: a folder on the disk to use.
        memory: bytes of runs that are held; more of them are written, as one.
    """

    def __init__(self, folder: Path, memory: int = 0) -> None:
        path = folder / "runs"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        self._end = 0
        self._memory = memory
        self._held: list[list[_Held]] = []
        # Of every array of every run: its type, the shape of a row, and the place in the file where
        # each bucket begins.
        self._runs: list[list[tuple[np.dtype, tuple[int, ...], np.ndarray]]] = []

    def add(self, arrays: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Take a run: arrays ordered by bucket, each with its number of rows in every bucket.

        They are not to be changed.
        """
        self._held.append([(array, _starts(counts)) for array, counts in arrays])
        if sum(part.nbytes for run in self._held for held in run for part in held) > self._memory:
            self.flush()

    def flush(self) -> None:
        """Write what is held; not while another thread reads."""
        if not self._held:
            return
        run = []
        for parts in zip(*self._held, strict=True):
            like = parts[0][0]
            row = like.dtype.itemsize * int(np.prod(like.shape[1:], dtype=np.int64))
            starts = np.sum([starts for _, starts in parts], 0)
            run.append((like.dtype, like.shape[1:], self._end + starts * row))
            for block in _merged(parts):
                self._write(block)
        self._held.clear()
        self._runs.append(run)

    def read(self, first: int, last: int, count: int | None = None) -> Iterator[list[np.ndarray]]:
        """The arrays (or the first so many) of the buckets `first` up to `last`, run by run.

        They are not to be changed. Several threads may read.
        """
        for run in self._runs:
            yield [
                self._read(int(starts[first]), int(starts[last]), dtype, shape)
                for dtype, shape, starts in run[:count]
            ]
        for held in self._held:
            yield [array[starts[first] : starts[last]] for array, starts in held[:count]]

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


def _starts(counts: np.ndarray) -> np.ndarray:
    starts = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _merged(parts: Sequence[_Held]) -> Iterator[np.ndarray]:
    """Arrays ordered by bucket as one, some MB at once; a single one as it is."""
    if len(parts) == 1:
        yield parts[0][0]
        return
    size = sum(array.nbytes for array, _ in parts)
    buckets = parts[0][1].size - 1
    step = max(1, buckets * _MERGED_AT_ONCE // max(1, size))
    listed = [(array, starts.tolist()) for array, starts in parts]
    for first in range(0, buckets, step):
        last = min(first + step, buckets)
        yield np.concatenate(
            [
                array[starts[bucket] : starts[bucket + 1]]
                for bucket in range(first, last)
                for array, starts in listed
            ]
        )

"""Rows of arrays in another order, range by range, in bounded memory.

Where the arrays are in memory, or the system can keep their files in its page cache, the rows of a
range are gathered from the mapped files in ascending order, and the pages let go as it goes on.
Where they are larger than that, gathering would read the files once a range; then the rows are
spread over runs in a scratch file first: three passes over the data, whatever the size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.graph.build.runs import Runs
from gnnscale.kernels.rows import cpu as rows
from gnnscale.storage.mapped import is_mapped, read_rows, release
from gnnscale.storage.memory import available_memory

_FEW_PASSES = 3  # as many as runs take


class Range(NamedTuple):
    """Rows `start` up to `stop` of the new order.

    Attributes:
        start: the first row.
        stop: one past the last.
        pointers: int64 `[rows + 1]`, where the entries of each begin in the arrays.
        arrays: their entries, in the order that the arrays were given in.
    """

    start: int
    stop: int
    pointers: np.ndarray
    arrays: list[np.ndarray]


class Shuffle:
    """A new order of rows, to bring arrays into.

    Args:
        order: int64 `[rows]`: new row i is old row `order[i]`.
        position: integer `[rows]`, the inverse of it.
        budget: bytes that may be used, besides `order`, `position` and row pointers.
        scratch: a folder on a disk with room for the largest array.
    """

    def __init__(self, order: Tensor, position: Tensor, budget: int, scratch: Path) -> None:
        self._order, self._position, self._scratch = order, position, scratch
        self._range = max(1, budget // 6)  # one in hand, one being written, and what callers make
        self._block = max(1, budget // 8)

    def ranges(self, arrays: Sequence[Tensor], indptr: Tensor | None = None) -> Iterator[Range]:
        """The arrays in the new order, range by range.

        Args:
            arrays: of one length: one entry a row, or as many as `indptr` says.
            indptr: int64 `[rows + 1]`, ascending.
        """
        arrays = [a.contiguous() for a in arrays]
        entry = sum(a.element_size() * a[:1].numel() if a.numel() else 0 for a in arrays)
        ranges = list(self._ranges(indptr, max(1, self._range // max(1, entry))))
        size = sum(a.numel() * a.element_size() for a in arrays if is_mapped(a))
        if len(ranges) <= _FEW_PASSES or size <= _cacheable():
            for start, stop in ranges:
                yield self._gathered(start, stop, arrays, indptr)
                if indptr is not None:
                    release(indptr)
            return
        with Runs(self._scratch) as runs:
            self._spread(runs, ranges, arrays, indptr, max(1, self._block // max(1, entry)))
            for number, (start, stop) in enumerate(ranges):
                yield self._placed(runs, number, start, stop, arrays, indptr)

    def _ranges(self, indptr: Tensor | None, most: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows with at most so many entries, or of one row."""
        num_rows = self._order.numel()
        at_once = most if indptr is None else max(1, self._range // 32)
        for first in range(0, num_rows, at_once):
            last = min(first + at_once, num_rows)
            if indptr is None:
                yield first, last
                continue
            ends = self._lengths(first, last, indptr).cumsum(0).numpy()
            start = 0
            while start < last - first:
                before = int(ends[start - 1]) if start else 0
                stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
                yield first + start, first + stop
                start = stop

    def _lengths(self, start: int, stop: int, indptr: Tensor) -> Tensor:
        ids = self._order[start:stop]
        return indptr[ids + 1] - indptr[ids]

    def _pointers(self, start: int, stop: int, indptr: Tensor | None) -> Tensor:
        pointers = torch.arange(stop - start + 1)
        if indptr is not None:
            torch.cumsum(self._lengths(start, stop, indptr), 0, out=pointers[1:])
        return pointers

    def _gathered(
        self, start: int, stop: int, arrays: Sequence[Tensor], indptr: Tensor | None
    ) -> Range:
        pointers = self._pointers(start, stop, indptr)
        ids, at = self._order[start:stop].sort()
        put = pointers[at]
        begin, end = (ids, ids + 1) if indptr is None else (indptr[ids], indptr[ids + 1])
        made = []
        for array in arrays:
            out = torch.empty((int(pointers[-1]), *array.shape[1:]), dtype=array.dtype)
            made.append(out.numpy())
            if not out.numel():
                continue
            entry = array.element_size() * array[:1].numel()
            last = max(1, int(end[-1]))
            cuts = torch.arange(0, last, max(1, self._block // entry))
            bounds = [*torch.searchsorted(begin, cuts).tolist(), begin.numel()]
            for i, j in itertools.pairwise(bounds):
                if i == j:
                    continue
                _copy(array, begin[i:j], end[i:j], put[i:j], out)
                release(array[int(begin[i]) : int(end[j - 1])])
        return Range(start, stop, pointers.numpy(), made)

    def _spread(
        self,
        runs: Runs,
        ranges: list[tuple[int, int]],
        arrays: Sequence[Tensor],
        indptr: Tensor | None,
        most: int,
    ) -> None:
        """Write blocks of old rows as runs, ordered by the range that they belong to."""
        bounds = torch.tensor([stop for _, stop in ranges])
        num_rows, first = self._order.numel(), 0
        while first < num_rows:
            if indptr is None:
                last = min(first + most, num_rows)
            else:
                limit = int(indptr[first]) + most
                last = int(torch.searchsorted(indptr, limit, right=True)) - 1
                last = min(max(last, first + 1), first + most, num_rows)
            position = self._position[first:last]
            bucket = torch.searchsorted(bounds, position.long(), right=True)
            order = torch.argsort(bucket, stable=True)
            in_bucket = torch.bincount(bucket, minlength=len(ranges))
            pointers = torch.arange(last - first + 1)
            if indptr is not None:
                pointers = indptr[first : last + 1] - indptr[first]
            lengths = pointers.diff()[order]
            put = lengths.cumsum(0) - lengths
            entries = torch.bincount(bucket[order], lengths.double(), len(ranges)).long()
            run = [(position[order].numpy(), in_bucket.numpy())]
            a = first if indptr is None else int(indptr[first])
            for array in arrays:
                rows_ = read_rows(array, a, a + int(pointers[-1]))
                out = torch.empty_like(rows_)
                begin = pointers[:-1][order]
                _copy(rows_, begin, begin + lengths, put, out)
                run.append((out.numpy(), entries.numpy()))
            runs.add(run)
            first = last

    def _placed(
        self,
        runs: Runs,
        number: int,
        start: int,
        stop: int,
        arrays: Sequence[Tensor],
        indptr: Tensor | None,
    ) -> Range:
        pointers = self._pointers(start, stop, indptr)
        made = [torch.empty((int(pointers[-1]), *a.shape[1:]), dtype=a.dtype) for a in arrays]
        for position, *parts in runs.read(number, number + 1):
            local = torch.from_numpy(position).long() - start
            put = pointers[local]
            end = (pointers[local + 1] - put).cumsum(0)
            begin = end - (pointers[local + 1] - put)
            for part, out in zip(parts, made, strict=True):
                _copy(torch.from_numpy(part), begin, end, put, out)
        return Range(start, stop, pointers.numpy(), [out.numpy() for out in made])


def _copy(source: Tensor, begin: Tensor, end: Tensor, put: Tensor, out: Tensor) -> None:
    """Copy entries `begin` up to `end` of each row to `put` and on; all is contiguous."""
    if not out.numel() or not begin.numel():
        return
    size = source.element_size() * source[:1].numel()
    word = np.uint32 if size % 4 == 0 else np.uint8
    flat = source.view(-1).numpy().view(word)
    into = out.view(-1).numpy().view(word)
    width = size // np.dtype(word).itemsize
    rows.copy_rows(begin.numpy(), end.numpy(), flat, width, put.numpy(), into)


def _cacheable() -> int:
    """Bytes of files that the system is expected to cache: half of the memory available."""
    return available_memory() // 2

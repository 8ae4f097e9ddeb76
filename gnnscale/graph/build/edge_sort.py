"""The external sort of `build_graph`: edges in any order to a stored adjacency.

Every directed edge goes to a run, ordered by buckets of rows, of which memory holds as many as it
takes and a scratch file the rest; some buckets after the others are then sorted and appended to the
stored graph. Threads spread and sort pieces that fit the processor's cache, beside what reads the
edges and what writes them. Floor: 6 bytes a directed edge (row within 2^16 and column; 8 where a
bucket has more rows), written to the file and read again where memory does not hold them, and 4
bytes of column written, hashed and flushed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from gnnscale.errors import InputError
from gnnscale.graph.build.runs import Runs
from gnnscale.kernels.rows import cpu as kernels
from gnnscale.kernels.structure import asymmetry
from gnnscale.kernels.threads import num_threads
from gnnscale.storage.ahead import ahead
from gnnscale.storage.array_folder import ArrayFile, ArrayFolder

_BUCKETS = 2048  # at most: a run of the default memory then has some 100 kB a bucket
_LEAST_PIECE = 64  # edges
_SPREAD_PIECE = 1 << 18  # edges, as many as fit a processor's cache on their way
_SORTED_PIECE = 1 << 17  # likewise, where buckets are small
_INT32_MAX = 2**31 - 1

#: Sources, targets and, where there are any, weights and times `[k]`.
Edges = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


def write_edges(
    folder: ArrayFolder,
    num_nodes: int,
    chunks: Iterator[Edges],
    undirected: bool,
    coalesce: bool,
    budget: int,
    *,
    unless_given: bool = False,
) -> WrittenEdges:
    """Write `indptr`, `indices` and, where there are any, `edge_weight` and `edge_time`.

    Args:
        folder: where.
        num_nodes: the number of nodes.
        chunks: edges whose ids are in range.
        undirected: whether the reverse of every edge but self-loops is added.
        coalesce: whether parallel edges are merged.
        budget: bytes that may be used.
        unless_given: whether nothing is added where the edges hold the reverse of every edge.
    """
    count = num_threads()
    with (
        Runs(folder.path, budget // 2) as runs,
        ThreadPoolExecutor(count, "gnnscale-edges") as threads,
    ):
        spread = _BucketRuns(
            num_nodes, undirected, budget // (count + 2), undirected and unless_given
        )
        for run in ahead(threads, spread.run, spread.pieces(chunks), count):
            spread.add(run, runs)
        weighted, index, total = bool(spread.weighted), spread.index, int(spread.counts.sum())
        timed = bool(spread.timed)
        if coalesce and timed and weighted:
            raise InputError(
                "coalesce=True adds the weights of parallel edges, which become known one after "
                "the other: leave coalesce, weights or times out"
            )
        entry = index.itemsize + 4 * weighted + 8 * timed
        twice = spread.was_given()
        rows = None if coalesce or twice else total
        if rows is not None:
            folder.expect(rows * entry)
        with (
            folder.array("indptr", np.dtype(np.int64), (num_nodes + 1,)) as indptr,
            folder.array("indices", index, (rows,)) as indices,
            folder.optional("edge_weight", np.dtype(np.float32), (rows,), weighted) as weights,
            folder.optional("edge_time", np.dtype(np.float64), (rows,), timed) as times,
        ):
            # Sorting takes an entry as it was read, twice on its way, and where it belongs.
            most = budget // (2 * (count + 2) * (3 * (spread.row.itemsize + entry) + entry))
            sort = _Sort(runs, spread, max(_LEAST_PIECE, most), coalesce, twice)
            written = _Written(indptr, indices, weights, times)
            for part in ahead(threads, sort.sorted, sort.ranges(), count):
                written.add(part, undirected)
    return WrittenEdges(written.num_edges, undirected or written.asymmetry == 0, twice)


class WrittenEdges(NamedTuple):
    """What was written.

    Attributes:
        num_edges: directed edges.
        symmetric: whether the matrix equals its transpose.
        both_given: whether the edges held the reverse of every edge, and nothing was added.
    """

    num_edges: int
    symmetric: bool
    both_given: bool


class _BucketRuns:
    """Makes runs of edges: directed, ordered by bucket of rows.

    Attributes:
        index: the type of a column.
        row: the type of the lowest bits of a row, which tell it from others of its bucket.
        shift: row i lies in bucket `i >> shift`.
        counts: the directed edges in every bucket.
        weighted: whether there are weights; None until the first chunk has come.
        timed: whether there are times, likewise.
    """

    def __init__(self, num_nodes: int, undirected: bool, budget: int, compared: bool) -> None:
        self._both, self._budget, self.num_nodes = undirected, budget, num_nodes
        self._compared, self._asymmetry = compared, [0, 0]
        self.index = np.dtype(np.int32 if num_nodes <= _INT32_MAX else np.int64)
        self.shift = max(0, (num_nodes - 1).bit_length() - (_BUCKETS.bit_length() - 1))
        self.row = np.dtype(np.uint16 if self.shift <= 16 else np.uint32)
        self.counts = np.zeros(max(1, -(-num_nodes >> self.shift)) if num_nodes else 1, np.int64)
        self.weighted: bool | None = None
        self.timed: bool | None = None

    def pieces(self, chunks: Iterator[Edges]) -> Iterator[list[np.ndarray]]:
        """Cut chunks into copies: sources, targets, weights and times (`[0]` for none)."""
        held: list[np.ndarray] = []
        filled = 0
        for chunk in chunks:
            if self.weighted is None:
                self.weighted, self.timed = chunk[2] is not None, chunk[3] is not None
            for had, given, what in zip(
                (self.weighted, self.timed), chunk[2:], ("weights", "times"), strict=True
            ):
                if had != (given is not None):
                    raise InputError(f"some chunks of edges have {what} and some have none")
            at, size = 0, chunk[0].size
            while at < size:
                if not held:
                    held = self._empty()
                count = min(size - at, held[0].size - filled)
                for into, given in zip(held, chunk, strict=True):
                    if given is not None:
                        into[filled : filled + count] = given[at : at + count]
                filled += count
                at += count
                if filled == held[0].size:
                    yield held
                    held, filled = [], 0
        if held:
            yield [into[:filled] for into in held]

    def run(self, piece: list[np.ndarray]) -> list[np.ndarray]:
        """The edges of a piece by bucket: rows, columns, weights, times; how many are in each."""
        source, target, weight, time = piece
        most = source.size * (1 + self._both)
        row, col = np.empty(most, self.row), np.empty(most, self.index)
        value = np.empty(most if weight.size else 0, np.float32)
        counts = np.zeros(self.counts.size, np.int64)
        when = np.empty(most if time.size else 0, np.float64)
        values, into = (time, when) if time.size else (weight, value)
        size = kernels.spread_edges(
            source, target, values, self._both, self.shift, counts, row, col, into
        )
        if time.size and weight.size:  # along the same way
            again = np.zeros_like(counts)
            kernels.spread_edges(
                source, target, weight, self._both, self.shift, again, row, col, value
            )
        own = [
            kernels.edge_asymmetry(source, target, values) if self._compared else 0
            for values in (weight, time)
        ]
        return [row[:size], col[:size], value[:size], when[:size], counts, np.array(own, np.uint64)]

    def add(self, run: list[np.ndarray], runs: Runs) -> None:
        """Hand a run over."""
        *arrays, counts, own = run
        both = zip(self._asymmetry, own, strict=True)
        self._asymmetry = [(before + int(more)) % 2**64 for before, more in both]
        wanted = (True, True, self.weighted, self.timed)
        runs.add([(a, counts) for a, there in zip(arrays, wanted, strict=True) if there])
        self.counts += counts

    def was_given(self) -> bool:
        """Whether all edges are there twice: their reverse was given, and added."""
        return self._compared and not any(self._asymmetry) and bool(self.counts.any())

    def _empty(self) -> list[np.ndarray]:
        weighted, timed = bool(self.weighted), bool(self.timed)
        # As it came, and up to twice as it is spread; half of the memory is for what is held.
        values = 4 * weighted + 8 * timed
        record = 2 * self.index.itemsize + values
        record += 2 * (self.row.itemsize + self.index.itemsize + values)
        size = max(_LEAST_PIECE, min(self._budget // (2 * record), _SPREAD_PIECE))
        return [
            np.empty(size, self.index),
            np.empty(size, self.index),
            np.empty(size if weighted else 0, np.float32),
            np.empty(size if timed else 0, np.float64),
        ]


class _Part(NamedTuple):
    """Rows in their order.

    Attributes:
        pointers: where each begins, from 0, `[rows + 1]`.
        cols: columns.
        values: weights, or `[0]`.
        times: likewise.
    """

    pointers: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    times: np.ndarray


class _Range(NamedTuple):
    """The rows `start` up to `stop`, of the buckets `first` up to `last`: all of them, or some."""

    first: int
    last: int
    start: int
    stop: int
    whole: bool


class _Sort:
    """Sorts ranges of rows whose entries are in runs."""

    def __init__(
        self, runs: Runs, spread: _BucketRuns, most: int, coalesce: bool, twice: bool
    ) -> None:
        self._runs, self._spread, self._most, self._coalesce = runs, spread, most, coalesce
        self._twice = twice
        self._own = 2 ** (8 * spread.row.itemsize) - 1
        self._bits = max(1, (spread.num_nodes - 1).bit_length())

    def ranges(self) -> Iterator[_Range]:
        """All rows, some at a time."""
        counts, shift = self._spread.counts, self._spread.shift
        piece = min(self._most, _SORTED_PIECE)
        if counts.max() > self._most:  # now, while no thread reads
            self._runs.flush()
        for first, last in _groups(counts, piece, (self._own + 1) >> shift):
            start, stop = first << shift, min(last << shift, self._spread.num_nodes)
            if last - first > 1 or counts[first] <= self._most:
                yield _Range(first, last, start, stop, True)
                continue
            # One bucket may hold more than memory: its rows are then taken in several passes.
            rows = np.zeros(stop - start, np.int64)
            for (row,) in self._runs.read(first, last, 1):
                rows += np.bincount(row - row.dtype.type(start & self._own), minlength=rows.size)
            for a, b in _groups(rows, self._most, rows.size):
                yield _Range(first, last, start + a, start + b, False)

    def sorted(self, part: _Range) -> _Part:
        """Sort a range."""
        read = list(self._runs.read(part.first, part.last))
        if not part.whole:
            for arrays in read:
                row = arrays[0] - self._spread.row.type(part.start & self._own)
                arrays[:] = [array[row < part.stop - part.start] for array in arrays]
        row, col, value, time = self._joined(read)
        del read
        pointers = np.zeros(part.stop - part.start + 1, np.int64)
        if time.size and value.size:
            return self._by_both(row, col, value, time, part.start, pointers)
        if time.size:  # parallel edges are sorted by it, unknown times last
            value = np.where(np.isnan(time), np.inf, time)
        cols, values = np.empty_like(col), np.empty_like(value)
        kernels.sort_edges(row, col, value, part.start, self._bits, pointers, cols, values)
        if self._twice:
            left = kernels.every_second(pointers, cols, values, part.start)
            cols, values = cols[:left], values[:left]
        if self._coalesce and not time.size:
            left = kernels.merge_equal(pointers, cols, values)
            cols, values = cols[:left], values[:left]
        if not time.size:
            return _Part(pointers, cols, values, np.empty(0))
        if self._coalesce:  # the first counts
            rows = np.repeat(np.arange(pointers.size - 1), np.diff(pointers))
            new = np.ones(cols.size, bool)
            new[1:] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
            cols, values = cols[new], values[new]
            pointers[1:] = np.cumsum(np.bincount(rows[new], minlength=pointers.size - 1))
        times = np.where(np.isposinf(values), np.nan, values)
        return _Part(pointers, cols, np.empty(0, np.float32), times)

    def _by_both(
        self,
        row: np.ndarray,
        col: np.ndarray,
        value: np.ndarray,
        time: np.ndarray,
        first: int,
        pointers: np.ndarray,
    ) -> _Part:
        """As `sorted`, of edges with weights and times: parallel ones by both."""
        rows = row - row.dtype.type(first & self._own)  # which wraps
        order = np.lexsort((time, value, col, rows))
        pointers[1:] = np.cumsum(np.bincount(rows, minlength=pointers.size - 1))
        cols = col[order]
        if self._twice:
            kept = np.arange(cols.size)
            left = kernels.every_second(pointers, cols, kept, first)
            cols, order = cols[:left], order[kept[:left]]
        return _Part(pointers, cols, value[order], time[order])

    def _joined(self, read: list[list[np.ndarray]]) -> list[np.ndarray]:
        """Rows, columns, weights and times of what was read; `[0]` where there are none."""
        spread = self._spread
        types = [spread.row, spread.index, np.dtype(np.float32), np.dtype(np.float64)]
        parts = zip(*read, strict=True)
        there = (True, True, spread.weighted, spread.timed)
        return [
            np.concatenate(next(parts)) if had and read else np.empty(0, dtype)
            for had, dtype in zip(there, types, strict=True)
        ]


class _Written:
    """What is written of the graph, range of rows by range.

    Attributes:
        num_edges: directed edges.
        asymmetry: 0 in the end where the matrix equals its transpose, if it was asked for.
    """

    def __init__(
        self,
        indptr: ArrayFile,
        indices: ArrayFile,
        weights: ArrayFile | None,
        times: ArrayFile | None,
    ) -> None:
        self._indptr, self._indices, self._weights, self._times = indptr, indices, weights, times
        self.num_edges = self.asymmetry = self._rows = 0
        indptr.append(np.zeros(1, np.int64))

    def add(self, part: _Part, symmetric: bool) -> None:
        """Append rows; whether they are known to be of a symmetric matrix."""
        pointers, cols, values, times = part
        if not symmetric:
            matrix = [torch.from_numpy(array) for array in part[:3]]
            own = asymmetry(matrix[0], matrix[1], matrix[2], self._rows)
            self.asymmetry = (self.asymmetry + own) % 2**64
        self._rows += pointers.size - 1
        self._indices.append(cols)
        if self._weights is not None:
            self._weights.append(values)
        if self._times is not None:
            self._times.append(times)
        self._indptr.append(pointers[1:] + self.num_edges)
        self.num_edges += int(pointers[-1])


def _groups(counts: np.ndarray, most: int, at_once: int) -> Iterator[tuple[int, int]]:
    """Cut into ranges of so many whose counts add up to at most `most`, or of a single one."""
    ends = np.cumsum(counts)
    first = 0
    while first < counts.size:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        last = min(last, first + at_once)
        yield first, last
        first = last

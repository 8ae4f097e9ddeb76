"""The external sort of `build_graph`: edges in any order to a stored adjacency.

Every directed edge goes to a run of a scratch file, ordered by buckets of rows; bucket by bucket it
is then put into its row, the row sorted, and appended to the stored graph. Floor: 8 bytes a
directed edge written and read once (row and column, 32 bits each), its row once more to be counted,
and 4 bytes of column written, hashed and flushed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from gnnscale.errors import InputError
from gnnscale.graph.adjacency import asymmetry
from gnnscale.graph.array_folder import ArrayFile, ArrayFolder
from gnnscale.graph.runs import Runs
from gnnscale.kernels import rows
from gnnscale.kernels.threads import num_threads

_BUCKETS = 1024  # at most: a run of the default memory then has some 100 kB a bucket
_LEAST_RUN = 64
_INT32_MAX = 2**31 - 1

#: Sources, targets and, where there are any, weights `[k]`.
Edges = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def write_edges(
    folder: ArrayFolder,
    num_nodes: int,
    chunks: Iterator[Edges],
    undirected: bool,
    coalesce: bool,
    budget: int,
) -> tuple[int, bool]:
    """Write `indptr`, `indices` and, where there are weights, `edge_weight`.

    Args:
        folder: where.
        num_nodes: the number of nodes.
        chunks: edges whose ids are in range.
        undirected: whether the reverse of every edge but self-loops is added.
        coalesce: whether parallel edges are merged.
        budget: bytes that may be used.

    Returns:
        The number of directed edges, and whether the matrix equals its transpose.
    """
    with Runs(folder.path) as runs:
        spread = _Spread(runs, num_nodes, undirected, budget)
        for chunk in chunks:
            spread.add(chunk)
        spread.flush()
        record = spread.index.itemsize + 4 * bool(spread.weighted)
        if not coalesce:
            folder.expect(int(spread.counts.sum()) * record)
        with (
            folder.array("indptr", np.dtype(np.int64), (num_nodes + 1,)) as indptr,
            folder.array("indices", spread.index, (None,)) as indices,
            folder.optional(
                "edge_weight", np.dtype(np.float32), (None,), bool(spread.weighted)
            ) as weights,
        ):
            # The columns in hand and those being written, and as much again of what is read.
            most = max(_LEAST_RUN, budget // (4 * record))
            rest = _Placed(indptr, indices, weights, coalesce)
            for first, last in _groups(spread.counts, most):
                start, stop = first << spread.shift, min(last << spread.shift, num_nodes)
                rest.place(runs, first, last, start, stop, most)
    return rest.num_edges, undirected or rest.asymmetry == 0


class _Spread:
    """Takes edges in and writes them to runs, directed, ordered by bucket of rows."""

    def __init__(self, runs: Runs, num_nodes: int, undirected: bool, budget: int) -> None:
        self._runs, self._both = runs, undirected
        self.index = np.dtype(np.int32 if num_nodes <= _INT32_MAX else np.int64)
        self.weighted: bool | None = None  # until the first chunk has come
        self.shift = max(0, (num_nodes - 1).bit_length() - (_BUCKETS.bit_length() - 1))
        self.counts = np.zeros(max(1, -(-num_nodes >> self.shift)) if num_nodes else 1, np.int64)
        self._budget = budget
        self._edges: list[np.ndarray] = []
        self._held = 0

    def add(self, chunk: Edges) -> None:
        if self.weighted is None:
            self._start(chunk[2] is not None)
        if self.weighted != (chunk[2] is not None):
            raise InputError("some chunks of edges have weights and some have none")
        at, size = 0, chunk[0].size
        while at < size:
            count = min(size - at, self._edges[0].size - self._held)
            for held, given in zip(self._edges, chunk, strict=True):
                if given is not None:
                    held[self._held : self._held + count] = given[at : at + count]
            self._held += count
            at += count
            if self._held == self._edges[0].size:
                self.flush()

    def _start(self, weighted: bool) -> None:
        self.weighted = weighted
        # An edge is held once as it came and up to twice as it is spread, in half of the memory.
        record = 2 * self.index.itemsize + 4 * weighted
        run = max(_LEAST_RUN, self._budget // (6 * record))
        self._edges = [
            np.empty(run, self.index),
            np.empty(run, self.index),
            np.empty(run if weighted else 0, np.float32),
        ]

    def flush(self) -> None:
        """Write what is held as a run."""
        if not self._held:
            return
        source, target, weight = (held[: self._held] for held in self._edges)
        counts = np.zeros((num_threads(), self.counts.size), np.int64)
        rows.count_edges(source, target, self._both, self.shift, counts)
        ends = np.cumsum(counts.T.ravel()).reshape(counts.T.shape).T  # by bucket, then by thread
        total = int(counts.sum())
        row, col = np.empty(total, self.index), np.empty(total, self.index)
        value = np.empty(total if weight.size else 0, np.float32)
        cursor = np.ascontiguousarray(ends - counts)
        rows.spread_edges(source, target, weight, self._both, self.shift, cursor, row, col, value)
        in_bucket = counts.sum(0)
        values = [(value, in_bucket)] if value.size else []
        self._runs.add([(row, in_bucket), (col, in_bucket), *values])
        self.counts += in_bucket
        self._held = 0


class _Placed:
    """Puts the edges of ranges of rows, one range after the other, where they belong."""

    def __init__(
        self, indptr: ArrayFile, indices: ArrayFile, weights: ArrayFile | None, coalesce: bool
    ) -> None:
        self._indptr, self._indices, self._weights = indptr, indices, weights
        self._coalesce = coalesce
        self.num_edges = 0
        self.asymmetry = 0
        indptr.append(np.zeros(1, np.int64))

    def place(self, runs: Runs, first: int, last: int, start: int, stop: int, most: int) -> None:
        """Write the rows from `start` up to `stop`, which are in the buckets `first` to `last`."""
        counts = np.zeros(stop - start, np.int64)
        for (row,) in runs.read(first, last, 1):
            rows.count_rows(row, start, counts)
        # One bucket may hold more than memory: its rows are then taken in several passes.
        for a, b in _groups(counts, most):
            self._place_rows(runs.read(first, last), start + a, counts[a:b])

    def _place_rows(
        self, parts: Iterator[list[np.ndarray]], start: int, counts: np.ndarray
    ) -> None:
        pointers = np.zeros(counts.size + 1, np.int64)
        np.cumsum(counts, out=pointers[1:])
        cursor = pointers[:-1].copy()
        cols = values = np.empty(0, np.float32)
        for row, col, *rest in parts:
            if not cols.size:
                cols = np.empty(pointers[-1], col.dtype)
                values = np.empty(pointers[-1] if rest else 0, np.float32)
            value = rest[0] if rest else values
            rows.place_edges(row, col, value, start, cursor, cols, values)
        if cols.size:
            if self._weights is None:
                rows.sort_rows(pointers, cols)
            else:
                rows.sort_weighted_rows(pointers, cols, values)
            if self._coalesce:
                left = rows.merge_equal(pointers, cols, values)
                cols, values = cols[:left], values[:left]
            matrix = [torch.from_numpy(array) for array in (pointers, cols, values)]
            part = asymmetry(matrix[0], matrix[1], matrix[2], start)
            self.asymmetry = (self.asymmetry + part) % 2**64
            self._indices.append(cols)
            if self._weights is not None:
                self._weights.append(values)
        self._indptr.append(pointers[1:] + self.num_edges)
        self.num_edges += int(pointers[-1])


def _groups(counts: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Cut into ranges whose counts add up to at most `most`, or of a single one."""
    ends = np.cumsum(counts)
    first = 0
    while first < counts.size:
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        yield first, last
        first = last

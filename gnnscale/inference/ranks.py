"""Exact inference by several ranks: each computes a share of every layer's rows.

Passes that read activations row by row need nothing of the others. Before one that reads them at
random, through the graph, the ranks exchange their rows: they are broadcast in place, chunk by
chunk, so that nothing is copied and shares may differ in size. Statistics of norms travel chunk by
chunk and are merged in the order of the rows, as one process merges them: the result is the same
bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.graph import Graph
from gnnscale.nn.norms.segments import within
from gnnscale.nn.norms.statistics import Moments, apply_stats, partial_stats

T = TypeVar("T")
_Part = tuple[int, int, Moments]  # the first of some segments, the one after their last

_FEWEST = 2  # chunks a rank: with one, all wait for whose has the most edges


@dataclass(frozen=True)
class Share:
    """The rows that each rank computes, contiguous, in whole chunks.

    Attributes:
        bounds: where each rank's rows begin, and the number of rows: `[ranks + 1]`.
        chunk_rows: rows of a chunk.
    """

    bounds: tuple[int, ...]
    chunk_rows: int

    @property
    def split(self) -> bool:
        """Whether there is more than one share."""
        return len(self.bounds) > 2

    @property
    def start(self) -> int:
        """The first row of this rank."""
        return self.bounds[comm.rank()] if self.split else 0

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The rows of every chunk of this rank; one, empty, where there are no rows."""
        return self.ranges_of(comm.rank() if self.split else 0)

    def every_range(self) -> Iterator[tuple[int, int]]:
        """The rows of every chunk of all ranks, in order."""
        for rank in range(len(self.bounds) - 1):
            yield from self.ranges_of(rank)

    def in_order(self, found: list[T]) -> list[T]:
        """What all ranks have found in their rows, one after the other."""
        if not self.split:
            return found
        return [part for of_rank in comm.gather_objects(found) for part in of_rank]

    def ranges_of(self, rank: int) -> Iterator[tuple[int, int]]:
        """The rows of every chunk of a rank."""
        first, last = self.bounds[rank : rank + 2]
        for start in range(first, max(last, 1), self.chunk_rows):
            yield start, min(start + self.chunk_rows, last)


def undivided(num_rows: int, chunk_rows: int) -> Share:
    """All rows as the share of every rank."""
    return Share((0, num_rows), chunk_rows)


def divide(graph: Graph, chunk_rows: int) -> Share:
    """Deal a graph's rows to the ranks; all to each where there are too few for that to pay.

    Dense products go by rows and propagation by edges, so either counts for half of the work. The
    shares depend on nothing but the graph, the rows of a chunk and the number of ranks.
    """
    rows, ranks = graph.num_nodes, comm.world_size()
    chunks = -(-rows // chunk_rows)
    if ranks == 1 or chunks < _FEWEST * ranks:
        return undivided(rows, chunk_rows)
    ends = torch.arange(1, chunks + 1).mul_(chunk_rows).clamp_(max=rows)
    edges = graph.adj.indptr[ends].double()
    work = ends.double() / rows + edges / max(1, graph.num_edges)
    bounds = [0]
    for rank in range(1, ranks):
        nearest = int((work - 2 * rank / ranks).abs().argmin()) + 1
        bounds.append(max(bounds[-1] + 1, min(nearest, chunks - (ranks - rank))))
    return Share((*(chunk_rows * chunk for chunk in bounds), rows), chunk_rows)


class Gathered:
    """A norm's statistics, gathered from chunks of rows and applied to chunks of rows.

    Args:
        norm: the norm.
        ptr: int64 `[num_segments + 1]`, the segments of all rows; None for one.
        share: the rows that this rank gathers from.
    """

    def __init__(self, norm: nn.Module, ptr: Tensor | None, share: Share) -> None:
        self._norm = norm
        self._ptr = None if ptr is None else ptr.cpu()
        self._share = share
        self._parts: list[_Part] = []  # that other ranks are to be given
        self._device = torch.device("cpu")
        self._moments: Moments | None = None

    def add(self, start: int, end: int, h: Tensor) -> None:
        """Take in rows `start` to `end`."""
        first, last, ptr = self._segments(start, end, h)
        moments = partial_stats(self._norm, h, ptr)
        if self._share.split:
            self._parts.append((first, last, Moments(*(values.cpu() for values in moments))))
            self._device = moments.mean.device
        else:
            self._merge(first, last, moments)

    def complete(self) -> None:
        """Take in what the ranks have gathered, in the order of the rows."""
        for first, last, moments in self._share.in_order(self._parts):
            self._merge(first, last, Moments(*(values.to(self._device) for values in moments)))
        self._parts = []

    def apply(self, start: int, end: int, h: Tensor) -> Tensor:
        """Rows `start` to `end`, normalised."""
        assert self._moments is not None
        first, last, ptr = self._segments(start, end, h)
        return apply_stats(self._norm, h, self._moments.part(first, last), ptr)

    def _merge(self, first: int, last: int, moments: Moments) -> None:
        if self._moments is None:
            segments = last if self._ptr is None else len(self._ptr) - 1
            self._moments = Moments.empty(segments, moments)
        merged = self._moments.part(first, last).merge(moments)
        for whole, part in zip(self._moments, merged, strict=True):
            whole[first:last] = part

    def _segments(self, start: int, end: int, h: Tensor) -> tuple[int, int, Tensor | None]:
        if self._ptr is None:
            return 0, 1, None
        first, last, ptr = within(self._ptr, start, end)
        return first, last, ptr.to(h.device)

"""Exact inference by several ranks: each computes a share of every layer's rows.

Passes that read a layer row by row need nothing of the others. Before one that reads it at random,
through the graph, the ranks exchange their rows: they are broadcast in place, chunk by chunk, so
that nothing is copied and shares may differ in size. Statistics of norms travel chunk by chunk and
are merged in the order of the rows, as one process merges them: the result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

from gnnscale import comm
from gnnscale.graph import Graph
from gnnscale.inference.layer_file import LayerFile

if TYPE_CHECKING:
    from gnnscale.inference.layers import Layer

T = TypeVar("T")

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
        return self._chunks(comm.rank() if self.split else 0)

    def every_range(self) -> Iterator[tuple[int, int]]:
        """The rows of every chunk of all ranks, in order."""
        for rank in range(len(self.bounds) - 1):
            yield from self._chunks(rank)

    def complete(self, layer: Layer) -> None:
        """Give every rank all rows of a layer of which each has computed its own."""
        if not (self.split and layer.changed) or 0 in layer.shape:
            return
        for rank in range(len(self.bounds) - 1):
            for start, stop in self._chunks(rank):
                if isinstance(layer, LayerFile) and rank != comm.rank():
                    rows = torch.empty(stop - start, layer.shape[1], dtype=layer.dtype)
                    comm.broadcast_(rows.view(torch.uint8), src=rank)
                    layer.put(start, rows)
                else:
                    comm.broadcast_(layer.rows(start, stop).view(torch.uint8), src=rank)
        layer.changed = False

    def in_order(self, found: list[T]) -> list[T]:
        """What all ranks have found in their rows, one after the other."""
        if not self.split:
            return found
        return [part for of_rank in comm.gather_objects(found) for part in of_rank]

    def _chunks(self, rank: int) -> Iterator[tuple[int, int]]:
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

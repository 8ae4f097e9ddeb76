"""Pieces: rows of an opaque layer, cut so that each takes no more than it may.

Rows cost what their in-neighbourhoods do: on a graph with hubs a thousand times more in one place
than in another. Pieces are therefore cut by cost, counted on the halo itself, and not by rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from gnnscale.costs.convolutions import (
    gathering_cost,
    is_measured,
    piece_cost,
    refusal,
    too_large,
)
from gnnscale.costs.peak import PeakBytes
from gnnscale.graph import Adjacency
from gnnscale.inference.activations import ActivationStore
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.blocks.reach import Halo, halo
from gnnscale.storage.mapped import read_rows
from gnnscale.storage.memory import in_words

logger = logging.getLogger(__name__)

_CAUTIOUS = (
    4  # the part of what it may take that the first piece does: the cost has yet to be confirmed
)


class Pieces:
    """The rows of one opaque convolution, piece by piece.

    Args:
        phase: the convolution as a phase, in evaluation mode.
        widths: columns of its input, and of each slot that it takes.
        dtype: of these.
        carried: values of the graph's edges and nodes that it is given, by name.
        adj: the whole graph.
        store: where activations are kept, and what a piece may take.

    Attributes:
        cost: what a piece takes, as far as is known.
    """

    def __init__(
        self,
        phase: Neighbourhood,
        widths: Sequence[int],
        dtype: torch.dtype,
        carried: Mapping[str, Tensor],
        adj: Adjacency,
        store: ActivationStore,
    ) -> None:
        assert store.budget is not None
        self._phase, self._adj, self._store, self._budget = phase, adj, store, store.budget
        nodes, edges = adj.num_nodes, adj.nnz
        self._measured = is_measured(self._budget, nodes, edges)
        self.cost = gathering_cost()
        if self._measured:
            self.cost = piece_cost(phase, widths, dtype, carried, store.device)
        self._rows = nodes  # that the next piece may have
        self._allowed = self._budget.piece // (_CAUTIOUS if self._measured else 1)
        self._local: Tensor | None = None

    @property
    def are_whole(self) -> bool:
        """Whether all rows are one piece."""
        nodes = self._adj.num_nodes
        return self._store.chunk_rows >= nodes and (
            self.cost.of(nodes, self._adj.nnz) <= self._budget.piece
        )

    def check(self) -> None:
        """Find the row that takes the most.

        Raises:
            InputError: it does not fit; with the smallest bound that would do.
        """
        if self._measured and (found := refusal(self._phase, self.cost, self._adj, self._budget)):
            raise found[1]

    def rows(self, start: int, stop: int, run: Callable[[Halo], Tensor]) -> Tensor:
        """Rows `start` to `stop` of what the convolution gives.

        Args:
            start: the first.
            stop: the one after the last.
            run: runs the convolution on a halo.

        Raises:
            InputError: a row alone takes more than there is.
        """
        if self._local is None:
            self._local = torch.full((self._adj.num_nodes,), -1, device=self._adj.device)
        if self.are_whole:  # in one piece, as it would be without a bound
            self._allowed = self._budget.piece
        rows: Tensor | None = None
        first = start
        while rows is None or first < stop:
            last, around = self._next(first, stop)
            out = self._run(around, run)[: last - first]
            del around
            if (first, last) == (start, stop):
                return out
            if rows is None:
                rows = out.new_empty(stop - start, *out.shape[1:])
            rows[first - start : last - start] = out
            first = last
        return rows

    def _run(self, around: Halo, run: Callable[[Halo], Tensor]) -> Tensor:
        """Run the convolution; what it took corrects the cost of the next pieces."""
        if not self._measured:
            return run(around)
        with PeakBytes() as counted:
            out = run(around)
        nodes, edges = around.nodes.numel(), around.edges.numel()
        better = self.cost.corrected(nodes, edges, counted.peak)
        if better.of(nodes, edges) > 1.05 * self.cost.of(nodes, edges):
            name = type(self._phase.module).__name__
            took = in_words(counted.peak)
            logger.info("%s took %s on %d edges: smaller pieces", name, took, edges)
            self.cost = better
        self._allowed = self._budget.piece
        return out

    def _next(self, first: int, stop: int) -> tuple[int, Halo]:
        """The longest piece that fits, from a row on: its end and its halo."""
        last = self._within_edges(first, min(stop, first + self._rows))
        while True:
            alone = last - first <= 1
            allowed = self._budget.most if alone else self._allowed
            rows = torch.arange(first, last, device=self._adj.device)
            most = self.cost.edges_within(allowed)
            around = halo(self._adj, rows, self._phase.hops, self._local, most=most)
            if around is not None:
                nodes, edges = around.nodes.numel(), around.edges.numel()
                if (needed := self.cost.of(nodes, edges)) <= allowed:
                    self._rows = max(1, 2 * (last - first))
                    return last, around
                del around
            elif alone:  # how many edges there are is not known: more than there may be
                nodes, edges = self._adj.num_nodes, self._adj.nnz
                needed = self.cost.of(nodes, edges)
            if alone:
                raise too_large(self._phase, nodes, edges, needed, self._budget)
            last = first + (last - first) // 2

    def _within_edges(self, first: int, stop: int) -> int:
        """The longest piece whose rows, without what is further than a hop, fit."""
        if stop <= first + 1:
            return stop
        ends = read_rows(self._adj.indptr, first, stop + 1)
        most = int(ends[0]) + self.cost.edges_within(self._allowed)
        return max(first + 1, first + int(torch.searchsorted(ends, most, right=True)) - 1)

"""What parts of a graph are like: how even they are, and how many edges go between them.

Of clusters that there are it is counted. Of those yet to be made it is learnt from partitions into
some numbers of parts, which stay in the cache of partitions, and read off between them: what is cut
grows about evenly with the logarithm of the number of parts. Of a large graph a piece is cut, into
parts of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnscale.costs.counted.reading import walked
from gnnscale.graph import Adjacency, ClusteredGraph, Graph, subgraph
from gnnscale.partitioning import partition

_LARGEST_CUT = 3_000_000  # edges of a graph that is cut whole: some seconds
_PIECE_EDGES = 1_500_000
_STEP = 4  # between two numbers of parts that are tried


class Division(NamedTuple):
    """Parts of a graph.

    Attributes:
        share: of the edges, that go from one part to another.
        nodes: standard deviation of the nodes of a part, as a share of the mean.
        edges: the same of the edges that it has by itself.
    """

    share: float
    nodes: float
    edges: float


def between(seen: ClusteredGraph) -> sparse.csr_array:
    """How many edges go from each cluster of a view to each, int64 `[num_parts, num_parts]`."""
    cluster_of, inside = seen.cluster_of, None
    if seen.view_name == "train":
        own = torch.arange(seen.graph.num_nodes) - seen.offsets[cluster_of]
        inside = own < seen.sizes[cluster_of]
    return _counts_between(seen.graph.adj, cluster_of, seen.num_parts, inside)


def _counts_between(
    adj: Adjacency, part_of: Tensor, parts: int, inside: Tensor | None = None
) -> sparse.csr_array:
    found: list[tuple[Tensor, Tensor]] = []
    for rows in walked(adj):
        sources, targets = rows.sources, rows.targets
        if inside is not None:
            kept = inside[sources] & inside[targets]
            sources, targets = sources[kept], targets[kept]
        pairs = part_of[targets].long() * parts + part_of[sources]
        found.append(pairs.unique(return_counts=True))
    none = torch.empty(0, dtype=torch.int64)
    pairs = torch.cat([none, *(pairs for pairs, _ in found)])
    counts = torch.cat([none, *(counts for _, counts in found)])
    at = (pairs // parts).numpy(), (pairs % parts).numpy()
    return sparse.csr_array((counts.numpy(), at), shape=(parts, parts))


class Cuts:
    """What partitions of a graph would be like, by the number of parts.

    Args:
        graph: what is partitioned; of several graphs in one, a part never spans two.
        method: partitioner.
        balance: what it evens out.
        seed: of it.
    """

    def __init__(self, graph: Graph, method: object, balance: str | float, seed: int) -> None:
        self._graph, self._method, self._balance, self._seed = graph, method, balance, seed
        self._piece: Graph | None = None
        self._known: dict[int, Division] = {}

    def of(self, parts: int) -> Division:
        """What so many parts are like; measured at two numbers around it, once each."""
        nodes = self._graph.num_nodes
        if parts <= 1 or not self._graph.num_edges:
            return Division(0.0, 0.0, 0.0)
        if parts >= nodes:
            return Division(1.0, 0.0, 0.0)
        if parts <= self._fewest:
            return self._measured(self._fewest)
        power = _STEP ** int(math.log(parts, _STEP) + 1e-9)
        low, high = max(power, self._fewest), min(power * _STEP, nodes)
        if low == parts:
            return self._measured(low)
        one, other = (self._measured(number) for number in (low, high))
        at = math.log(parts / low) / math.log(high / low)
        return Division(*(a + at * (b - a) for a, b in zip(one, other, strict=True)))

    @cached_property
    def _fewest(self) -> int:
        """Parts that there are at least: the graphs with nodes."""
        return int((_pointers(self._graph).diff() > 0).sum())

    def _measured(self, parts: int) -> Division:
        if parts not in self._known:
            self._known[parts] = self._measure(parts)
        return self._known[parts]

    def _measure(self, parts: int) -> Division:
        if parts <= self._fewest:  # the graphs themselves
            return _of_graphs(self._graph)
        if self._piece is None:
            self._piece = _piece_of(self._graph)
        piece = self._piece
        if piece.num_nodes < 2:  # nothing to be learnt from: cut as if by chance
            return Division(1 - 1 / parts, 0.02, 0.1)
        share = piece.num_nodes / max(1, self._graph.num_nodes)
        here = min(max(1, round(parts * share)), piece.num_nodes)
        if here == 1:  # a part is larger than the piece: cut less than the fewest here
            return Division(self._measured(parts * _STEP).share * 0.7, 0.02, 0.1)
        method = self._method if isinstance(self._method, str) else "auto"
        part = partition(
            piece, here, method=method, balance=self._balance, seed=self._seed
        ).assignment.long()
        counts = _counts_between(piece.adj, part, here)
        inside = counts.diagonal()
        sizes = torch.bincount(part, minlength=here).double().numpy()
        total = max(1, int(counts.sum()))
        return Division(
            float(1 - inside.sum() / total), _spread(sizes), _spread(inside.astype(float))
        )


def _pointers(graph: Graph) -> Tensor:
    """Where each graph begins, and the last one ends."""
    whole = torch.tensor([0, graph.num_nodes])
    return whole if graph.node_ptr is None else graph.node_ptr


def _of_graphs(graph: Graph) -> Division:
    """Parts that are the graphs with nodes."""
    starts = _pointers(graph)
    nodes, edges = starts.diff(), graph.adj.indptr[starts].diff()
    sizes, inside = (of[nodes > 0].double().numpy() for of in (nodes, edges))
    return Division(0.0, _spread(sizes), _spread(inside))


def _spread(values: np.ndarray) -> float:
    mean = float(values.mean()) if values.size else 0.0
    return float(values.std()) / mean if mean else 0.0


def bare(graph: Graph) -> Graph:
    """The structure of a graph, of one or several, without what belongs to nodes and edges."""
    return Graph(graph.adj, node_ptr=graph.node_ptr)


def _piece_of(graph: Graph) -> Graph:
    """The structure of a graph, or of what is near some node of it where it is large."""
    if graph.num_edges <= _LARGEST_CUT:
        return bare(graph)
    taken = torch.zeros(graph.num_nodes, dtype=torch.bool)
    for nodes in _outwards(graph.adj, taken):
        taken[nodes] = True
    return subgraph(Graph(graph.adj), taken)


def _outwards(adj: Adjacency, taken: Tensor) -> Iterator[Tensor]:
    """Nodes around one, ring by ring, until they have edges enough.

    Where a component ends, some others begin, each time twice as many. A hub counts for half of
    all at most: what it is linked to comes with it.
    """
    degrees = adj.indptr.diff()
    costs = degrees.clamp(max=max(1, _PIECE_EDGES // 2)) + 1
    starts = degrees.nonzero().squeeze(1)  # a node that nothing arrives at leads nowhere
    spent, first, begun = 0, 0, 1
    ring = starts[:0]
    while spent < _PIECE_EDGES:
        if not ring.numel():  # the next components
            if first >= starts.numel():
                return
            some = starts[first : first + begun]
            first, begun = first + begun, 2 * begun
            ring = some[~taken[some]]
            if not ring.numel():
                continue
        within = costs[ring].cumsum(0) <= max(_PIECE_EDGES - spent, int(costs[ring[0]]))
        ring = ring[within]
        yield ring
        spent += int(costs[ring].sum())
        reached = adj.indices[adj.row_positions(ring)[1]].long().unique()
        ring = reached[~taken[reached]]

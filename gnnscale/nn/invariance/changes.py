"""What must not matter to a layer, each changed by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.nn.invariance.probes import Probe, Values


class Reason(NamedTuple):
    """What a layer depends on.

    Attributes:
        what: of the graph.
        done: what was changed when its output changed.
        remedy: what its author can do, beside running the graph whole.
        whole: whether that helps.
    """

    what: str
    done: str
    remedy: str
    whole: bool = True


NODES = Reason(
    "the order of nodes",
    "nodes are renumbered, as batches do",
    "Give positions or ids as features instead",
    whole=False,
)
EDGES = Reason(
    "the order in which edges arrive at a node",
    "they come in another order, and a graph keeps them sorted by source",
    "Use an aggregation without an order, such as 'mean', 'max' or 'softmax'",
    whole=False,
)
ROWS = Reason(
    "rows that no path leads from, as a mean or a norm over all rows does",
    "such rows change",
    "No number of hops helps. Take what reads all rows out of it: a norm may be that of a Block",
)
COUNT = Reason(
    "the number of nodes",
    "nodes without any path to the row are added",
    "No number of hops helps. Give it the number as an argument when it is built",
)
ELSEWHERE = Reason(
    "edges between other nodes, or their number",
    "edges without any path to the row are added",
    "No number of hops helps. Let it read the edges that arrive at a node and at its neighbours",
)
DEGREE = Reason(
    "the greatest degree of the graph",
    "a node elsewhere gets more edges than any has",
    "No number of hops helps. Give it the greatest degree as an argument when it is built; take an "
    "aggregation that "
    "does not pad to it, such as 'mean', 'max' or 'softmax'",
)
SYMMETRY = Reason(
    "the edges that leave a node (its out-degree)",
    "only those are given that arrive within its reach",
    "Make the graph undirected, or use a convolution that reads incoming edges only",
)
HALO = Reason(
    "nodes further away than {hops} hop(s)",
    "it is given no more than those",
    "",
)
DRAWS = Reason(
    "random numbers in evaluation mode",
    "others are drawn",
    "Draw only where self.training is set",
    whole=False,
)
CHOICE = Reason(
    "a random choice among all nodes or edges",
    "others lie beside them or they come in another order",
    "Draw for each by itself, as torch.rand(edge_index.size(1)) < p does",
)
STATE = Reason(
    "what it kept from the graph that it saw first",
    "it is given another graph",
    "Do not keep values of a graph between calls (of PyG's layers: cached=False)",
    whole=False,
)


def of_graphs(reason: Reason) -> Reason:
    """The reason where what changes is a graph beside, which data sets of many graphs have."""
    return Reason(
        f"other graphs in its batch ({reason.what})",
        "other graphs lie beside",
        "Give its forward an argument `batch` (int64 [num_nodes], the graph that each row is of), "
        "and keep graphs apart with it; graphs_per_batch=1 with chunk_rows=1 runs each by itself",
        whole=False,
    )


class Comparison(NamedTuple):
    """Rows of a changed graph that should be equal to rows of the original."""

    reason: Reason
    changed: Probe
    rows: Tensor
    original: Probe
    wanted: Tensor


def of_order(graph: Probe, values: Values) -> Iterator[Comparison]:
    """Order alone, which gnnscale's own storage changes."""
    every = torch.arange(graph.num_nodes)
    order = torch.randperm(graph.num_nodes, generator=values.generator)
    # Those without edges first: some layers fail there.
    has_edges = torch.bincount(graph.edge_index[1], minlength=graph.num_nodes)[order] > 0
    order = order[has_edges.to(torch.uint8).argsort(stable=True)]
    yield Comparison(NODES, graph.renumbered(order), every, graph, order)
    yield Comparison(EDGES, graph.reordered(), every, graph, every)
    tied = graph.tied()  # an aggregation that sorts takes what is equal as it comes
    yield Comparison(EDGES, tied.reordered(), every, tied, every)


def of_surroundings(graph: Probe, values: Values, symmetric: bool) -> Iterator[Comparison]:
    """All that is elsewhere: order, rows, nodes, edges, degrees."""
    own = torch.arange(graph.num_nodes)
    whole = graph.beside(values.probe(6, _TRIANGLE))
    yield from of_order(whole, values)
    for reason, other in _others(graph, values):
        yield Comparison(reason, graph.beside(other), own, whole, own)
    yield Comparison(COUNT, graph, own, whole, own)
    if symmetric:
        one_way = graph.beside(values.probe(6, _TRIANGLE[:, :3]))
        yield Comparison(SYMMETRY, one_way, own, whole, own)


def of_reach(graph: Probe, hops: int, values: Values) -> Iterator[Comparison]:
    """Some rows with what is within their reach, and rows at which no edge arrives.

    They are neighbours by number, lest they reach all of the graph together; some of all parts.
    """
    count = graph.num_nodes
    starts = torch.randint(count, (1,), generator=values.generator) + torch.arange(5) * count // 5
    parts = (starts[:, None] + torch.arange(min(5, count))).remainder(count)
    without = torch.bincount(graph.edge_index[1], minlength=count) == 0
    bare = without.nonzero().squeeze(1)[:64]
    for rows in (*parts, parts[0, :1], bare, bare[-1:]):
        if rows.numel():
            near = graph.around(rows, hops)
            yield Comparison(HALO, near, torch.arange(rows.numel()), graph, rows)


def of_other_graphs(graph: Probe, values: Values) -> Iterator[Comparison]:
    """Graphs before and after, of all kinds; each must come out as by itself."""
    own = torch.arange(graph.num_nodes)
    yield Comparison(EDGES, graph.reordered(), own, graph, own)
    single, edgeless = (values.probe(count, _TRIANGLE[:, :0]) for count in (1, 3))
    for reason, other in _others(graph, values):
        for probe in (graph, single, edgeless):
            own = torch.arange(probe.num_nodes)
            beside = other.beside(probe, single)
            yield Comparison(of_graphs(reason), beside, other.num_nodes + own, probe, own)


def _others(graph: Probe, values: Values) -> Iterator[tuple[Reason, Probe]]:
    """What may lie elsewhere: a triangle of six nodes, changed in one way each."""
    # Beyond the graph's own rows, yet near enough for a softmax over all in float64.
    for shift in (4.0, -4.0):
        yield ROWS, values.probe(6, _TRIANGLE, shift=shift)
    yield COUNT, values.probe(17, _TRIANGLE)
    nodes = torch.arange(6)
    pairs = torch.combinations(nodes).t()
    more = torch.cat([pairs, pairs.flip(0), nodes[:2].expand(2, -1), _TRIANGLE], dim=1)
    yield ELSEWHERE, values.probe(6, more)
    most = int(torch.bincount(graph.edge_index[1], minlength=1).max())
    leaves = torch.arange(1, 2 * most + 8)
    star = torch.stack([leaves, torch.zeros_like(leaves)])
    yield DEGREE, values.probe(leaves.numel() + 1, torch.cat([star, star.flip(0)], dim=1))


_TRIANGLE = torch.tensor([[0, 1, 2, 1, 2, 0], [1, 2, 0, 0, 1, 2]])

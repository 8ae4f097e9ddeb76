"""A trial: the model's own steps on a few pieces of its graph, by which predictions are put right.

The tables of a machine know the library's kernels. What a layer of PyG's or the user's own runs,
how rows lie in a graph, and what one phase leaves in the caches for the next they do not know; of
some steps of the model itself all of it is in the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.seconds import left_as_it_was
from gnnscale.costs.sizes import row_bytes
from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import slice_rows
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel, LayeredGNN
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.nn.modules import repeatable
from gnnscale.storage.allocator import kept_buffers
from gnnscale.storage.mapped import read_rows

_NODES = (1024, 4096, 16384, 65536, 262144)
_PLACES = (0.25, 0.75)
_WARM, _ROUNDS = 2, 4  # rounds that are not counted, and those that are, at least
_MOST = 1 << 30  # bytes that a piece takes at most, about
_AROUND = 8  # nodes of a piece for each that is one of a chunk
_CLUSTER = 1024  # nodes of a cluster, of which one edge in so many comes from another
_AWAY = 5


class Tried(NamedTuple):
    """Seconds of the model on a piece of its graph.

    Attributes:
        sizes: of the piece.
        forward: of a forward pass in training; 0 where it was only evaluated.
        backward: of the loss and the backward pass; likewise.
        evaluated: of a forward pass that keeps nothing.
    """

    sizes: Sizes
    forward: float
    backward: float
    evaluated: float


def try_steps(
    model: LayeredGNN | GraphModel, graph: Graph, *, clustered: bool, seconds: float = 2.0
) -> list[Tried]:
    """Run a model on pieces of a graph, the larger ones only while there is time.

    Args:
        model: the model, on the processor; it is left as it was.
        graph: the graph, in memory or in files.
        clustered: whether most edges are to be among nodes that are near one another, as in the
            order of clusters, rather than as they are.
        seconds: to take, about.
    """
    found: list[Tried] = []
    began = time.perf_counter()
    device = torch.device("cpu")
    with kept_buffers(), repeatable(device), left_as_it_was(model):
        most = max(_NODES[0], _MOST // _node_bytes(model, graph))
        for nodes in sorted({min(nodes, graph.num_nodes, most) for nodes in _NODES}):
            spent = time.perf_counter() - began
            if found:
                per_node = sum(found[-1][1:]) / found[-1].sizes.nodes
                if spent + (_WARM + _ROUNDS) * per_node * nodes > seconds:
                    break
            # Of two places in turns: the next batch of a run is never the one that has just been.
            batches = [piece(graph, nodes, clustered, place) for place in _PLACES]
            if all(batch.num_nodes for batch in batches):
                found.append(_tried(model, batches, seconds / (2 * len(_NODES))))
        if opaque_of(model.phases) and graph.node_ptr is None:
            # Exact inference runs it on the rows of a chunk and all that they read, whose own
            # edges are not there.
            found += [_evaluated(model, piece(graph, int(own.sizes.nodes), False)) for own in found]
    return found


def _node_bytes(model: LayeredGNN | GraphModel, graph: Graph) -> int:
    """Bytes of a node in a step, about."""
    messages = 1
    if opaque_of(model.phases):
        messages += 2 * graph.num_edges // max(1, graph.num_nodes)
    return 3 * row_bytes(model, graph) * len(model.phases) * messages


def piece(graph: Graph, nodes: int, clustered: bool, place: float = 0.5) -> Batch:
    """Some nodes with as many edges as arrive at them, from one another.

    Args:
        graph: the graph.
        nodes: how many, of whole graphs at most.
        clustered: see `try_steps`.
        place: where in the graph they begin, from 0 to 1.
    """
    start, pointers = int(place * (graph.num_nodes - nodes)), torch.tensor([0, nodes])
    if graph.node_ptr is not None:  # graphs are taken whole
        count = max(1, int(torch.searchsorted(graph.node_ptr, nodes, right=True)) - 1)
        pointers = graph.node_ptr[: count + 1].clone()
        start, nodes = 0, int(pointers[-1])
    rows = slice_rows(graph.adj, start, start + nodes)
    indices = (rows.indices.long() - start) % max(nodes, 1)
    if clustered and graph.node_ptr is None:
        size = min(_CLUSTER, nodes)
        first_of = torch.arange(nodes).repeat_interleave(rows.indptr.diff()) // size * size
        near = (first_of + indices % size).clamp_(max=nodes - 1)
        indices = torch.where(torch.arange(len(indices)) % _AWAY == 0, indices, near)
    adj = Adjacency(rows.indptr, indices.int(), rows.values, (nodes, nodes))
    adj._symmetric = graph.adj.symmetric
    x = graph.x
    taken: Tensor | CSR | None = None
    if isinstance(x, CSR):
        taken = slice_rows(x, start, start + nodes)
        taken.t()
    elif x is not None:
        taken = read_rows(x, start, start + nodes).clone()
    number = torch.arange(nodes)
    first, last = int(graph.adj.indptr[start]), int(graph.adj.indptr[start + nodes])
    attr, kind = graph.edge_attr, graph.edge_type
    return Batch(
        x=taken,
        y=None,
        adj=adj,
        train_mask=torch.ones(nodes, dtype=torch.bool),
        train_index=number,
        node_id=number,
        clusters=torch.zeros(1, dtype=torch.int64),
        ptr=pointers,
        graph_ptr=None if graph.node_ptr is None else pointers,
        edge_attr=None if attr is None else read_rows(attr, first, last),
        edge_type=None if kind is None else read_rows(kind, first, last),
        node_type=None
        if graph.node_type is None
        else read_rows(graph.node_type, start, start + nodes),
    )


def _tried(model: LayeredGNN | GraphModel, batches: Sequence[Batch], seconds: float) -> Tried:
    turns = cycle(batches)
    for _ in range(_WARM):
        _once(model, next(turns))
    until = time.perf_counter() + seconds
    rounds: list[tuple[float, float, float]] = []
    while len(rounds) < _ROUNDS or len(rounds) % len(batches) or time.perf_counter() < until:
        rounds.append(_once(model, next(turns)))
    settled = [statistics.median(way) for way in zip(*rounds, strict=True)]
    nodes, edges, entries, turned = (
        sum(sizes) / len(batches) for sizes in zip(*map(_counts, batches), strict=True)
    )
    return Tried(Sizes(nodes, edges, entries=entries, transposed=turned), *settled)


def _counts(batch: Batch) -> tuple[int, int, int, int]:
    """Nodes, edges, entries of sparse features, and edges whose direction gradients turn."""
    adj, entries = batch.adj, batch.x.nnz if isinstance(batch.x, CSR) else 0
    return batch.num_nodes, adj.nnz, entries, 0 if adj.symmetric else adj.nnz


def _evaluated(model: LayeredGNN | GraphModel, batch: Batch) -> Tried:
    """Of a piece, where edges arrive at the first of its nodes alone."""
    rows = max(1, batch.num_nodes // _AROUND)
    ends = batch.adj.indptr.clone()
    ends[rows + 1 :] = ends[rows]
    edges = int(ends[rows])
    values = batch.adj.values
    batch.adj = Adjacency(
        ends, batch.adj.indices[:edges], None if values is None else values[:edges]
    )
    for name in ("edge_attr", "edge_type"):
        if (value := getattr(batch, name)) is not None:
            setattr(batch, name, value[:edges])
    assert batch.x is not None
    runs = []
    model.eval()
    for _ in range(_WARM + _ROUNDS):
        began = time.perf_counter()
        with torch.no_grad():
            model(batch.x, batch.adj, context=Context.of(batch, training=False, seed=0))
        runs.append(time.perf_counter() - began)
    entries = batch.x.nnz if isinstance(batch.x, CSR) else 0
    sizes = Sizes(batch.num_nodes, edges, entries=entries)
    return Tried(sizes, 0.0, 0.0, statistics.median(runs[_WARM:]))


def _once(model: LayeredGNN | GraphModel, batch: Batch) -> tuple[float, float, float]:
    fresh = Adjacency(batch.adj.indptr, batch.adj.indices, batch.adj.values)  # none of its caches
    fresh._symmetric = batch.adj.symmetric
    x = batch.x
    if isinstance(x, CSR):
        turned = x.t()
        x = CSR(x.indptr, x.indices, x.values, x.shape)
        x._t = turned
    assert x is not None
    times = [time.perf_counter()]
    batch.adj = fresh
    model.train()
    out = model(x, fresh, context=Context.of(batch, training=True, seed=0, step=0))
    times.append(time.perf_counter())
    if out.requires_grad:
        out.float().logsumexp(-1).sum().backward()
    times.append(time.perf_counter())
    del out
    for parameter in model.parameters():
        parameter.grad = None
    model.eval()
    began = time.perf_counter()
    with torch.no_grad():
        model(x, fresh, context=Context.of(batch, training=False, seed=0))
    return times[1] - times[0], times[2] - times[1], time.perf_counter() - began

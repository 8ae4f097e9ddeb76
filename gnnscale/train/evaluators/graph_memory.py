"""What passes over whole graphs take in memory, graph by graph, and which have room together.

A pass has a_t·n + b_t·e + c_t·g bytes of n nodes, e edges and g graphs at every moment t, and its
peak is the greatest of these sums. It is therefore at most

    pair·n + edge·max(0, e − n) + graph·g,

where `pair` is how the peak grows by nodes with an edge each, `edge` by edges alone among few nodes
and `graph` by graphs of one node: each slope is measured where it is steepest, on rings. What
several graphs take together is at most the sum of what each is said to take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.peak import PeakBytes
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph
from gnnscale.inference.budget import in_words
from gnnscale.loader import Batch
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.steps.step_memory import step_peak

_MARGIN = 1.5  # as that of `inference.opaque_cost`
_LOADED_NODE, _LOADED_EDGE = 32, 24  # of a batch beside what it carries: ids, masks, the structure
_ASSEMBLED_EDGE = 64  # while a batch is put together, and what kernels make of its structure
_RING = (64, 128, 256, 512)  # nodes
_FEW, _RINGS = 64, (16, 32)
_GRAPHS = (128, 256)
_EVEN, _UNEVEN = [16] * 16, [241, *[1] * 15]

Forward = Callable[[Any], Tensor]


class GraphsCost(NamedTuple):
    """Bytes of a pass over whole graphs, see above.

    Attributes:
        pair: by a node with an edge.
        edge: by one more edge.
        graph: by a graph.
        fixed: whatever the graphs.
        tried: while it was measured.
    """

    pair: float
    edge: float
    graph: float
    fixed: int
    tried: int

    def of_graphs(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """What each graph takes, of its nodes and edges: int64, of their shape."""
        more = (edges - nodes).clamp(min=0)
        return (self.pair * nodes + self.edge * more + self.graph).ceil().long()


def graphs_cost(
    forward: Forward, model: nn.Module, sample: Batch, memory: Any, *, training: bool, copies: int
) -> GraphsCost:
    """Measure a model's passes; it is left as it was.

    Args:
        forward: from a batch to one row a graph; the model is in evaluation mode.
        model: the model; its parameters have their shapes.
        sample: some graphs, on the device of the model.
        memory: the bound, for the message.
        training: whether the pass goes back too.
        copies: batches that are there at a time.

    Raises:
        InputError: what a graph takes is not the sum of what its nodes and edges do.
    """

    def peak(sizes: list[int], rings: int = 1) -> int:
        batch = _rings(sample, torch.tensor(sizes), rings)
        if training:
            found.append(step_peak(forward, model, batch))
            return found[-1]
        with torch.no_grad(), evaluation_mode(model), PeakBytes() as counted:
            forward(batch)
        found.append(counted.peak)
        return found[-1]

    found: list[int] = []
    peak(_EVEN)  # what is made once and kept
    alone = [peak([nodes]) for nodes in _RING]
    pairs = [_slope(alone[i : i + 2], _RING[i : i + 2]) for i in range(len(_RING) - 1)]
    squares = [(b - a) / (3 * n) for a, b, n in zip(pairs, pairs[1:], _RING, strict=False)]
    is_square = squares[0] > 0.5 and 0.8 < squares[1] / squares[0] < 1.25
    if is_square or peak(_UNEVEN) > 1.5 * peak(_EVEN):
        raise InputError(
            f"memory={memory!r}: the model takes memory by the square of a graph's nodes, or for "
            "every graph as much as for the largest beside it, and no bound is known before it "
            "runs; leave memory='auto', and choose graphs_per_batch and chunk_rows"
        )
    edge = max(0.0, _slope([peak([_FEW], rings) for rings in _RINGS], _RINGS) / _FEW)
    graph = max(0.0, _slope([peak([256 // g] * g) for g in _GRAPHS], _GRAPHS))
    with torch.no_grad(), evaluation_mode(model):
        row = forward(sample)[:1].nbytes
    carried = sum(
        value.nbytes for value in (sample.edge_attr, sample.edge_type) if value is not None
    )
    weight = 0 if sample.adj.values is None else sample.adj.values.element_size()
    of_edge = copies * (carried / max(1, sample.adj.nnz) + weight + _LOADED_EDGE) + _ASSEMBLED_EDGE
    of_node = copies * (_features(sample) / max(1, sample.num_nodes) + _LOADED_NODE)
    edge = _MARGIN * edge + of_edge
    # Gradients are held between steps too, and counted there.
    kept = sum(parameter.nbytes for parameter in model.parameters()) if training else 0
    fixed = max(0.0, alone[0] - pairs[0] * _RING[0] - kept)
    # Where what is fixed outweighs so few nodes, the slope is that of another moment.
    steepest = max(*pairs, (alone[-1] - kept) / _RING[-1])
    pair = max(edge, _MARGIN * steepest + of_edge + of_node)
    label = 0 if sample.y is None else sample.y[:1].nbytes
    # The loss and its gradient are of the size of the output.
    of_graph = _MARGIN * graph + copies * (label + 24) + 4 * row
    return GraphsCost(
        pair,
        edge,
        of_graph,
        int(_MARGIN * fixed),
        max(found) + int((of_node + of_edge) * _RING[-1]),
    )


def sizes_of(graph: Graph, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and edges of some graphs, int64 `[k]` each."""
    assert graph.node_ptr is not None
    starts = graph.node_ptr
    return starts.diff()[ids], graph.adj.indptr[starts].diff()[ids]


def cut(costs: Tensor, room: int) -> list[int]:
    """How many graphs, one after the other, have room together; each has alone."""
    total, counts, first = costs.cumsum(0), [], 0
    while first < costs.numel():
        before = int(total[first - 1]) if first else 0
        last = int(torch.searchsorted(total, before + room, right=True))
        counts.append(max(1, last - first))
        first += counts[-1]
    return counts


class Needs(NamedTuple):
    """What a run cannot do with less than: bytes, and what takes them."""

    evaluation: int = 0
    what: str = ""

    def refused(self, memory: int | str, least: int = 0) -> str | None:
        """Why a bound is too small; None where it is not."""
        if memory_bytes(memory) >= self.evaluation:
            return None
        bound = in_words(max(self.evaluation, least))
        return (
            f"memory={memory!r}: {self.what} takes {in_words(self.evaluation)} with what "
            f"is held beside it; give memory={bound!r} or more"
        )


def needs(graph: Graph, ids: Tensor, cost: GraphsCost, held: int) -> Needs:
    """What the evaluation of some graphs takes at least: that of the costliest, alone.

    Args:
        graph: the data set.
        ids: of the graphs, `[k]`.
        cost: of a pass over graphs.
        held: bytes that are taken beside.
    """
    costs = cost.of_graphs(*sizes_of(graph, ids))
    if not ids.numel() or int(costs.max()) < cost.tried:
        return Needs(held + cost.tried, f"the check of the model on {_RING[-1]} nodes")
    at = int(costs.argmax())
    nodes, edges = (int(size) for size in sizes_of(graph, ids[at]))
    what = f"graph {int(ids[at])} by itself ({nodes:,} nodes, {edges:,} edges)"
    return Needs(held + int(costs[at]), what)


def check_steps(
    costs: Tensor | None, wanted: int, memory: int | str, held: int, evaluation: Needs
) -> None:
    """Refuse a run that has no room, the same on every rank.

    Args:
        costs: of a step on each graph; None where this rank has no bound.
        wanted: graphs of a batch.
        memory: the bound.
        held: bytes of it that are taken beside a step.
        evaluation: what evaluation takes.

    Raises:
        InputError: with the smallest bound that would do, and a `graphs_per_batch` that fits.
    """
    refusal = None
    if costs is not None:
        total = costs.sort(descending=True).values.cumsum(0) + held
        most = min(wanted, total.numel())
        needed, bound = int(total[most - 1]), memory_bytes(memory)
        refusal = evaluation.refused(memory, needed)
        if refusal is None and needed > bound:
            fit = int(torch.searchsorted(total, bound, right=True))
            least = in_words(max(int(total[0]), evaluation.evaluation))
            fewer = f"graphs_per_batch={fit}" if fit else f"{least!r} with graphs_per_batch=1"
            refusal = (
                f"memory={memory!r}: a step on {most} graphs takes up to {in_words(needed)} with "
                f"what the run holds; give memory={in_words(needed)!r}, or {fewer}"
            )
    if refused := next(filter(None, comm.gather_objects(refusal)), None):
        raise InputError(refusal or refused)


def _features(sample: Batch) -> int:
    """Bytes of what a batch has for its nodes; sparse features come with their transpose."""
    x, kind = sample.x, sample.node_type
    types = 0 if kind is None else kind.nbytes
    if x is None or isinstance(x, Tensor):
        return types + (0 if x is None else x.nbytes)
    return types + 32 * x.nnz


def _slope(peaks: list[int], at: tuple[int, ...]) -> float:
    return (peaks[1] - peaks[0]) / (at[1] - at[0])


def _rings(sample: Batch, sizes: Tensor, rings: int) -> Batch:
    """Graphs of such sizes, at every node of which as many edges arrive from its own graph."""
    device, nodes = sample.adj.device, int(sizes.sum())
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    start, size = ptr[:-1].repeat_interleave(sizes), sizes.repeat_interleave(sizes)
    each = torch.arange(nodes)
    columns = (
        start[:, None] + (each - start)[:, None].add(torch.arange(1, rings + 1)) % size[:, None]
    )
    row = (each % sample.num_nodes).to(device)
    edge = (torch.arange(nodes * rings) % max(1, sample.adj.nnz)).to(device)

    def of_edges(value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return value[edge] if value.size(0) else value.new_zeros(edge.numel(), *value.shape[1:])

    indices = columns.sort(1).values.reshape(-1).to(sample.adj.indices.dtype)
    indptr = torch.arange(nodes + 1) * rings
    adj = Adjacency(indptr.to(device), indices.to(device), of_edges(sample.adj.values))
    x, graphs = sample.x, torch.arange(sizes.numel(), device=device)
    return Batch(
        x=x if x is None else x[row] if isinstance(x, Tensor) else x.select_rows(row),
        y=None,
        adj=adj,
        train_mask=torch.ones_like(graphs, dtype=torch.bool),
        train_index=graphs,
        node_id=each.to(device),
        clusters=graphs,
        ptr=ptr.to(device),
        graph_ptr=ptr.to(device),
        edge_attr=of_edges(sample.edge_attr),
        edge_type=of_edges(sample.edge_type),
        node_type=None if sample.node_type is None else sample.node_type[row],
    )

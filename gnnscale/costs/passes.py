"""What a pass takes in memory: of a layer over a piece of a graph, of a model over a batch.

A pass has a_t·n + b_t·e + c_t·g + d_t bytes of n nodes, e edges and g graphs at every moment t, and
its peak is the greatest of these sums. It is therefore at most

    fixed + pair·n + edge·max(0, e − n) + graph·g,

where `pair` is how the peak grows by nodes with an edge each, `edge` by edges alone among few nodes
and `graph` by graphs of few nodes. Each is measured where it is steepest, on rings, by counting
what torch's operations allocate: nothing is assumed of messages, heads, or how often they are
copied. Where several batches, or several graphs, are taken together they take at most the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor, nn

from gnnscale.costs.peak import Forward, pass_peak
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.nn.modules import evaluation_mode

# Over what is counted: workspace within torch's operations, and what the heap fragments. Measured
# on a star of 4·10⁵ nodes: PNA 1.35, Transformer 1.05, GAT, GATv2, GEN, EdgeConv, SAGE 0.8 to 1.1.
MARGIN = 1.4
LARGEST = 512  # nodes that costs are measured on, at most
_RINGS = (64, 128, 256, LARGEST)  # nodes
_FEW, _EACH = 64, (16, 32)  # nodes, and the edges at each
_GRAPHS = (128, 256)  # so many of 256 nodes
_EVEN, _UNEVEN = [16] * 16, [241, *[1] * 15]
_LOADED_NODE, _LOADED_EDGE = 32, 8  # of a batch beside what it carries: ids, masks, the structure
_ASSEMBLED_EDGE = 16  # while a batch is put together

Peak = Callable[[Sequence[int], int], int]  # of graphs of such sizes, with so many edges a node


class Growth(NamedTuple):
    """How a peak grows, in bytes.

    Attributes:
        pair: by a node with an edge.
        edge: by one more edge.
        fixed: whatever the size.
        squares: by the square of a graph's nodes, as found twice.
    """

    pair: float
    edge: float
    fixed: float = 0.0
    squares: tuple[float, ...] = (0.0, 0.0)

    def of(self, nodes: int, edges: int) -> float:
        """The bytes that grow."""
        return self.pair * nodes + self.edge * max(0, edges - nodes)

    def times(self, factor: float) -> Growth:
        """A peak that grows by so much more."""
        return self._replace(pair=self.pair * factor, edge=self.edge * factor)


def growth(peak: Peak, kept: int = 0) -> Growth:
    """Measure how a peak grows.

    Args:
        peak: runs what is measured.
        kept: bytes of every peak that are counted elsewhere.
    """
    alone = [peak([nodes], 1) - kept for nodes in _RINGS]
    sizes = pairwise(zip(_RINGS, alone, strict=True))
    pairs = [(more - less) / (m - n) for (n, less), (m, more) in sizes]
    squares = [(b - a) / (3 * n) for (a, b), n in zip(pairwise(pairs), _RINGS, strict=False)]
    few, more = (peak([_FEW], each) for each in _EACH)
    edge = max(0.0, (more - few) / (_FEW * (_EACH[1] - _EACH[0])))
    # Where what is fixed outweighs so few nodes, the slope is that of another moment.
    pair = max(edge, *pairs, alone[-1] / LARGEST)
    return Growth(pair, edge, max(0.0, alone[0] - pairs[0] * _RINGS[0]), tuple(squares))


class PassCost(NamedTuple):
    """Bytes of passes over batches, with the batches that are prepared meanwhile.

    Attributes:
        pair: by a node with an edge.
        edge: by one more edge.
        graph: by a graph, or a cluster.
        fixed: whatever the batch.
        tried: while it was measured.
    """

    pair: float
    edge: float
    graph: float
    fixed: int
    tried: int

    def of(self, nodes: int, edges: int) -> int:
        """Bytes of a pass over a batch, beside what a graph takes."""
        return self.fixed + int(self.pair * nodes + self.edge * max(0, edges - nodes))

    def of_graphs(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """What each graph takes beside `fixed`, of its nodes and edges: int64, of their shape."""
        more = (edges - nodes).clamp(min=0)
        return (self.pair * nodes + self.edge * more + self.graph).ceil().long()


def pass_cost(
    forward: Forward,
    model: nn.Module,
    sample: Batch,
    memory: int | str,
    *,
    training: bool,
    copies: int,
    under_way: int = 1,
) -> PassCost:
    """Measure a model's passes; it is left as it was.

    Args:
        forward: from a batch to what the loss is of.
        model: the model; its parameters have their shapes.
        sample: a small batch, on the device of the model.
        memory: the bound, for the message.
        training: whether the pass goes back too.
        copies: batches that are there at a time.
        under_way: batches of which all that is kept for the backward pass is there at a time.

    Raises:
        InputError: what a batch takes is not the sum of what its nodes, edges and graphs do.
    """
    found: list[int] = []

    def peak(sizes: Sequence[int], each: int = 1) -> int:
        batch = on_rings(sample, sizes, each)
        found.append(pass_peak(forward, model, batch, training=training))
        return found[-1]

    peak(_EVEN)  # what is made once and kept
    # Gradients are held between steps too, and counted there.
    kept = sum(parameter.nbytes for parameter in model.parameters()) if training else 0
    grows = growth(peak, kept)
    least, most = grows.squares
    if (least > 0.5 and 0.8 < most / least < 1.25) or peak(_UNEVEN) > 1.5 * peak(_EVEN):
        raise InputError(
            f"memory={memory!r}: the model takes memory by the square of a graph's nodes, or for "
            "every graph as much as for the largest beside it, and no bound is known before it "
            "runs; leave memory='auto', and choose how much is in a batch and in a chunk of rows"
        )
    fewer, more = (peak([256 // graphs] * graphs) for graphs in _GRAPHS)
    graph = max(0.0, (more - fewer) / (_GRAPHS[1] - _GRAPHS[0]))
    with torch.no_grad(), evaluation_mode(model):
        row = forward(sample)[:1].nbytes
    of_node, of_edge = _loaded(sample)
    of_node, of_edge = copies * of_node, copies * of_edge + _ASSEMBLED_EDGE
    label = 0 if sample.y is None else sample.y[:1].nbytes
    margin = MARGIN * under_way
    edge = margin * grows.edge + of_edge
    return PassCost(
        pair=max(edge, margin * grows.pair + of_edge + of_node),
        edge=edge,
        # The loss and its gradient are of the size of the output.
        graph=margin * graph + copies * (label + 24) + 4 * row,
        fixed=int(margin * grows.fixed),
        tried=max(found) + int((of_node + of_edge) * LARGEST),
    )


def _loaded(batch: Batch) -> tuple[float, float]:
    """Bytes of a batch by node and by edge; sparse features come with their transpose."""
    # Labels of graphs are counted by graph.
    y = batch.y if batch.y is None or len(batch.y) != len(batch.clusters) else None
    nodes = [batch.node_type, y, getattr(batch, "rows", None), batch.x, batch.first_hop]
    edges = [batch.edge_attr, batch.edge_type, batch.adj.values]
    of_nodes = sum(
        0 if v is None else v.nbytes if isinstance(v, Tensor) else 32 * v.nnz for v in nodes
    )
    of_edges = sum(value.nbytes for value in edges if value is not None)
    return (
        of_nodes / max(1, batch.num_nodes) + _LOADED_NODE,
        of_edges / max(1, batch.adj.nnz) + _LOADED_EDGE,
    )


# --- the small graphs that costs are measured on ------------------------------------------------

_OF_NODES = ("x", "first_hop", "node_type", "rows")  # the last of a layer trained by itself
_OF_EDGES = ("edge_attr", "edge_type")


def rings(sizes: Sequence[int], each: int = 1) -> Adjacency:
    """Graphs of such sizes, side by side, at every node of which as many edges arrive.

    They come from the nodes that follow it in its graph, from one several times where there are
    fewer.
    """
    size = torch.tensor(sizes)
    first = (size.cumsum(0) - size).repeat_interleave(size)
    size = size.repeat_interleave(size)
    node = torch.arange(size.numel())
    sources = (node - first)[:, None].add(torch.arange(1, each + 1)) % size[:, None]
    indices = (first[:, None] + sources).sort(1).values.reshape(-1).int()
    return Adjacency(torch.arange(size.numel() + 1) * each, indices, None)


def on_rings(sample: Batch, sizes: Sequence[int], each: int = 1) -> Batch:
    """A batch of such graphs, each a cluster, with rows and values of edges as a batch has them.

    Args:
        sample: the batch, of one node at least.
        sizes: nodes of every graph.
        each: edges that arrive at every node.
    """
    device, adj = sample.adj.device, rings(sizes, each)
    node = torch.arange(adj.num_nodes, device=device)
    values: dict[str, Any] = {
        name: repeated(getattr(sample, name, None), adj.num_nodes) for name in _OF_NODES
    } | {name: repeated(getattr(sample, name), adj.nnz) for name in _OF_EDGES}
    if hasattr(sample, "slots"):
        values["slots"] = {k: repeated(v, adj.num_nodes) for k, v in sample.slots.items()}
    else:
        del values["rows"]
    ptr = torch.tensor([0, *sizes], device=device).cumsum(0)
    indices = adj.indices.to(device, sample.adj.indices.dtype)
    weights = repeated(sample.adj.values, adj.nnz)
    return replace(
        sample,
        y=None,
        adj=Adjacency(adj.indptr.to(device), indices, weights),
        train_mask=torch.ones_like(node, dtype=torch.bool),
        train_index=node,
        node_id=node,
        clusters=torch.arange(len(sizes), device=device),
        ptr=ptr,
        graph_ptr=None if sample.graph_ptr is None else ptr,
        **values,
    )


@overload
def repeated(values: Tensor, count: int) -> Tensor: ...
@overload
def repeated(values: Tensor | None, count: int) -> Tensor | None: ...
@overload
def repeated(values: Tensor | CSR | None, count: int) -> Tensor | CSR | None: ...


def repeated(values: Tensor | CSR | None, count: int) -> Tensor | CSR | None:
    """As many rows as wanted, from the first on and over again; zeros where there is none."""
    if values is None:
        return None
    rows = values.shape[0]
    if not rows:
        assert isinstance(values, Tensor)
        return values.new_zeros(count, *values.shape[1:])
    at = torch.arange(count, device=values.device) % rows
    return values.select_rows(at) if isinstance(values, CSR) else values[at]

"""What an opaque convolution takes in memory on a piece of a graph, and whether it fits at all.

A piece takes what the layer does on it (see `passes`), and before that what gathering its halo
does. A run is asked for its costliest row before any work is done: it would else be refused after
the layers that come before, or after an epoch of training.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnscale.costs.inference import Budget
from gnnscale.costs.passes import MARGIN, Growth, growth, repeated, rings
from gnnscale.costs.peak import PeakBytes
from gnnscale.costs.sizes import in_degrees, most_edges
from gnnscale.errors import MemoryBound
from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import row_blocks, slice_rows
from gnnscale.graph.graph import EDGE_VALUES
from gnnscale.kernels import CSR, spmm
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.context import entering, type_of
from gnnscale.nn.blocks.phases import Neighbourhood, opaque_of
from gnnscale.nn.blocks.reach import halo
from gnnscale.nn.invariance.stand_in import copy_of
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.mapped import read_rows
from gnnscale.storage.memory import in_words

logger = logging.getLogger(__name__)

_HALO_NODE, _HALO_EDGE = 48, 88  # while a halo is gathered: int64 ids, sorted once
_KEPT_NODE, _KEPT_EDGE = 8, 24  # of a halo while the layer runs on it
_FEW = 8  # nodes that are enough to learn how wide every layer is
_SMALL = 1 << 14  # nodes and edges of a graph that is run whole without measuring the layer
_TRIED = 32  # rows of several hops whose halo is made to learn how large it is


class PieceCost(NamedTuple):
    """Bytes that a piece takes.

    Attributes:
        layer: what the layer allocates.
        node_input: of what it reads, by node.
        edge_input: of what it reads, by edge.
    """

    layer: Growth
    node_input: int
    edge_input: int

    def counted(self, nodes: int, edges: int) -> float:
        """What `PeakBytes` is expected to count while rows are gathered and the layer runs."""
        return self.node_input * nodes + self.edge_input * edges + self.layer.of(nodes, edges)

    def of(self, nodes: int, edges: int) -> int:
        """Bytes of a piece with its halo."""
        gathering = _HALO_NODE * nodes + _HALO_EDGE * edges
        return int(max(gathering, MARGIN * self.counted(nodes, edges)))

    def edges_within(self, allowed: int) -> int:
        """The most edges that a piece may have, whatever its nodes."""
        return int(allowed / max(_HALO_EDGE, MARGIN * (self.edge_input + self.layer.edge)))

    def corrected(self, nodes: int, edges: int, counted: int) -> PieceCost:
        """The cost after a run that took more than this says."""
        more = counted / max(self.counted(nodes, edges), 1.0)
        return self if more <= 1 else self._replace(layer=self.layer.times(more))


def gathering_cost() -> PieceCost:
    """Of the halo alone: for pieces so small that the layer is not worth measuring."""
    return PieceCost(Growth(0.0, 0.0), _KEPT_NODE, _KEPT_EDGE)


@torch.no_grad()
def piece_cost(
    phase: Neighbourhood,
    widths: Sequence[int],
    dtype: torch.dtype,
    carried: Mapping[str, Tensor],
    device: torch.device,
) -> PieceCost:
    """Measure a convolution in evaluation mode.

    Args:
        phase: the convolution as a phase.
        widths: columns of its input, and of each slot that it takes.
        dtype: of these.
        carried: values of the graph's edges and nodes, by name, as it is given them; not empty.
        device: where it is.
    """

    def peak(sizes: Sequence[int], each: int) -> int:
        adj = rings(sizes, each).to(device)
        x, *beside = (torch.ones(adj.num_nodes, w, dtype=dtype, device=device) for w in widths)
        values = _values(carried, adj.num_nodes, adj.nnz, device)
        edge_index = adj.edge_index
        with PeakBytes() as counted:
            phase.run(x, edge_index, values, beside)
        return counted.peak

    # Gathered from a file, rows are there twice: in the order of the file, and in the halo's.
    of_nodes, of_edges = 2 * sum(widths) * dtype.itemsize + _KEPT_NODE, _KEPT_EDGE
    for name, value in carried.items():
        row = value[:1].numel() * value.element_size()
        if name in EDGE_VALUES:
            of_edges += row
        else:
            of_nodes += row
    return PieceCost(growth(peak), of_nodes, of_edges)


def is_measured(budget: Budget, nodes: int, edges: int) -> bool:
    """Whether a layer is measured before it runs: on a small graph only where a bound is given."""
    worth = budget.is_given or nodes + edges > _SMALL
    return worth and nodes > 0 and edges > 0


@torch.no_grad()
def check_convolutions(
    model: LayeredGNN, graph: Graph, budget: Budget, device: torch.device
) -> None:
    """Find the row that takes the most in each opaque convolution.

    Args:
        model: the model.
        graph: the graph, with features.
        budget: what may be in memory.
        device: where it will run.

    Raises:
        MemoryBound: a row takes more than there is; with the smallest bound that would do.
    """
    if not (opaque_of(model.phases) and is_measured(budget, graph.num_nodes, graph.num_edges)):
        return
    with evaluation_mode(model):
        try:
            found, _ = _widths(model, graph, device)
        except Exception:  # on a graph that it was not made for; on its own it says what is wrong
            logger.debug("no widths of %s on a few nodes", type(model).__name__, exc_info=True)
            return
        refusals = []
        for phase, widths, dtype in found:
            carried = {k: v for k, v in graph.carried.items() if k in phase.given}
            cost = piece_cost(phase, widths, dtype, carried, device)
            refusals.append(refusal(phase, cost, graph.adj, budget))
    if largest := max(filter(None, refusals), key=lambda refusal: refusal[0], default=None):
        raise largest[1]


def refusal(
    phase: Neighbourhood, cost: PieceCost, adj: Adjacency, budget: Budget
) -> tuple[int, MemoryBound] | None:
    """What the row that takes the most takes, and the error to raise; None where it fits.

    The error names the smallest bound that would do.
    """
    if cost.of(adj.num_nodes, adj.nnz) <= budget.most:
        return None
    nodes, edges = _costliest_row(phase.hops, cost, adj, budget.most)
    needed = cost.of(nodes, edges)
    return (
        (needed, too_large(phase, nodes, edges, needed, budget)) if needed > budget.most else None
    )


def too_large(
    phase: Neighbourhood, nodes: int, edges: int, needed: int, budget: Budget
) -> MemoryBound:
    """Says what a row reads that takes more than there is, and what would do."""
    name = type(phase.module).__name__
    reach = "" if phase.hops == 1 else f" within its {phase.hops} hops"
    remedy = (
        "or take fewer channels or heads, a convolution that needs no message for every edge "
        "(GCN, GraphSAGE, GIN), or drop edges of the largest nodes"
    )
    return MemoryBound(
        f"{name} runs on a node with all that it reads, and one of this graph reads "
        f"{edges:,} edges and {nodes:,} nodes{reach}: {in_words(needed)} at once. "
        f"{budget.too_small_for(needed)}, {remedy}",
        budget.needed_for(needed),
    )


def _costliest_row(hops: int, cost: PieceCost, adj: Adjacency, allowed: int) -> tuple[int, int]:
    """Nodes and edges of the largest halo of a row; at most, where it is of several hops."""
    edges = None if hops == 1 else reachable_edges(adj, hops)
    largest = most_edges(adj) if edges is None else int(edges.max())
    within = (min(largest + 1, adj.num_nodes), min(largest, adj.nnz))
    if edges is None or cost.of(*within) <= allowed:
        return within
    found = (1, 0)
    for row in edges.topk(min(_TRIED, adj.num_nodes)).indices.tolist():
        rows = torch.tensor([row], device=adj.device)
        around = halo(adj, rows, hops, most=cost.edges_within(allowed))
        if around is None:
            return within
        sizes = (around.nodes.numel(), around.edges.numel())
        found = max(found, sizes, key=lambda size: cost.of(*size))
    return found


def reachable_edges(adj: Adjacency, hops: int) -> Tensor:
    """At most so many edges are read for each row, float64 `[num_nodes]`.

    What is reached in several ways counts as often.
    """
    own = torch.empty(adj.num_nodes, 1, dtype=torch.float64, device=adj.device)
    for start, degrees in in_degrees(adj):
        own[start : start + degrees.numel(), 0] = degrees
    edges = own
    for _ in range(hops - 1):
        further = own.clone()
        for start, stop, block in row_blocks(adj):
            bare = CSR(block.indptr, block.indices, None, block.shape)
            further[start:stop] += spmm(bare, edges)
        edges = further.clamp_(max=adj.nnz)
    return edges.squeeze(1)


@torch.no_grad()
def output_bytes(model: LayeredGNN, graph: Graph, device: torch.device) -> int:
    """Bytes of a row of the model's output; 0 where a few nodes do not tell."""
    if graph.x is None:  # of which the inference will tell
        return 0
    with evaluation_mode(model), contextlib.suppress(Exception):
        _, out = _widths(model, graph, device)
        return out[:1].nbytes
    return 0


def _widths(
    model: LayeredGNN, graph: Graph, device: torch.device
) -> tuple[list[tuple[Neighbourhood, list[int], torch.dtype]], Any]:
    """What each opaque convolution reads: columns of its input and of its slots, and their type.

    The model's output on a few nodes comes with it.
    """
    nodes = min(_FEW, graph.num_nodes)
    carried: dict[str, Any] = _values(graph.carried, nodes, nodes, device)
    ring = rings([nodes]).to(device)
    ring = Adjacency(ring.indptr, ring.indices, carried.pop("edge_weight", None))
    ends = torch.tensor([0, nodes], device=device)
    context = Context(ring, training=False, segments={"cluster": ends, "graph": ends}, **carried)
    assert graph.x is not None
    x: Any = graph.x
    x = slice_rows(x, 0, nodes) if isinstance(x, CSR) else read_rows(x, 0, nodes)
    x = entering(x.to(device), model)
    found = []
    for phase in (phase for block in model.phases for phase in block):
        if isinstance(phase, Neighbourhood):
            widths = [x.shape[1], *(context.slots[slot].shape[1] for slot in phase.slots)]
            found.append((phase, widths, type_of(x)))
            # The layer itself may keep what it sees first.
            phase = replace(phase, module=copy_of(phase.module).to(device))
        x = phase(x, context)
    return found, x


def _values(
    carried: Mapping[str, Tensor], nodes: int, edges: int, device: torch.device
) -> dict[str, Tensor]:
    """Values of a small graph's edges and nodes, out of another's."""
    return {
        name: repeated(value, edges if name in EDGE_VALUES else nodes).to(device)
        for name, value in carried.items()
    }

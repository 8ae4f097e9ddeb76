"""What a training step takes in memory, and which batches have room for it.

A step keeps the activations of every layer, and the messages of opaque ones, until its backward
pass: it grows with the nodes and the edges of its batch. Both slopes are counted on a batch and on
the same one with an edge more at every node. The largest batch is known from the graph alone,
before any is drawn: at most the largest clusters, and the edges that arrive at the nodes of each
from itself and from the clusters that send it most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.peak import PeakBytes
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, ClusteredGraph
from gnnscale.inference.budget import in_words
from gnnscale.loader import Batch
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.mapped import read_rows
from gnnscale.storage.memory import memory_bytes

logger = logging.getLogger(__name__)

_MARGIN = 1.4  # as that of `inference.opaque_cost`, and for what dropout keeps
_EDGES_AT_ONCE = 1 << 18


class StepCost(NamedTuple):
    """Bytes of a training step by node and by edge, with the batches that are prepared ahead."""

    node: float
    edge: float

    def of(self, nodes: int, edges: int) -> int:
        """Bytes of a step on a batch."""
        return int(self.node * nodes + self.edge * edges)


def step_cost(
    forward: Callable[[Any], Tensor], model: nn.Module, batch: Batch, prefetch: int, kept: int = 1
) -> StepCost:
    """Measure a step of a model, which is left as it was.

    Args:
        forward: from a batch to what the loss is of; the model is in evaluation mode.
        model: the model; its parameters have their shapes.
        batch: a batch, on the device of the model.
        prefetch: batches that are prepared while a step runs.
        kept: batches of which all that is kept for the backward pass is there at a time.
    """
    nodes, edges = max(1, batch.num_nodes), batch.adj.nnz
    once, more = (step_peak(forward, model, some) for some in (batch, _with_a_ring(batch)))
    of_edge = max(0, more - once) / nodes
    # Gradients are held between steps too, and counted there.
    once -= sum(parameter.nbytes for parameter in model.parameters())
    of_node = max(0.0, (once - of_edge * edges) / nodes)
    ahead = 1 + kept + prefetch  # those trained on, one handed over
    held = (batch.x, batch.y, getattr(batch, "rows", None))
    carried = sum(value.nbytes for value in held if isinstance(value, Tensor))
    attributes = 0 if batch.edge_attr is None else batch.edge_attr.nbytes
    return StepCost(
        _MARGIN * kept * of_node + ahead * (carried / nodes + 24),
        _MARGIN * kept * of_edge + ahead * (attributes / max(1, edges) + 8) + 16,
    )


class Batches:
    """The batches that may be drawn of a clustered graph, by the most that they hold.

    Args:
        seen: the clustered graph, or the view of it, that is trained on.
        clusters: of a batch.
    """

    def __init__(self, seen: ClusteredGraph, clusters: int) -> None:
        self._seen = seen
        self._clusters = min(clusters, seen.num_parts)
        self._within: Tensor | None = None

    def largest(self, clusters: int, counted: bool = True) -> tuple[int, int]:
        """The most nodes, and the most edges among them, that so many clusters have.

        Args:
            clusters: how many, the number given at most.
            counted: go through the edges; else all that arrive count, from wherever they come.
        """
        nodes = int(self._seen.sizes.topk(clusters).values.sum())
        edges = self._counted if counted else self._arriving
        return nodes, int(edges.topk(clusters).values.sum())

    def that_fit(self, cost: StepCost, room: int) -> int:
        """The most clusters of a batch whose step has room, up to the number given; 0 if none."""
        for counted in (False, True):
            if cost.of(*self.largest(self._clusters, counted)) <= room:
                return self._clusters
        fewer = range(self._clusters - 1, 0, -1)
        return next((q for q in fewer if cost.of(*self.largest(q)) <= room), 0)

    @property
    def _arriving(self) -> Tensor:
        indptr = self._seen.graph.adj.indptr
        return indptr[self._seen.ends] - indptr[self._seen.offsets[:-1]]

    @property
    def _counted(self) -> Tensor:
        if self._within is None:
            others = self._clusters - 1
            every = range(self._seen.num_parts)
            self._within = torch.tensor([_edges_with(self._seen, c, others) for c in every])
        return self._within


def clusters_with_room(
    cost: StepCost | None,
    seen: ClusteredGraph,
    wanted: int,
    memory: int | str,
    held: int,
    *,
    fewer: bool,
) -> int:
    """How many clusters a batch may have, the same on every rank.

    Args:
        cost: of a step; None where this rank has no bound.
        seen: what is trained on.
        wanted: clusters of a batch.
        memory: the bound.
        held: bytes of it that are taken beside a step.
        fewer: whether there may be fewer clusters.

    Raises:
        InputError: they have no room, and may not be fewer; with the smallest bound that would do.
    """
    batches, fit = Batches(seen, wanted), wanted
    if cost is not None:
        fit = min(wanted, batches.that_fit(cost, memory_bytes(memory) - held))
        if fit == min(wanted, seen.num_parts):
            fit = wanted
    if comm.world_size() > 1:
        fit = min(comm.gather_objects(fit))
    if fit >= wanted:
        return wanted
    if fit and fewer:
        logger.warning(
            "a step on %d clusters may take more than memory=%r: clusters_per_batch=%d",
            wanted,
            memory,
            fit,
        )
        return fit
    instead = f"clusters_per_batch={fit}" if fit else "more and smaller clusters (num_parts)"
    most = min(wanted, seen.num_parts)
    needed = in_words(0 if cost is None else held + cost.of(*batches.largest(most)))
    raise InputError(
        f"memory={memory!r}: a step on {wanted} clusters takes up to {needed} with what the run "
        f"holds; give memory={needed!r}, or {instead}"
    )


def _edges_with(seen: ClusteredGraph, cluster: int, others: int) -> int:
    """Edges that arrive at a cluster from itself and from the others that send it the most."""
    adj = seen.graph.adj
    rows = torch.stack([seen.offsets[cluster], seen.ends[cluster]])
    first, last = adj.indptr[rows].tolist()
    counts = torch.zeros(seen.num_parts, dtype=torch.int64)
    for start in range(first, last, _EDGES_AT_ONCE):
        sources = read_rows(adj.indices, start, min(start + _EDGES_AT_ONCE, last))
        counts += torch.bincount(seen.cluster_of[sources.long()], minlength=seen.num_parts)
    own = int(counts[cluster])
    counts[cluster] = 0
    return own + int(counts.topk(min(others, seen.num_parts)).values.sum())


def step_peak(forward: Callable[[Any], Tensor], model: nn.Module, batch: Batch) -> int:
    """Bytes that a model's pass over a batch allocates, forward and backward, at the most."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    devices = [batch.adj.device] if batch.adj.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        evaluation_mode(model),
        PeakBytes() as counted,
    ):
        out = forward(batch)
        if out.requires_grad:
            torch.autograd.grad(out.sum(), learnt, allow_unused=True)
    return counted.peak


def _with_a_ring(batch: Batch) -> Batch:
    """The same nodes with one edge more that arrives at each, from the node before."""
    adj, nodes = batch.adj, batch.num_nodes
    row = torch.arange(nodes, device=adj.device)
    rows = torch.cat([row.repeat_interleave(adj.indptr.diff()), row])
    columns = torch.cat([adj.indices, (row - 1).remainder(max(1, nodes)).to(adj.indices.dtype)])
    order = rows.argsort(stable=True)
    carried: dict[str, Tensor] = {"weight": adj.values} if adj.values is not None else {}
    for name in ("edge_attr", "edge_type"):
        if (value := getattr(batch, name)) is not None:
            carried[name] = value
    longer: dict[str, Any] = {
        name: torch.cat([value, value.new_zeros(nodes, *value.shape[1:])])[order]
        for name, value in carried.items()
    }
    weight = longer.pop("weight", None)
    indptr = adj.indptr + torch.arange(nodes + 1, device=adj.device)
    return replace(batch, adj=Adjacency(indptr, columns[order], weight), **longer)

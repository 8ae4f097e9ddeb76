"""How many clusters a batch may have for a training step to stay within a bound.

The largest batch is known from the graph alone, before any is drawn: at most the largest clusters,
and the edges that arrive at the nodes of each from itself and from the clusters that send it most.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.passes import PassCost
from gnnscale.errors import MemoryBound
from gnnscale.graph import ClusteredGraph
from gnnscale.storage.mapped import is_mapped, read_rows
from gnnscale.storage.memory import in_words, memory_bytes

logger = logging.getLogger(__name__)

_EDGES_AT_ONCE = 1 << 18


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

    def takes(self, cost: PassCost, clusters: int, counted: bool = True) -> int:
        """Bytes of a step on so many clusters, and of what is read while a batch is prepared."""
        adj, read = self._seen.graph.adj, 0
        if is_mapped(adj.indices):  # all that arrives is copied, and then cut
            entry = adj.indices.element_size()
            entry += 0 if adj.values is None else adj.values.element_size()
            read = entry * int(self._arriving.topk(clusters).values.sum())
        return cost.of(*self.largest(clusters, counted)) + read

    def that_fit(self, cost: PassCost, allowed: int) -> int:
        """The most clusters of a batch whose step fits, up to the number given; 0 if none."""
        for counted in (False, True):
            if self.takes(cost, self._clusters, counted) <= allowed:
                return self._clusters
        fewer = range(self._clusters - 1, 0, -1)
        return next((q for q in fewer if self.takes(cost, q) <= allowed), 0)

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


def clusters_that_fit(
    cost: PassCost | None,
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
        MemoryBound: they do not fit, and may not be fewer; with the smallest bound that would do.
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
    bound = 0 if cost is None else held + batches.takes(cost, most)
    needed = in_words(bound)
    raise MemoryBound(
        f"memory={memory!r}: a step on {wanted} clusters takes up to {needed} with what the run "
        f"holds; give memory={needed!r}, or {instead}",
        bound,
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

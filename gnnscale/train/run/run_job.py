"""RunJob: what is planned for, of a run that is about to begin, by a glimpse of its graph.

A line in the log is worth no walk over all edges. What is known for nothing (nodes, degrees of
clusters) is exact; the rest is the share of some edges that are looked at, all of a small graph's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.reading import entries_of
from gnnscale.costs.inference import default_chunk_rows
from gnnscale.costs.predicted.batches import EpochBatches
from gnnscale.costs.predicted.chunks import EvaluatedChunks
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.graph import Adjacency, ClusteredGraph, Graph
from gnnscale.loader.cluster_loader import draw_batches
from gnnscale.nn import GraphModel, LayeredGNN
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.storage.mapped import read_rows

_LOOKED_AT = 1 << 16  # edges, from as many places as _PLACES
_PLACES = 64
_MIRRORED, _SHORT = 32, 1024  # of these, edges looked for in the other direction; in rows so short
_DRAWN = 200  # batches that are drawn to see how much they differ


class RunJob(Job):
    """What a run trains: of its edges no more is read than some, wherever they are.

    Args:
        data: the graph as it was given, or clusters that were given.
        model: the model.
        clustered: the clusters that are trained on, as training sees them; None where there are
            none.
        split: the split set.
        inductive: whether training nodes alone are trained on.
        optimizer: see `Job`.
        seed: of the draws.
    """

    def __init__(
        self,
        data: Graph | ClusteredGraph,
        model: LayeredGNN,
        clustered: ClusteredGraph | None,
        *,
        split: str,
        inductive: bool,
        optimizer: str | Callable,
        seed: int,
    ) -> None:
        super().__init__(
            data, model, split=split, inductive=inductive, optimizer=optimizer, seed=seed
        )
        self.clustered = clustered
        self._learns = [p.requires_grad for p in model.parameters()]
        self._found: dict[Configuration, EpochBatches] = {}

    def is_of(self, data: object, model: LayeredGNN, clustered: ClusteredGraph | None) -> bool:
        """Whether it holds for these: the same layers learn, on the same clusters."""
        learns = [p.requires_grad for p in model.parameters()]
        return self.data is data and self.clustered is clustered and self._learns == learns

    @cached_property
    @override
    def sizes(self) -> Sizes:
        """Of the whole graph. The largest degrees, which enter depth alone, are of what is seen."""
        graph, edges = self.graph, _some_edges(self.graph.adj)
        degrees = graph.adj.indptr[edges.targets + 1] - graph.adj.indptr[edges.targets]
        most = int(degrees.max()) if degrees.numel() else 0
        return Sizes(
            graph.num_nodes,
            graph.num_edges,
            most,
            graph.num_edges * _share(edges.sources == edges.targets),
            entries_of(graph),
            1 if graph.node_ptr is None else graph.num_graphs,
            most,
            0 if _is_mirrored(graph.adj, edges) else graph.num_edges,
        )

    @cached_property
    @override
    def trained(self) -> Sizes:
        """Of what is trained on: the whole graph, or the subgraph of the training nodes."""
        if not self.inductive:
            return self.sizes
        if self.clustered is not None:
            nodes, edges = self.clustered.num_nodes, float(self._arriving.sum()) * self._kept.among
        else:
            split = self.graph.split(self.split)
            if split is None:
                return self.sizes
            some = _some_edges(self.graph.adj)
            kept = split.train[some.sources] & split.train[some.targets]
            nodes, edges = self.train_rows, self.graph.num_edges * _share(kept)
        found = self.sizes.share(nodes / max(1, self.sizes.nodes))
        return found._replace(edges=edges, transposed=edges if self.sizes.transposed else 0)

    @cached_property
    @override
    def chunks(self) -> EvaluatedChunks:
        """By which the whole graph is evaluated; what is around one is at most as much."""
        nodes, whole = max(1, self.graph.num_nodes), self.sizes
        if isinstance(self.model, GraphModel):
            return EvaluatedChunks(1, whole, whole)
        rows = min(nodes, default_chunk_rows(self.model, self.graph))
        sizes = whole.share(rows / nodes)
        hops = max((phase.hops for phase in opaque_of(self.model.phases)), default=0)
        some, around = _some_edges(self.graph.adj), float(rows)
        away = _share(some.sources // rows != some.targets // rows)
        for _ in range(hops):  # nodes outside, each counted as often as an edge comes from it
            around = min(nodes, around * (1 + away * whole.edges / nodes))
        halo = sizes._replace(nodes=around, edges=whole.edges * around / nodes)
        return EvaluatedChunks(nodes / rows, sizes, halo if hops and rows < nodes else sizes)

    @override
    def batches(self, configuration: Configuration) -> EpochBatches:
        """The batches of an epoch: nodes of the run's own draws, edges by the share that is kept.

        Args:
            configuration: of the run.
        """
        if self.clustered is None or configuration.trainer not in ("cluster", "pipeline"):
            return super().batches(configuration)
        if configuration not in self._found:
            self._found[configuration] = self._drawn(self.clustered, configuration)
        return self._found[configuration]

    def _drawn(self, seen: ClusteredGraph, chosen: Configuration) -> EpochBatches:
        there = seen.sizes.nonzero().squeeze(1)
        parts = max(1, there.numel())
        number = math.ceil(parts / min(max(1, chosen.clusters), parts))
        epochs = min(max(1, chosen.epochs), math.ceil(_DRAWN / number))
        counts, (own, among) = seen.train_counts[there], self._kept
        nodes, edges = list[float](), list[float]()
        for epoch in range(epochs if number > 1 else 1):
            dealt = draw_batches(
                counts, min(chosen.clusters, parts), shuffle=True, seed=self.seed, epoch=epoch
            )
            length = np.fromiter(map(len, dealt), float)
            order = there[torch.cat(dealt)]
            batch = np.repeat(np.arange(len(dealt)), length.astype(int))
            nodes += np.bincount(batch, seen.sizes[order], len(dealt)).tolist()
            arriving = np.bincount(batch, self._arriving[order], len(dealt))
            joined = (length - 1) / (parts - 1) if parts > 1 else 1.0
            edges += (arriving * (own + (among - own) * joined)).tolist()

        def sizes_of(nodes: float, edges: float) -> Sizes:
            share = self.trained.share(nodes / max(1, self.trained.nodes))
            both = edges if self.trained.transposed else 0
            drawn = math.ceil(parts / number)
            return share._replace(nodes=nodes, edges=edges, transposed=both, segments=drawn)

        mean = sizes_of(sum(nodes) / len(nodes), sum(edges) / len(edges))
        kept = number * mean.edges / self.trained.edges if self.trained.edges else 1.0
        return EpochBatches(number, mean, sizes_of(max(nodes), max(edges)), max(0.0, 1 - kept))

    @cached_property
    def _arriving(self) -> Tensor:
        """Edges that arrive at the nodes of every cluster, as training sees it."""
        assert self.clustered is not None
        indptr = self.clustered.graph.adj.indptr
        return indptr[self.clustered.ends] - indptr[self.clustered.offsets[:-1]]

    @cached_property
    def _kept(self) -> _Kept:
        """What becomes of the edges that arrive at nodes which are trained on."""
        seen = self.clustered
        assert seen is not None
        some, clusters = _some_edges(seen.graph.adj), []
        for nodes in some:
            cluster = torch.searchsorted(seen.offsets, nodes, right=True) - 1
            clusters.append(cluster.where(nodes < seen.ends[cluster], -1))
        source, target = (cluster[clusters[1] >= 0] for cluster in clusters)
        return _Kept(_share(source == target), _share(source >= 0))


class _Kept(NamedTuple):
    """Shares of the edges: that come from the same cluster, and from any that is trained on."""

    own: float
    among: float


class _Edges(NamedTuple):
    """Edges from all over a graph: int64 `[edges]` each."""

    sources: Tensor
    targets: Tensor


def _some_edges(adj: Adjacency) -> _Edges:
    """Some edges, from evenly spaced places; all of a small graph's."""
    number, length = adj.num_edges, _LOOKED_AT // _PLACES
    starts = [0]
    if number > _LOOKED_AT:
        starts = [place * (number - length) // (_PLACES - 1) for place in range(_PLACES)]
    else:
        length = number
    at = torch.cat([torch.arange(start, start + length) for start in starts])
    sources = [read_rows(adj.indices, start, start + length).long() for start in starts]
    targets = torch.searchsorted(adj.indptr, at, right=True) - 1
    return _Edges(torch.cat(sources), targets)


def _is_mirrored(adj: Adjacency, edges: _Edges) -> bool:
    """Whether some edges are there in the other direction too; weights are not compared."""
    sources = edges.sources
    short = (adj.indptr[sources + 1] - adj.indptr[sources] <= _SHORT).nonzero().squeeze(1)
    for at in short[:: max(1, short.numel() // _MIRRORED)].tolist():
        source, target = int(sources[at]), edges.targets[at]
        row = read_rows(adj.indices, int(adj.indptr[source]), int(adj.indptr[source + 1]))
        if not bool((row == target).any()):
            return False
    return True


def _share(which: Tensor) -> float:
    return float(which.double().mean()) if which.numel() else 0.0

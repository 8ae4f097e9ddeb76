"""How large the batches of an epoch are: nodes, edges, and the edges that none of them has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.epochs import drawn_sizes
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.cuts import Division
from gnnscale.graph import ClusteredGraph
from gnnscale.loader.cluster_loader import draw_batches

_COUNTED = 1 << 23  # pairs of clusters with edges between, over all epochs that are drawn
_DRAWN = 200  # batches that are drawn to see how much they differ


class EpochBatches(NamedTuple):
    """The batches of an epoch, of all ranks.

    Attributes:
        number: how many.
        mean: sizes in the mean.
        largest: of the largest that a run is expected to draw; each of its figures is the greatest.
        dropped: share of the edges that no batch of an epoch has.
    """

    number: int
    mean: Sizes
    largest: Sizes
    dropped: float


def rows_of_layers(whole: Sizes, train_rows: int, batch_rows: int) -> EpochBatches:
    """Batches of rows, of a layer that is trained by itself."""
    number = max(1, math.ceil(train_rows / max(1, batch_rows)))
    mean = whole.share(train_rows / number / max(1, whole.nodes))
    return EpochBatches(number, mean, mean, 0.0)


def of_whole_graphs(whole: Sizes, nodes: Tensor, edges: Tensor, drawn: int) -> EpochBatches:
    """Batches of whole graphs; the largest are those of most nodes, and of most edges.

    Args:
        whole: of what is trained on.
        nodes: of each graph, int64 `[graphs]`.
        edges: likewise.
        drawn: graphs of a batch.
    """
    graphs = max(1, nodes.numel())
    most = min(max(1, drawn), graphs)
    number = math.ceil(graphs / most)
    mean = whole.share(1 / number)._replace(segments=graphs / number)
    there, arriving = (float(of.topk(min(most, of.numel())).values.sum()) for of in (nodes, edges))
    largest = whole.share(there / max(1.0, whole.nodes))._replace(
        nodes=there,
        edges=arriving,
        loops=min(arriving, whole.loops),
        transposed=arriving if whole.transposed else 0,
        segments=most,
    )
    return EpochBatches(number, mean, largest, 0.0)


def estimated(
    whole: Sizes, configuration: Configuration, cut: Callable[[int], Division]
) -> EpochBatches:
    """Batches of clusters that are yet to be made.

    Args:
        whole: of what is trained on.
        configuration: the number of parts, and of clusters a batch.
        cut: what parts are like, by their number.
    """
    parts = min(configuration.parts, max(1, int(whole.nodes)))
    number = math.ceil(parts / max(1, min(configuration.clusters, parts)))
    drawn = math.ceil(parts / number)
    like = cut(parts)
    mean = drawn_sizes(whole, parts, parts / number, like.share)
    largest = drawn_sizes(whole, parts, drawn, like.share)
    # The greatest of so many draws, of sums of parts without replacement.
    draws = max(2, number * configuration.epochs)
    off = math.sqrt(2 * math.log(draws)) * math.sqrt(max(0.0, 1 - drawn / parts) / drawn)
    nodes, edges = 1 + like.nodes * off, 1 + like.edges * off
    largest = largest._replace(
        nodes=min(whole.nodes, largest.nodes * nodes),
        edges=min(whole.edges, largest.edges * edges),
        entries=min(whole.entries, largest.entries * nodes),
        transposed=min(whole.transposed, largest.transposed * edges),
    )
    kept = number * mean.edges / whole.edges if whole.edges else 1.0
    return EpochBatches(number, mean, largest, max(0.0, 1 - kept))


def counted(
    seen: ClusteredGraph,
    counts: sparse.coo_array,
    whole: Sizes,
    configuration: Configuration,
    seed: int,
) -> EpochBatches:
    """Batches of the clusters that there are, as a run of this seed draws them.

    Args:
        seen: what is trained on.
        counts: edges from each cluster to each: `cuts.between`.
        whole: its sizes.
        configuration: the number of clusters a batch.
        seed: of the draws.
    """
    drawn = seen.sizes.nonzero().squeeze(1)
    parts, clusters = drawn.numel(), min(configuration.clusters, max(1, drawn.numel()))
    number = math.ceil(parts / clusters)
    sizes = seen.sizes.double().numpy()
    nodes: list[float] = []
    edges: list[float] = []
    affordable = max(1, _COUNTED // max(1, counts.nnz))
    epochs = min(configuration.epochs, math.ceil(_DRAWN / number), affordable)
    for epoch in range(epochs):
        order = draw_batches(
            seen.train_counts[drawn], clusters, shuffle=True, seed=seed, epoch=epoch
        )
        batch_of = np.full(len(sizes), -1)
        own = drawn[torch.cat(order)].numpy()
        batch_of[own] = np.repeat(np.arange(len(order)), list(map(len, order)))
        nodes += np.bincount(batch_of[own], sizes[own], len(order)).tolist()
        at = batch_of[counts.row]
        within = (at == batch_of[counts.col]) & (at >= 0)
        edges += np.bincount(at[within], counts.data[within], len(order)).tolist()
    among = epochs * float(counts.sum())

    def sizes_of(nodes: float, edges: float) -> Sizes:
        share = whole.share(nodes / max(1, whole.nodes))
        transposed = edges if whole.transposed else 0
        segments = math.ceil(parts / number)
        return share._replace(nodes=nodes, edges=edges, transposed=transposed, segments=segments)

    mean = torch.tensor([nodes, edges], dtype=torch.float64).mean(1).tolist()
    dropped = 1 - sum(edges) / among if among else 0.0
    return EpochBatches(
        number, sizes_of(*mean), sizes_of(max(nodes), max(edges)), max(0.0, dropped)
    )

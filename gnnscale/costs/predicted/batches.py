"""How large the batches of an epoch are: nodes, edges, and the edges that none of them has."""

from __future__ import annotations

import math
from typing import NamedTuple

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.epochs import drawn_sizes
from gnnscale.costs.predicted.configuration import Configuration


class Batches(NamedTuple):
    """The batches of an epoch, of all ranks.

    Attributes:
        number: how many.
        mean: sizes in the mean.
        largest: of the largest that a run is expected to draw.
        dropped: share of the edges that no batch of an epoch has.
    """

    number: int
    mean: Sizes
    largest: Sizes
    dropped: float


def batches_of(whole: Sizes, train_rows: int, configuration: Configuration) -> Batches:
    """The batches that a configuration makes of what is trained on."""
    if configuration.trainer == "layerwise":
        rows = min(configuration.batch_rows, train_rows)
        count = max(1, math.ceil(train_rows / max(1, rows)))
        nodes = max(1, whole.nodes)
        mean = whole.share(train_rows / count / nodes)
        return Batches(count, mean, whole.share(rows / nodes), 0.0)
    if configuration.trainer == "graph":
        graphs = max(1, int(whole.segments))
        drawn = min(configuration.graphs, graphs)
        count = math.ceil(graphs / drawn)
        mean = whole.share(1 / count)._replace(segments=graphs / count)
        return Batches(count, mean, mean, 0.0)
    parts, drawn = configuration.parts, min(configuration.clusters, configuration.parts)
    count = math.ceil(parts / drawn)
    mean = drawn_sizes(whole, parts, drawn, 0.3 if parts > 1 else 0.0)
    kept = count * mean.edges / whole.edges if whole.edges else 1.0
    return Batches(count, mean, mean, max(0.0, 1 - kept))

"""What the ranks of pipelines have to know of each other before they train on a step's batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from gnnscale import comm
from gnnscale.loader import ClusterLoader
from gnnscale.train.contracts import Signals


class Agreed(NamedTuple):
    """The same on all ranks.

    Attributes:
        totals: by step of the loader, the normaliser of the batches of all pipelines.
        taking: step by step and pipeline by pipeline, which batches are run.
        signals: of all ranks.
    """

    totals: list[float]
    taking: list[bool]
    signals: Signals


def agree_on(own: Sequence[float], signals: Signals, group: Any, stage_group: Any) -> Agreed:
    """Tell all ranks, in one message, of this pipeline's batches and this rank's signals.

    Args:
        own: the normalisers of this pipeline's batches, 0 for one that is not there.
        signals: of this rank.
        group: the ranks that hold the same stages as this one.
        stage_group: the ranks of this pipeline, the first of which speaks for all.
    """
    steps, pipelines, me = len(own), comm.world_size(group), comm.rank(group)
    weights = [0.0] * (steps * pipelines)
    if stage_group is None or comm.rank(stage_group) == 0:
        weights[me::pipelines] = own
    interrupted, stop, *weights = comm.sum_numbers(*signals, *weights)
    totals = [sum(weights[i : i + pipelines]) for i in range(0, len(weights), pipelines)]
    return Agreed(totals, [weight > 0 for weight in weights], Signals(interrupted > 0, stop > 0))


def draws(loader: ClusterLoader) -> str:
    """A digest of the clusters that an epoch draws and of their sizes: of what is sent."""
    digest = hashlib.blake2b(loader.clustered.sizes.numpy().tobytes(), digest_size=8)
    for of_ranks in loader.steps(loader.epoch):
        for clusters in of_ranks:
            digest.update(clusters.numpy().tobytes() + b";")
    return digest.hexdigest()

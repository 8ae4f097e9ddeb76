"""Which clusters a batch draws: stochastic multiple partitions, with even training nodes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw_batches(
    train_counts: Tensor,
    clusters_per_batch: int,
    *,
    shuffle: bool,
    seed: int,
    epoch: int,
    stratify: bool = True,
) -> list[Tensor]:
    """Deal all clusters into batches, each cluster into exactly one (Cluster-GCN, algorithm 1).

    With `stratify`, clusters are ranked by training nodes and cut into as many strata as a batch
    has clusters; a batch draws one from every stratum. Batches then have nearly equal numbers of
    training nodes; among clusters of equal counts the draw is uniform.

    Args:
        train_counts: training nodes of each cluster, int64 `[num_parts]`.
        clusters_per_batch: clusters a batch draws; where they do not divide evenly, batches of a
            shuffled epoch differ by one at most, and else the last is smaller.
        shuffle: draw at random; else take clusters in order.
        seed: with `epoch`, fixes the draw.
        epoch: the epoch.
        stratify: even out training nodes.

    Returns:
        The clusters of every batch, int64.
    """
    num_parts = train_counts.numel()
    num_batches = -(-num_parts // clusters_per_batch)
    if not shuffle:
        return list(torch.arange(num_parts).split(clusters_per_batch))
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(num_parts)
    if stratify:
        # Stable sort of a random order: ties stay in random order.
        order = order[np.argsort(-train_counts.numpy()[order], kind="stable")]
    strata = -(-num_parts // num_batches)
    takers = np.concatenate([generator.permutation(num_batches) for _ in range(strata)])[:num_parts]
    dealt = order[np.argsort(takers, kind="stable")]
    sizes = np.bincount(takers, minlength=num_batches)
    return list(torch.from_numpy(dealt).split(sizes.tolist()))

"""Cuts: where stages begin so that the slowest takes least time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gnnscale.errors import InputError


def best_cuts(seconds: ArrayLike, traffic: ArrayLike, stages: int) -> list[int]:
    """The cuts of a row of blocks whose slowest stage takes least time. Exact.

    A stage takes the seconds of its blocks, and those of the traffic over both its boundaries. By
    dynamic programming over the last stage's first block (as PipeDream's partitioning, Narayanan et
    al., SOSP 2019, section 3.1, without replication): O(stages · num_blocks²).

    Args:
        seconds: of every block, `[num_blocks]`.
        traffic: seconds of what crosses between each block and the next, `[num_blocks − 1]`.
        stages: how many, each of one block or more.

    Returns:
        The blocks with which the second and later stages begin, `[stages − 1]`.

    Raises:
        InputError: there are fewer blocks than stages, or no stage.
    """
    seconds, traffic = np.asarray(seconds, float), np.asarray(traffic, float)
    blocks = len(seconds)
    if not 1 <= stages <= blocks:
        raise InputError(
            f"{stages} stages of a model with {blocks} blocks: choose from 1 to {blocks}"
        )
    before = np.concatenate([[0.0], seconds.cumsum()])
    crossing = np.concatenate([[0.0], traffic, [0.0]])
    # The slowest of the stages so far, if they end before block j; and where the last one begins.
    slowest = np.full(blocks + 1, np.inf)
    slowest[0] = 0.0
    begins: list[Sequence[int]] = []
    for _ in range(stages):
        # [first block, end] of one stage more.
        stage = before[None, :] - before[:, None] + crossing[None, :] + crossing[:, None]
        stage[np.tril_indices(blocks + 1)] = np.inf  # of one block at least
        worst = np.maximum(slowest[:, None], stage)
        begins.append(worst.argmin(0).tolist())
        slowest = worst.min(0)
    cuts, end = [], blocks
    for begin in reversed(begins[1:]):
        end = begin[end]
        cuts.append(end)
    return cuts[::-1]

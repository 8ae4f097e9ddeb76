"""The context of a training pass: made here alone, for every trainer.

A function, not a method: a trainer that made its own would train otherwise than it is told, and
nobody would see it. Evaluation takes `Context.of(batch, training=False)`.
"""

from __future__ import annotations

from typing import Any

from gnnscale import comm
from gnnscale.nn import Context
from gnnscale.nn.blocks.context import Runner, run_phases


def training_context(
    batch: Any, seed: int, runner: Runner = run_phases, group: Any = None
) -> Context:
    """The context of a training pass over a batch.

    Args:
        batch: a `Batch`, or what stands for one.
        seed: the run's.
        runner: how phases are run: plainly, compiled, checkpointed.
        group: the ranks that share the batches of a step; all when None.
    """
    return Context.of(
        batch,
        training=True,
        seed=seed,
        epoch=batch.epoch,
        # As one process counts batches.
        step=batch.step * comm.world_size(group) + comm.rank(group),
        runner=runner,
    )

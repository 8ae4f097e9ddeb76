"""Running statistics where several pipelines train on the batches of an update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from gnnscale import comm
from gnnscale.errors import UnsupportedModel
from gnnscale.train.steps.across_ranks import RunningStatistics

Observe = Callable[[int, int], None]


@contextlib.contextmanager
def exchanged(
    statistics: Mapping[int, RunningStatistics],
    group: Any,
    taken: Sequence[int],
    taking: Sequence[bool],
) -> Iterator[Observe | None]:
    """Run the passes of an update, then apply what all pipelines' batches showed, in their order.

    Args:
        statistics: of this rank's stages, by stage.
        group: the ranks that hold the same stages.
        taken: by micro-batch of this pipeline, its step among those of the update.
        taking: which batches are run, step by step and pipeline by pipeline.

    Yields:
        What is to be told of each forward pass (`Computation.observe`); None for one pipeline,
        whose norms see all batches in order.
    """
    pipelines = comm.world_size(group)
    if pipelines == 1:
        yield None
        return
    steps = len(taking) // pipelines
    shown = {
        stage: (seen := found.seen()).new_zeros(steps, seen.numel())
        for stage, found in statistics.items()
    }

    def observe(stage: int, micro_batch: int) -> None:
        shown[stage][taken[micro_batch]] = statistics[stage].seen()

    with contextlib.ExitStack() as stack:
        for of_stage in statistics.values():
            stack.enter_context(of_stage.alone())
        yield observe
    for stage, of_stage in statistics.items():
        if shown[stage].numel():
            every = comm.gather_tensors(shown[stage], group)  # [pipelines, steps, numbers]
            of_stage.apply(every.transpose(0, 1).flatten(0, 1), taking)


def refuse_synchronised(model: nn.Module) -> None:
    """Refuse norms that all ranks run together: stages run at different times.

    Raises:
        UnsupportedModel: naming one.
    """
    for name, module in model.named_modules():
        if getattr(module, "synchronised", False) or isinstance(module, nn.SyncBatchNorm):
            raise UnsupportedModel(
                f"{name} takes its statistics over the batches of all ranks together, which stages "
                "do not run at the same time: make it synchronised=False, or use ClusterTrainer"
            )

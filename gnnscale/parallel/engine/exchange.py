"""What ranks exchange around an update: counts, running statistics, the state of optimizers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from gnnscale import comm
from gnnscale.errors import UnsupportedModel
from gnnscale.loader import ClusterLoader
from gnnscale.train.contracts import Signals
from gnnscale.train.run.records import State
from gnnscale.train.steps.across_ranks import RunningStatistics

Observe = Callable[[int, int], None]


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


def agree_on(
    own: Sequence[float],
    signals: Signals,
    group: dist.ProcessGroup | None,
    stage_group: dist.ProcessGroup | None,
) -> Agreed:
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


@contextlib.contextmanager
def exchanged(
    statistics: Mapping[int, RunningStatistics],
    group: dist.ProcessGroup | None,
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


def part_of(state: State, optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> State:
    """Of an optimizer's state, what belongs to some parameters."""
    own = {id(parameter) for parameter in parameters}
    numbered = [id(p) for group in optimizer.param_groups for p in group["params"]]
    return {**state, "state": {n: of for n, of in state["state"].items() if numbered[n] in own}}


def whole(state: State, group: dist.ProcessGroup | None) -> State:
    """The state over all parameters, on every rank of the pipeline, each of which gives its own.

    Every rank makes the optimizer of the whole model, which keeps state of the parameters that get
    gradients there: those of its own stages. Parameters are numbered alike on all ranks, so the
    parts together are the state of one process that trains them all.
    """
    here = {
        number: {k: v.cpu() if isinstance(v, Tensor) else v for k, v in of_one.items()}
        for number, of_one in state["state"].items()
    }
    parts: State = {}
    for part in comm.gather_objects(here, group):
        parts |= part
    return {**state, "state": dict(sorted(parts.items()))}

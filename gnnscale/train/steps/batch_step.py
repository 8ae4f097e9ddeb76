"""BatchStep: one batch of every rank, one pass, and every so many of them an update."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.loader import Batch
from gnnscale.nn import Context
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.compiling import CompiledRows
from gnnscale.nn.blocks.context import Runner, run_phases
from gnnscale.train.contracts import Evaluator, Signals, Source, Trained
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.identity import agree
from gnnscale.train.run.records import State
from gnnscale.train.run.report import Meter
from gnnscale.train.session import Setup
from gnnscale.train.steps.across_ranks import RunningStatistics, SharedGradients
from gnnscale.train.steps.optimizers import make_optimizer, make_scheduler, watched_figure
from gnnscale.train.steps.updates import MixedPrecision, Updates
from gnnscale.train.task import counted, summed_loss

logger = logging.getLogger(__name__)


class WholeModel:
    """All layers of a model, trained together.

    Args:
        setup: of the trainer.

    Attributes:
        module: the model, and what its task has besides that is trained.
        runner: how phases are run.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._learnt = setup.learnt
        self.module: nn.Module = self._learnt
        self.runner = runner_of(setup.config, setup.device)

    def train(self) -> None:
        """See `Trained`."""
        self._learnt.train()

    def ready(self, batch: Batch) -> Batch:
        """See `Trained`."""
        batch = batch.to(self._setup.device, non_blocking=True)
        if comm.world_size(self._setup.group) == 1:
            return batch
        return replace(batch, step_train_nodes=batch.train_index.numel())  # ranks add theirs up

    def __call__(self, batch: Batch) -> Tensor:
        """See `Trained`."""
        assert batch.x is not None
        setup = self._setup
        context = training_context(batch, setup.config.seed, self.runner, setup.group)
        return setup.model(batch.x, batch.adj, context=context)

    def weights(self) -> State:
        """See `Trained`."""
        return self._learnt.weights()

    def take(self, weights: State) -> None:
        """See `Trained`."""
        self._learnt.take(weights)

    def state_dict(self) -> State:
        """Nothing: the run keeps the model and the task."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Nothing: the run has given model and task their weights."""


class BatchStep:
    """Trains on a batch at a time. It reads no value back from the device.

    The ranks' batches of a step count as one; `accumulate` steps make an update.

    Args:
        setup: of the trainer.
        trained: what is trained.
        meter: counts losses and nodes.
        updates: of its weights.
        running: its norms' running statistics.
        precision: of its products.
    """

    waiting = 0

    def __init__(
        self,
        setup: Setup,
        trained: Trained,
        meter: Meter,
        updates: Updates,
        running: RunningStatistics,
        precision: MixedPrecision,
    ) -> None:
        self.updates = updates
        self._setup, self._trained, self._meter = setup, trained, meter
        self._running, self._precision = running, precision

    def __call__(self, batch: Any, done: int, of: int) -> Signals:
        """See `Step`."""
        setup, own, nodes = self._setup, 0.0, 0
        if batch is not None:
            batch = self._trained.ready(batch)
            own, nodes = counted(setup.task, batch), batch.num_nodes
        takes_part = batch is not None and (own > 0 or self._running.synchronised)
        signals = Signals(setup.interrupted(), setup.stop)
        normaliser, signals, taking = agree(own, takes_part, signals, setup.group)
        if normaliser:
            with self._running.exchanged(taking):
                loss = None
                if takes_part:
                    loss = self._loss(batch)
                    self._meter.add(loss, own, nodes)
                self.updates.add(loss, normaliser)
        if done % setup.config.accumulate == 0 or done == of:
            self.updates.apply()
        return signals

    def _loss(self, batch: Any) -> Tensor:
        """The summed loss of a batch."""
        with self._precision.autocast():
            out = self._trained(batch)
        wide = out.to(torch.promote_types(out.dtype, torch.float32))
        return summed_loss(self._setup.task, wide, batch)

    def forget(self) -> None:
        """Nothing: no batch waits."""

    def share(self) -> None:
        """Nothing: every rank makes every update."""

    def state_dict(self) -> State:
        """See `Step`."""
        return {"updates": self.updates.state_dict()}

    def own_state(self) -> State:
        """See `Step`."""
        return {"updates": self.updates.begun()}

    def load_state_dict(self, state: State) -> None:
        """See `Step`."""
        self.updates.load_state_dict(state["updates"])


def step_of_whole(
    setup: Setup, trained: Trained, meter: Meter, source: Source, evaluator: Evaluator
) -> BatchStep:
    """The step of a trainer that trains all layers together, with a new optimizer and schedule."""
    running = RunningStatistics(trained.module, setup.group)
    running.check(source.num_batches)
    precision = MixedPrecision(setup.config.precision, setup.device)
    parameters = trained.module.parameters()
    updates = updates_of_whole(setup, trained.module, source, evaluator, precision, parameters)
    return BatchStep(setup, trained, meter, updates, running, precision)


def updates_of_whole(
    setup: Setup,
    module: nn.Module,
    source: Source,
    evaluator: Evaluator,
    precision: MixedPrecision,
    shared: Iterable[nn.Parameter],
) -> Updates:
    """A new optimizer and schedule, laid out over the epochs that are left.

    Args:
        setup: of the trainer.
        module: what is trained.
        source: of its batches, standing where training goes on.
        evaluator: of the trainer.
        precision: of its products.
        shared: the parameters whose gradients ranks of `setup.group` add up.
    """
    config, sums = setup.config, None
    optimizer = make_optimizer(config, module)
    scheduler, interval, watched = None, "epoch", None
    if config.scheduler is not None:
        updates = (setup.until - source.epoch) * math.ceil(len(source) / config.accumulate)
        scheduler, interval = make_scheduler(config, optimizer, updates)
        watched = watched_figure(scheduler, setup.task, "val" in evaluator.sets())
    if comm.world_size(setup.group) > 1:
        sums = SharedGradients(shared, setup.group, config.gradient_compression, config.seed)
    elif config.gradient_compression is not None:
        logger.warning(
            "gradient_compression=%r does nothing here: there is one rank, which exchanges no "
            "gradients",
            config.gradient_compression,
        )
    return Updates(
        module,
        optimizer,
        scheduler,
        interval,
        watched,
        precision.scaler,
        config,
        sums,
        setup.stage_group,
    )


def runner_of(config: TrainerOptions, device: torch.device) -> Runner:
    """How a model's phases are run in training: plainly, fused, checkpointed."""
    runner = CompiledRows(device) if config.compile else run_phases
    return checkpointed(runner) if config.checkpoint_activations else runner


def training_context(
    batch: Any, seed: int, runner: Runner = run_phases, group: dist.ProcessGroup | None = None
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

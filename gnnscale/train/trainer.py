"""Trainer: the loop over batches that trainers share.

    prepare → for every epoch: steps, evaluation, callbacks, checkpoint

A step reads no value back from the device.
"""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from gnnscale import comm
from gnnscale.costs.clusters import clusters_with_room
from gnnscale.costs.passes import pass_cost
from gnnscale.errors import GnnscaleError, InputError, RunMismatch
from gnnscale.inference.engine import in_one_chunk
from gnnscale.loader import Batch, ClusterLoader
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.compiling import CompiledRows
from gnnscale.nn.blocks.context import Runner, run_phases
from gnnscale.nn.invariance.check import Level
from gnnscale.train.kept_run import KeptRun
from gnnscale.train.options import TrainerOptions
from gnnscale.train.ranks import agree
from gnnscale.train.run.meter import Meter
from gnnscale.train.run.progress import Progress
from gnnscale.train.run.report import Report
from gnnscale.train.steps.additive import check_counted, counted, summed_loss, try_loss
from gnnscale.train.steps.contexts import training_context
from gnnscale.train.steps.optimizers import (
    SCHEDULERS,
    make_optimizer,
    make_scheduler,
    watched_figure,
)
from gnnscale.train.steps.precision import MixedPrecision
from gnnscale.train.steps.running import RunningStatistics
from gnnscale.train.steps.shared_gradients import SharedGradients
from gnnscale.train.steps.updates import Updates, gentler
from gnnscale.train.task import Task

logger = logging.getLogger(__name__)


class Trainer(KeptRun):
    """The shared loop. A child says where the batches come from.

    Attributes:
        stage_group: the ranks that hold the stages of the model; None where each holds all.
    """

    stage_group: Any = None
    _takes_fewer = False  # whether the clusters of a batch were chosen, and may be fewer
    _waiting: Sequence[Batch | None] = ()  # drawn, and yet to be trained on with the next ones

    def __init__(
        self,
        model: LayeredGNN,
        config: TrainerOptions,
        *,
        task: Task,
    ) -> None:
        super().__init__(model, config, task=task)
        self.precision = MixedPrecision(config.precision, self.device)
        self._meter = Meter(self.device)
        self._prepared = False
        self._interrupted: Callable[[], bool] = lambda: False
        self._begin()

    # --- what a child provides --------------------------------------------------------------

    @property
    @abstractmethod
    def loader(self) -> ClusterLoader:
        """The batches of an epoch, with a state."""

    @abstractmethod
    def _prepare_data(self) -> None:
        """Partition, and whatever else comes before the first step. Nothing is written."""

    @abstractmethod
    def _sample_batch(self) -> Batch:
        """A small batch for the check before training."""

    # --- the public verbs -------------------------------------------------------------------

    @override
    def prepare(self) -> None:
        """Do what comes before the first step (partition, check on one batch). Done once."""
        if self._prepared:
            return
        self._prepare_data()
        if self.config.early_stopping is not None and "val" not in self._sets():
            why = self._without_metrics() or "the split has none"
            raise InputError(f"early_stopping needs validation {self._unit}; {why}")
        self.learnt.to(self.device)
        self._dry_run()
        self._prepared = True

    @override
    def start(self) -> None:
        """Prepare, and make a new optimizer and schedule: what comes before the first `step`.

        Between two calls of `fit` it leaves epochs going on counting.
        """
        self.prepare()
        if not self._stands:
            self._stand_at(0, 0)
        self._runner = self._make_runner()
        self._running = RunningStatistics(self.learnt, self.group)
        self._running.check(self.loader.num_batches)
        self._make_updates()

    # --- the loop ---------------------------------------------------------------------------

    @override
    def _train(self, interrupted: Callable[[], bool]) -> None:
        steps = len(self.loader)
        self._interrupted = interrupted
        done = self.loader.epoch * steps + self.loader.step
        shown = self.config.progress and comm.is_main()
        with Progress(self._until * steps, done, shown) as progress:
            while self.report.stopped is None:
                self._stands = False
                self._run_epoch(progress)
                row = self._end_epoch(progress)
                self._stands = True
                for callback in self.callbacks:
                    callback.on_epoch_end(self, row)
                self.report.stopped = self._why_stop(row)
                stopping = comm.any_rank(interrupted())
                if stopping:
                    self._leave()
                if self._checkpoint_is_due() and self.report.stopped is None:
                    self._checkpoint()

    def _leave(self) -> NoReturn:
        """Interrupt training, where everything that moves is whole."""
        self._checkpoint()
        self._stands = True
        raise KeyboardInterrupt

    def _run_epoch(self, progress: Progress) -> None:
        self.learnt.train()
        steps, epochs = len(self.loader), self._until
        number = self.loader.epoch + 1
        before = time.monotonic()
        for batch in self.loader:
            self.step(batch)
            now = time.monotonic()
            self._meter.seconds += now - before
            before = now
            progress.step(
                (number - 1) * steps + self.loader.step,
                f"{number}/{epochs}",
                self._meter.mean_loss,
                self._meter.nodes_per_second,
            )
            self._steps_since_checkpoint += 1
            if self._stopping:
                self._leave()
            if self._steps_since_checkpoint == self.config.checkpoint_every:
                self._checkpoint()
                before = time.monotonic()

    def step(self, batch: Batch | None) -> None:
        """Train on one batch of `loader`: what `fit` does with each, for loops of one's own.

        It comes after `start`, in training mode (`learnt.train()`). Of several ranks every one
        takes the step, one that has no batch (None) as well.
        """
        own, nodes = 0.0, 0
        if batch is not None:
            batch = batch.to(self.device, non_blocking=True)
            if comm.world_size(self.group) > 1:  # its own: ranks add theirs up below
                batch = replace(batch, step_train_nodes=batch.train_index.numel())
            own, nodes = counted(self.task, batch), batch.num_nodes
        takes_part = batch is not None and (own > 0 or self._running.synchronised)
        stop = self._interrupted()
        normaliser, self._stopping, taking = agree(own, takes_part, stop, self.group)
        if normaliser:
            with self._running.exchanged(taking):
                loss = None
                if batch is not None and takes_part:
                    loss = self._loss(batch)
                    self._meter.add(loss, own, nodes)
                self._updates.add(loss, normaliser)
        number = self.loader.step if batch is None else batch.step + 1
        if number % self.config.accumulate == 0 or number == len(self.loader):
            self._updates.apply()

    def _loss(self, batch: Batch) -> Tensor:
        """The summed loss of a batch."""
        assert batch.x is not None
        with self.precision.autocast():
            context = training_context(batch, self.config.seed, self._runner, self.group)
            out = self.model(batch.x, batch.adj, context=context)
        wide = out.to(torch.promote_types(out.dtype, torch.float32))
        return summed_loss(self.task, wide, batch)

    def _end_epoch(self, progress: Progress) -> dict[str, Any]:
        self._meter.over_ranks(self.group)
        check_counted(self.task, self._meter.weight, f"epoch {self.loader.epoch}")
        loss = self._meter.mean_loss()
        if not math.isfinite(loss):
            raise GnnscaleError(
                f"the training loss is {loss} in epoch {self.loader.epoch}: try "
                f"{gentler(self.config)}"
            )
        row: dict[str, Any] = {
            "epoch": self.loader.epoch,
            "loss": loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self._meter.seconds,
            "nodes_per_second": self._meter.nodes_per_second,
        }
        self.report.rows.append(row)
        self._count("train", self._meter.seconds)
        self._meter.reset()
        if due := self._evaluation_is_due(row["epoch"]):
            self._evaluate_into(row, progress)
        self._updates.end_epoch(row)
        if row["epoch"] == self._until and not due:
            self._evaluate_last(row, progress)
        logger.info("epoch %d: %s", row["epoch"], row)
        return row

    # --- preparation and state --------------------------------------------------------------

    @property
    @override
    def epochs_done(self) -> int:
        return self.loader.epoch

    @override
    def _epochs_of(self, state: dict[str, Any]) -> int:
        return state["loader"]["epoch"] + (state["loader"]["step"] > 0)

    @override
    def _fixed_length(self, report: Report) -> str | None:
        if self.config.scheduler not in SCHEDULERS:
            return None
        return (
            f"scheduler={self.config.scheduler!r} was laid out over those. For more, give the "
            "model of load_run to a trainer with another run_dir, or begin anew with resume=False"
        )

    @override
    def _take_up(self) -> None:
        self._stand_at(self.loader.epoch, self.loader.step - len(self._waiting))
        self._waiting = []
        if self.config.scheduler not in SCHEDULERS or self._laid_out == self._until:
            return
        if not self._updates.fresh:
            raise RunMismatch(
                f"scheduler={self.config.scheduler!r} was laid out over {self._laid_out} epochs: "
                "call start() before fit(), which lays a new one out over those to come, with a "
                "new optimizer"
            )
        self._make_updates()

    def _stand_at(self, epoch: int, step: int) -> None:
        """Let the loader go on from there."""
        self.loader.load_state_dict({**self.loader.state_dict(), "epoch": epoch, "step": step})

    @override
    def _begin(self) -> None:
        super()._begin()
        self._waiting = []
        self._stopping = False  # whether a rank was interrupted before the last step
        self._steps_since_checkpoint = 0
        self._meter.reset()

    @override
    def _checkpoint(self) -> None:
        super()._checkpoint()
        self._steps_since_checkpoint = 0

    @override
    def _loop_state(self) -> dict[str, Any]:
        loader = self.loader.state_dict()
        return {
            "updates": self._updates.state_dict(),
            # What waits for an update is drawn again: nothing has been learnt from it.
            "loader": {**loader, "step": loader["step"] - len(self._waiting)},
            "meter": self._meter.state_dict(),
        }

    @override
    def _rank_state(self) -> dict[str, Any]:
        own = {"updates": self._updates.begun(), "meter": self._meter.state_dict()}
        return {**super()._rank_state(), **own}

    @override
    def _load_loop_state(self, state: dict[str, Any]) -> None:
        self._updates.load_state_dict(state["updates"])
        self.loader.load_state_dict(state["loader"])
        self._meter.load_state_dict(state["meter"])
        logger.info(
            "going on after epoch %d, step %d", state["loader"]["epoch"], state["loader"]["step"]
        )

    def _dry_run(self) -> None:
        """One batch before anything long begins: widths, reach and the loss are checked.

        It also gives lazy parameters (`in_channels=-1`) their shapes.
        """
        from gnnscale.train.steps.dry_run import dry_run

        batch, edge_labels = self._sample_batch().to(self.device), self.graph.y_level == "edge"
        one_batch = batch.num_nodes == self.graph.num_nodes
        one_chunk = in_one_chunk(self.model, self.graph, self.config.chunk_rows)
        one_chunk &= self.config.memory == "auto"  # within a bound there may be smaller pieces
        level: Level = "whole" if one_batch and one_chunk else "pieces"
        out = dry_run(self.model, batch, self.graph, self.task, level)
        try_loss(self.learnt, self.task, out, batch, edge_labels)
        self._check_room()
        self._check_step(batch)

    def _check_step(self, batch: Batch) -> None:
        """Find before training whether a step on the largest batch stays within `memory`.

        Raises:
            InputError: it does not, and the clusters of a batch were given.
        """
        checkpoints = self.config.checkpoint_activations
        runner = checkpointed(run_phases) if checkpoints else run_phases

        def forward(some: Batch) -> Tensor:
            context = Context.of(some, training=False, runner=runner)
            return self.model(some.x, some.adj, context=context)  # type: ignore[arg-type]

        loader, memory = self.loader, self.config.memory
        cost = None
        if memory != "auto":
            kept = self._batches_kept()
            cost = pass_cost(
                forward,
                self.model,
                batch,
                memory,
                training=True,
                copies=1 + kept + loader.prefetch,  # those trained on, one handed over
                under_way=kept,
            )
        loader.clusters_per_batch = clusters_with_room(
            cost,
            loader.clustered,
            loader.clusters_per_batch,
            memory,
            self._held_bytes(),
            fewer=self._takes_fewer,
        )

    def _batches_kept(self) -> int:
        """Batches that a step has under way at a time."""
        return 1

    def _make_runner(self) -> Runner:
        runner = CompiledRows(self.device) if self.config.compile else run_phases
        return checkpointed(runner) if self.config.checkpoint_activations else runner

    def _make_updates(self) -> None:
        config = self.config
        optimizer = make_optimizer(config, self.learnt)
        if self._until <= self.loader.epoch:  # between two calls of `fit`
            self._until = self.loader.epoch + config.epochs
        self._laid_out = self._until
        left = self._until - self.loader.epoch
        total = left * math.ceil(len(self.loader) / config.accumulate)
        scheduler, interval = make_scheduler(config, optimizer, total)
        watched = watched_figure(scheduler, self.task, "val" in self._sets())
        self._updates = Updates(
            self.learnt,
            optimizer,
            scheduler,
            interval,
            watched,
            self.precision.scaler,
            config,
            self._shared_gradients(),
            self.stage_group,
        )

    def _shared_gradients(self) -> SharedGradients | None:
        if comm.world_size(self.group) == 1:
            self._warn_of_compression()
            return None
        config = self.config
        return SharedGradients(
            self.learnt.parameters(), self.group, config.gradient_compression, config.seed
        )

    def _warn_of_compression(self) -> None:
        if (compression := self.config.gradient_compression) is not None:
            logger.warning(
                "gradient_compression=%r does nothing here: there is one rank, which exchanges no "
                "gradients",
                compression,
            )

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, once `fit` has made it."""
        return self._updates.optimizer

"""Trainer: the loop that all trainers share.

    prepare → for every epoch: steps, evaluation, callbacks, checkpoint → finish

Everything that moves is in the checkpoint, so a run killed at any moment goes on to the same
weights. A step reads no value back from the device.
"""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gnnscale import comm
from gnnscale.errors import GnnscaleError, InputError, RunMismatch
from gnnscale.loader import Batch, ClusterLoader
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.checkpointing import checkpointed
from gnnscale.nn.compiling import CompiledRows
from gnnscale.nn.context import Runner, run_phases
from gnnscale.train.allocator import kept_buffers, return_freed_memory
from gnnscale.train.callbacks import Callback
from gnnscale.train.config import TrainConfig
from gnnscale.train.device import choose_device
from gnnscale.train.evaluation import FullGraph
from gnnscale.train.identity import describe_model, describe_task
from gnnscale.train.interrupt import deferred_interrupt
from gnnscale.train.memory import MemoryMeter, memory_use, resident_arrays
from gnnscale.train.meter import Meter
from gnnscale.train.optimizers import make_optimizer, make_scheduler, watched_figure
from gnnscale.train.precision import MixedPrecision
from gnnscale.train.progress import Progress
from gnnscale.train.report import (
    Report,
    environment,
    warn_of_another_environment,
)
from gnnscale.train.run_folder import RunFolder
from gnnscale.train.task import Task
from gnnscale.train.updates import Updates

logger = logging.getLogger(__name__)

_CHECKPOINT_SECONDS = 20.0


class Trainer(FullGraph):
    """The shared loop. A child says where the batches come from."""

    _best: dict[str, Tensor] | None

    def __init__(
        self,
        model: LayeredGNN,
        config: TrainConfig,
        *,
        run_dir: str | Path | None,
        task: Task,
        optimizer: Any,
        scheduler: Any,
        parameter_groups: Callable[[nn.Module], Iterable[Any]] | None,
        callbacks: Sequence[Callback],
    ) -> None:
        config.check()
        if comm.world_size() > 1:
            raise GnnscaleError(
                f"{type(self).__name__} trains in one process; {comm.world_size()} ranks are set up"
            )
        self.model = model
        self.config = config
        self.task = task
        self.callbacks = list(callbacks)
        self.device = choose_device(config.device)
        self.precision = MixedPrecision(config.precision, self.device)
        self._meter = Meter(self.device)
        self.folder = None if run_dir is None else RunFolder(run_dir)
        self.stop = False
        self._optimizer_choice = optimizer
        self._scheduler_choice = scheduler
        self._parameter_groups = parameter_groups
        self._prepared = False
        # Before lazy parameters get their shapes: a second `fit` is of the same model.
        self._model_as_given = describe_model(model)
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
    def _keep_data(self) -> None:
        """Write into the run folder, new, what `_prepare_data` made and nothing can bring back."""

    @abstractmethod
    def _resume_data(self) -> None:
        """Prepare the data, when that is asked for, as the run in the folder did."""

    @abstractmethod
    def _sample_batch(self) -> Batch:
        """A small batch for the check before training."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What identifies the data of this run."""

    @abstractmethod
    def _evaluation_interval(self) -> int:
        """Epochs between evaluations for `evaluate_every="auto"`."""

    @abstractmethod
    def _held(self) -> dict[str, Any]:
        """Graphs and arrays that stay while it trains, by name; "" for the one trained on."""

    # --- the public verbs -------------------------------------------------------------------

    def fit(self, resume: str | bool = "auto") -> Report:
        """Train.

        Args:
            resume: "auto" goes on with the run in `run_dir` if there is one; True insists on one;
                False starts anew. Without a `run_dir`, every call trains from the present weights.

        Returns:
            The report. The model then has the weights that `keep` asks for.

        Raises:
            RunMismatch: the run in `run_dir` has another configuration, graph or model.
            InputError: data and model do not fit together.
            StoreError: the run folder cannot be written, or its checkpoint is damaged.
            GnnscaleError: the loss is no longer finite.
        """
        if not isinstance(resume, bool) and not (isinstance(resume, str) and resume == "auto"):
            raise InputError(f"resume={resume!r} must be 'auto', True or False")
        with MemoryMeter() as self._memory:
            return self._fit(resume)

    def _fit(self, resume: str | bool) -> Report:
        started = time.monotonic()
        self._begin()
        identity = self._run_identity()
        state = None
        if self.folder is not None:
            state = self.folder.resume(identity, self.config, resume)
        elif resume is True:
            raise RunMismatch("resume=True needs a run_dir")
        if state is not None and state["finished"]:
            logger.info("the run in %s is complete; nothing is left to train", self.folder)
            self.adopt(state["model"], Report(**state["report"]))
            return self.report
        if self.folder is not None:
            self.folder.check_writable()
        if state is not None:
            self._resume_data()
        # Before the folder is touched: a model that does not fit leaves a run there as it was.
        self.start()
        if self.folder is not None and state is None:
            self.folder.begin(identity, self.config)
            self._keep_data()
        elapsed = time.monotonic() - started
        self._count("prepare", elapsed - sum(self.report.seconds.values()))
        self.report.run = {
            **identity["about"],
            "config": asdict(self.config),
            "environment": environment(str(self.device)),
        }
        if state is not None:
            self._restore(state)
        else:
            self._checkpoint()  # the initial weights, so that a run killed early can go on too
        for callback in self.callbacks:
            callback.on_fit_start(self)
        with kept_buffers(), deferred_interrupt() as interrupted:
            self._train(interrupted)
        self._finish()
        return self.report

    def prepare(self) -> None:
        """Do what comes before the first step (partition, check on one batch). Done once."""
        if self._prepared:
            return
        self._prepare_data()
        if self.config.early_stopping is not None and "val" not in self._sets():
            raise InputError("early_stopping needs validation nodes; the split has none")
        self.model.to(self.device)
        self._dry_run()
        self._prepared = True

    def start(self) -> None:
        """Prepare, and make a new optimizer: what comes before the first `step`."""
        self.prepare()
        self._runner = self._make_runner()
        self._make_updates()

    def adopt(self, weights: dict[str, Tensor], report: Report) -> None:
        """Take over the weights and the report of a run, without going on with it.

        Raises:
            RunMismatch: the weights are of another model.
        """
        self._load_weights(weights)
        self._resume_data()
        self.model.to(self.device)
        self.report = report

    # --- the loop ---------------------------------------------------------------------------

    def _train(self, interrupted: Callable[[], bool]) -> None:
        config, steps = self.config, len(self.loader)
        done = self.loader.epoch * steps + self.loader.step
        with Progress(config.epochs * steps, done, config.progress) as progress:
            while self.report.stopped is None:
                self._run_epoch(progress, interrupted)
                row = self._end_epoch(progress)
                for callback in self.callbacks:
                    callback.on_epoch_end(self, row)
                self.report.stopped = self._why_stop(row)
                if interrupted() or (self._checkpoint_is_due() and self.report.stopped is None):
                    self._checkpoint()
                if interrupted():
                    raise KeyboardInterrupt

    def _run_epoch(self, progress: Progress, interrupted: Callable[[], bool]) -> None:
        self.model.train()
        steps, epochs = len(self.loader), self.config.epochs
        number = self.loader.epoch + 1
        before = time.monotonic()
        for batch in self.loader:
            assert batch is not None  # in one process every step has one
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
            if interrupted():
                self._checkpoint()
                raise KeyboardInterrupt
            if self._steps_since_checkpoint == self.config.checkpoint_every:
                self._checkpoint()
                before = time.monotonic()

    def step(self, batch: Batch) -> None:
        """Train on one batch of `loader`: what `fit` does with each, for loops of one's own.

        It comes after `start`, with the model in training mode.
        """
        batch = batch.to(self.device, non_blocking=True)
        normaliser = self.task.normaliser(batch)
        if normaliser:
            context = Context(
                batch.adj,
                training=True,
                seed=self.config.seed,
                epoch=batch.epoch,
                step=batch.step,
                node_id=batch.node_id,
                edge_attr=batch.edge_attr,
                first_hop=batch.first_hop,
                runner=self._runner,
            )
            assert batch.x is not None
            with self.precision.autocast():
                out = self.model(batch.x, batch.adj, context=context)
            wide = out.to(torch.promote_types(out.dtype, torch.float32))
            loss = self.task.loss(wide, batch)
            self._updates.add(loss, normaliser)
            self._meter.add(loss, normaliser, batch.num_nodes)
        number = batch.step + 1
        if number % self.config.accumulate == 0 or number == len(self.loader):
            self._updates.apply()

    def _end_epoch(self, progress: Progress) -> dict[str, Any]:
        loss = self._meter.mean_loss()
        if not math.isfinite(loss):
            raise GnnscaleError(
                f"the training loss is {loss} in epoch {self.loader.epoch}: try a smaller lr (it "
                f"is {self.config.lr}) or clip_norm=1.0"
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
        if self._evaluation_is_due():
            self._evaluate_into(row, progress)
        self._updates.end_epoch(row)
        logger.info("epoch %d: %s", row["epoch"], row)
        return row

    def _evaluate_into(self, row: dict[str, Any], progress: Progress) -> None:
        return_freed_memory()  # or what steps use would stay beside the layers of the whole graph
        found = self._evaluate(self._sets())
        return_freed_memory()
        for where, metrics in found.items():
            row.update({f"{where}_{name}": value for name, value in metrics.items()})
        value = found.get("val", {}).get(self.task.headline)
        if value is None or math.isnan(value):
            return
        progress.validation(self.task.headline, value)
        best = self.report.best
        higher = self.task.metrics()[0].higher_is_better
        if best is None or (value > best if higher else value < best):
            self.report.best_epoch = row["epoch"]
            if self.config.keep == "best":
                state = self.model.state_dict()
                self._best = {k: v.detach().cpu().clone() for k, v in state.items()}

    def _why_stop(self, row: dict[str, Any]) -> str | None:
        epoch = self.loader.epoch
        patience, best = self.config.early_stopping, self.report.best_epoch
        if self.stop:
            return "callback"
        evaluated = f"val_{self.task.headline}" in row  # else nothing new is known
        if evaluated and patience is not None and best is not None and epoch - best >= patience:
            return "early stopping"
        return "epochs" if epoch >= self.config.epochs else None

    def _finish(self) -> None:
        if self._best is not None:
            self.model.load_state_dict(self._best)
        self.report.final = self._evaluate(self._sets())
        self._memory.look()
        self.report.memory = {
            **memory_use(self._memory),
            "arrays": resident_arrays(self._held()),
        }
        self.report.seconds["total"] = sum(
            seconds for name, seconds in self.report.seconds.items() if name != "total"
        )
        if self.folder is not None:
            self.folder.finish(self.model.state_dict(), self.report)
        for callback in self.callbacks:
            callback.on_fit_end(self, self.report)

    def _evaluation_is_due(self) -> bool:
        every = self.config.evaluate_every
        interval = self._evaluation_interval() if every == "auto" else every
        epoch = self.loader.epoch
        return epoch % int(interval) == 0 or epoch >= self.config.epochs

    # --- preparation and state --------------------------------------------------------------

    def _begin(self) -> None:
        self.report = Report(headline=self.task.headline)
        self.stop = False
        self._best = None
        self._last_checkpoint = time.monotonic()
        self._steps_since_checkpoint = 0
        self._meter.reset()

    def _dry_run(self) -> None:
        """One batch, without gradients, before anything long begins: widths and reach are checked.

        It also gives lazy parameters (`in_channels=-1`) their shapes.
        """
        from gnnscale.train.dry_run import dry_run

        dry_run(self.model, self._sample_batch().to(self.device), self.graph, self.task)

    def _make_runner(self) -> Runner:
        runner = CompiledRows(self.device) if self.config.compile else run_phases
        return checkpointed(runner) if self.config.checkpoint_activations else runner

    def _make_updates(self) -> None:
        config = self.config
        optimizer = make_optimizer(
            self._optimizer_choice,
            self.model,
            config.lr,
            config.weight_decay,
            self._parameter_groups,
        )
        total = config.epochs * math.ceil(len(self.loader) / config.accumulate)
        scheduler, interval = make_scheduler(self._scheduler_choice, optimizer, config.lr, total)
        watched = watched_figure(scheduler, self.task, "val" in self._sets())
        self._updates = Updates(
            self.model,
            optimizer,
            scheduler,
            interval,
            watched,
            self.precision.scaler,
            config.clip_norm,
        )
        self.loader.epoch = self.loader.step = 0

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer, once `fit` has made it."""
        return self._updates.optimizer

    def _run_identity(self) -> dict[str, Any]:
        data = self._identity()
        title = f"{self.model.spec['model'] if self.model.spec else 'model'} on {data['name']}"
        return {
            "trainer": type(self).__name__,
            "data": data,
            **self._model_as_given,
            "task": describe_task(self.task),
            "about": {"title": title, "graph": data, "trainer": type(self).__name__},
        }

    def _checkpoint_is_due(self) -> bool:
        if self.config.checkpoint_every != "auto":
            return False
        return time.monotonic() - self._last_checkpoint >= _CHECKPOINT_SECONDS

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        self.folder.checkpoint(self._state(), self.report)
        self._last_checkpoint = time.monotonic()
        self._steps_since_checkpoint = 0

    def _state(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "model": self.model.state_dict(),
            "best": self._best,
            "updates": self._updates.state_dict(),
            "loader": self.loader.state_dict(),
            "meter": self._meter.state_dict(),
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        report = Report(**state["report"])
        warn_of_another_environment(
            report.run.get("environment", {}), self.report.run["environment"]
        )
        seconds, self.report = self.report.seconds, report
        for name, value in seconds.items():
            self._count(name, value)
        self._load_weights(state["model"])
        self._best = state["best"]
        self._updates.load_state_dict(state["updates"])
        self.loader.load_state_dict(state["loader"])
        self._meter.load_state_dict(state["meter"])
        torch.set_rng_state(state["rng"]["cpu"])
        if state["rng"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)
        logger.info(
            "going on after epoch %d, step %d", state["loader"]["epoch"], state["loader"]["step"]
        )

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise RunMismatch(f"the run's weights are of another model: {error}") from error

"""LayerLoop: one stage after another is trained, each until its controller says to stop.

for every stage that has parameters: aggregate → epochs of steps, validation, decision → freeze
"""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from typing_extensions import override

from gnnscale import comm
from gnnscale.errors import GnnscaleError, InputError, RunMismatch
from gnnscale.nn import LayeredGNN
from gnnscale.train.controllers.stopping import Decision, LayerProgress
from gnnscale.train.kept_run import KeptRun
from gnnscale.train.layerwise.layer import Layer, TrainingBatches, ValidationRows
from gnnscale.train.layerwise.stages import Stage
from gnnscale.train.layerwise.streams import Stream
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.ranks import agree
from gnnscale.train.run.meter import Meter
from gnnscale.train.run.progress import Progress
from gnnscale.train.run.report import Report
from gnnscale.train.steps.additive import check_counted, counted, summed_loss
from gnnscale.train.steps.optimizers import make_optimizer
from gnnscale.train.steps.precision import MixedPrecision
from gnnscale.train.steps.running import RunningStatistics
from gnnscale.train.steps.shared_gradients import SharedGradients
from gnnscale.train.steps.updates import Updates, gentler
from gnnscale.train.task import Task

logger = logging.getLogger(__name__)


class LayerLoop(KeptRun):
    """The loop over layers. A child says where their rows come from."""

    config: LayerwiseOptions
    _num_outputs: int  # of the model; known once it is prepared
    _layer: Layer | None
    _resumed: dict[str, Any] | None

    def __init__(
        self,
        model: LayeredGNN,
        config: LayerwiseOptions,
        *,
        task: Task,
    ) -> None:
        super().__init__(model, config, task=task)
        assert config.controller is not None
        self.controller = config.controller
        self._meter = Meter(self.device)
        self._begin()

    # --- what a child provides --------------------------------------------------------------

    @property
    @abstractmethod
    def _trained(self) -> list[Stage]:
        """The stages that have something to train."""

    @abstractmethod
    def _walk(self) -> Iterator[tuple[Stage, list[Stream]]]:
        """Every stage, with the values that it reads; going on freezes it."""

    @abstractmethod
    def _read(
        self, stage: Stage, streams: list[Stream]
    ) -> tuple[TrainingBatches, ValidationRows | None]:
        """What a stage trains on and is evaluated on."""

    # --- the loop ---------------------------------------------------------------------------

    @override
    def _train(self, interrupted: Callable[[], bool]) -> None:
        self._stands = True  # but see `_take_up`
        trained = self._trained
        todo = trained[self._number :]  # none where all that is left is fine-tuning
        shown = self.config.progress and comm.is_main()
        with Progress(len(trained), self._number, shown) as progress:
            for stage, streams in self._walk() if todo else ():
                if trained[self._number : self._number + 1] == [stage]:
                    layer = self._open(stage, streams)
                    self._train_layer(layer, progress, interrupted)
                    self._close(layer)
                    if self.stop:
                        break
        self.report.stopped = "callback" if self.stop else "layers"

    def _open(self, stage: Stage, streams: list[Stream]) -> Layer:
        """Aggregate for a stage, and make what it is trained with."""
        started = time.monotonic()
        number, config = self._number, self.config
        rows, validation = self._read(stage, streams)
        layer = Layer(
            stage,
            number,
            rows,
            validation,
            self.model,
            self.task,
            config.seed,
            self._num_outputs,
            self.device,
        )
        optimizer = make_optimizer(config, layer.trained)
        # A scale of its own too: between layers a checkpoint holds none.
        self._precision = MixedPrecision(config.precision, self.device)
        scaler, shared = self._precision.scaler, None
        if comm.world_size() > 1:
            shared = SharedGradients(layer.trained.parameters())
        self._updates = Updates(
            layer.trained, optimizer, None, "epoch", None, scaler, config, shared
        )
        self._running = RunningStatistics(nn.ModuleList(layer.norms_over_batches()))
        self._running.check(rows.num_batches)
        self._layer = layer
        if self._resumed is None:
            layer.keep_good()
            self.controller.begin(number, len(self._trained))
            self.report.layers.append({"layer": number + 1, "epochs": 0, "seconds": 0.0})
        else:
            layer.load_state_dict(self._resumed["layer"])
            self._updates.load_state_dict(self._resumed["updates"])
            self._meter.load_state_dict(self._resumed["meter"])
            self._resumed = None
            logger.info("going on with layer %d after epoch %d", number + 1, layer.epoch)
        seconds = time.monotonic() - started
        self._count("aggregate", seconds)
        row = self.report.layers[-1]
        row["aggregate_seconds"] = row.get("aggregate_seconds", 0.0) + seconds
        return layer

    def _train_layer(
        self, layer: Layer, progress: Progress, interrupted: Callable[[], bool]
    ) -> None:
        account = self.report.layers[-1]
        while "stopped" not in account:
            self._run_epoch(layer, progress, interrupted)
            row = self._end_epoch(layer, account, progress)
            for callback in self.callbacks:
                callback.on_epoch_end(self, row)
            self.stop = comm.any_rank(self.stop)
            if self.stop:
                account["stopped"] = "callback"
            stopping = comm.any_rank(interrupted())
            if stopping or self._checkpoint_is_due():
                self._checkpoint()
            if stopping:
                raise KeyboardInterrupt

    def _run_epoch(self, layer: Layer, progress: Progress, interrupted: Callable[[], bool]) -> None:
        layer.train()
        number, layers = self._number + 1, len(self._trained)
        before = time.monotonic()
        for batch in layer.batches():
            stopping = self._step(layer, batch, interrupted())
            now = time.monotonic()
            self._meter.seconds += now - before
            before = now
            progress.step(
                self._number,
                f"{layer.epoch + 1} of layer {number}/{layers}",
                self._meter.mean_loss,
                self._meter.nodes_per_second,
            )
            self._steps_since_checkpoint += 1
            if stopping:
                self._checkpoint()
                raise KeyboardInterrupt
            if self._steps_since_checkpoint == self.config.checkpoint_every:
                self._checkpoint()
                before = time.monotonic()

    def _step(self, layer: Layer, batch: Any, interrupted: bool = False) -> bool:
        """Train on a batch, None for a rank that has none; whether a rank was interrupted."""
        own = 0.0
        if batch is not None:
            own = counted(self.task, batch)
        takes_part = batch is not None and (own > 0 or self._running.synchronised)
        normaliser, stopping, taking = agree(own, takes_part, interrupted)
        if normaliser:
            with self._running.exchanged(taking):
                loss = None
                if takes_part:
                    with self._precision.autocast():
                        out = layer(batch)
                    wide = out.to(torch.promote_types(out.dtype, torch.float32))
                    loss = summed_loss(self.task, wide, batch)
                    self._meter.add(loss, own, batch.num_nodes)
                self._updates.add(loss, normaliser)
        layer.step += 1
        if layer.step % self.config.accumulate == 0 or layer.step == len(layer.rows):
            self._updates.apply()
        return stopping

    def _end_epoch(
        self, layer: Layer, account: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        self._meter.over_ranks()
        where = f"epoch {layer.epoch + 1} of layer {self._number + 1}"
        check_counted(self.task, self._meter.weight, where)
        loss = self._meter.mean_loss()
        # A last step that overflows does not show in the loss.
        if not (math.isfinite(loss) and layer.is_finite()):
            layer.revert()
            fault = f"the training loss is {loss} in {where}"
            if math.isfinite(loss):
                fault = f"after {where}, weights are no longer finite"
            raise GnnscaleError(
                f"{fault}; the model has those from before that epoch. Try {gentler(self.config)}, "
                "and see that the features are not too large"
            )
        layer.epoch, layer.step = layer.epoch + 1, 0
        row: dict[str, Any] = {
            "epoch": len(self.report.rows) + 1,
            "layer": self._number + 1,
            "loss": loss,
            "lr": self._updates.optimizer.param_groups[0]["lr"],
            "seconds": self._meter.seconds,
            "nodes_per_second": self._meter.nodes_per_second,
        }
        self.report.rows.append(row)
        self._count("train", self._meter.seconds)
        account["epochs"] = layer.epoch
        account["seconds"] += self._meter.seconds
        account["loss"] = loss
        self._meter.reset()
        layer.keep_good()
        key = f"val_{self.task.headline}"
        if layer.validation is not None and self._is_due(layer.epoch):
            self._validate(layer, row, progress)
        metrics = self.task.metrics()
        decision = self.controller.decide(
            LayerProgress(
                self._number,
                len(self._trained),
                layer.epoch,
                loss,
                row.get(key),
                not metrics or metrics[0].higher_is_better,
            )
        )
        if not isinstance(decision, Decision):
            raise InputError(
                f"{type(self.controller).__name__}.decide returned {decision!r}; it returns a "
                "Decision"
            )
        decision = comm.broadcast_object(decision)
        if decision.p_stop is not None:
            row["p_stop"] = decision.p_stop
        if decision.stop or layer.epoch >= self._until:
            account["stopped"] = decision.why if decision.stop else "epochs"
            if layer.validation is not None and key not in row:
                self._validate(layer, row, progress)
        logger.info("epoch %d: %s", row["epoch"], row)
        return row

    def _is_due(self, epoch: int) -> bool:
        every = self.config.evaluate_every
        return epoch % int(self._evaluation_interval() if every == "auto" else every) == 0

    def _validate(self, layer: Layer, row: dict[str, Any], progress: Progress) -> None:
        started = time.monotonic()
        for name, value in comm.from_main(layer.validate).items():
            row[f"val_{name}"] = value
        self._count("evaluate", time.monotonic() - started)
        value = row[f"val_{self.task.headline}"]
        if math.isnan(value):
            return
        progress.validation(self.task.headline, value)
        higher = self.task.metrics()[0].higher_is_better
        if layer.best is None or (value > layer.best if higher else value < layer.best):
            layer.keep_best(value)
            self.report.best_epoch = row["epoch"]
            self.report.layers[-1] |= {
                "best_epoch": layer.epoch,
                f"val_{self.task.headline}": value,
            }

    def _close(self, layer: Layer) -> None:
        """Leave a layer with the weights that are asked for."""
        if self.config.keep == "best":
            layer.take_best()
        self._number += 1
        self._layer = None
        self._checkpoint()

    # --- state ------------------------------------------------------------------------------

    @property
    @override
    def epochs_done(self) -> int:
        return len(self.report.rows)

    @override
    def _epochs_of(self, state: dict[str, Any]) -> int:
        rows = state["report"]["layers"] if "report" in state else self.report.layers
        return max((row["epochs"] for row in rows if isinstance(row["layer"], int)), default=0)

    @override
    def _fixed_length(self, report: Report) -> str | None:
        for row in report.layers:
            if isinstance(row["layer"], int) and row.get("stopped") in ("epochs", "callback"):
                return (
                    f"layer {row['layer']} ended by them, and what comes after is trained on it. "
                    "Take another run_dir, or begin anew with resume=False"
                )
        return None

    @override
    def _take_up(self) -> None:
        raise RunMismatch(
            "this trainer has trained its layers, each on what the one before gave: it cannot go "
            "on. fit(resume=False) begins anew with the first layer, from the present weights; a "
            "ClusterTrainer trains all layers further together"
        )

    @override
    def _begin(self) -> None:
        super()._begin()
        self._number = 0  # of the layer in training
        self._layer = None
        self._resumed = None
        self._steps_since_checkpoint = 0
        self._meter.reset()

    @override
    def _checkpoint(self) -> None:
        # What is no longer finite is not what to go on from.
        finite = self._layer is None or self._layer.is_finite()
        if not comm.any_rank(not (finite and math.isfinite(self._meter.mean_loss()))):
            super()._checkpoint()
        self._steps_since_checkpoint = 0

    @override
    def _loop_state(self) -> dict[str, Any]:
        if self._layer is None and not self._number:
            # The controller has not begun: it need have no state yet.
            return {"number": 0, "controller": None, "open": None}
        state = {"number": self._number, "controller": self.controller.state_dict()}
        if self._layer is None:
            return {**state, "open": None}
        return {
            **state,
            "open": {
                "layer": self._layer.state_dict(),
                "updates": self._updates.state_dict(),
                "meter": self._meter.state_dict(),
            },
        }

    @override
    def _rank_state(self) -> dict[str, Any]:
        own = super()._rank_state()
        if self._layer is not None:
            begun, meter = self._updates.begun(), self._meter.state_dict()
            own["open"] = {"updates": begun, "meter": meter}
        return own

    @override
    def _load_loop_state(self, state: dict[str, Any]) -> None:
        self._number = state["number"]
        self._resumed = state["open"]
        if state["controller"] is not None:
            self.controller.load_state_dict(state["controller"])

    @override
    def _evaluation_interval(self) -> int:
        if self.controller.needs_validation or self._layer is None:
            return 1
        return self._layer.evaluation_interval()

"""LayerwiseTrainer: L-GCN and L²-GCN (You et al., CVPR 2020)."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.graph.graph_folder import store_graph
from gnnscale.graph.store import write_store
from gnnscale.inference.engine import check_features
from gnnscale.nn import LayeredGNN, as_layered
from gnnscale.nn.modes import evaluation_mode
from gnnscale.nn.phases import Neighbourhood
from gnnscale.train.arguments import as_data, as_seen, as_task, choice_faults, device_faults
from gnnscale.train.callbacks import Callback
from gnnscale.train.config import LayerwiseConfig
from gnnscale.train.identity import describe_data
from gnnscale.train.kept_run import KeptRun
from gnnscale.train.layerwise.clustering import clusters_for, keep_clusters
from gnnscale.train.layerwise.controllers import FixedEpochs, LayerProgress, StopController
from gnnscale.train.layerwise.fine_tuning import (
    Told,
    account_of,
    at_source,
    described,
    fine_tune,
    fine_tuner,
    rows_of,
)
from gnnscale.train.layerwise.layer import Layer, TrainingBatches, ValidationRows
from gnnscale.train.layerwise.stages import Stage, stages_of
from gnnscale.train.layerwise.streams import Stream
from gnnscale.train.layerwise.views import Views
from gnnscale.train.meter import Meter
from gnnscale.train.optimizers import describe, make_optimizer
from gnnscale.train.precision import MixedPrecision
from gnnscale.train.progress import Progress
from gnnscale.train.report import Report
from gnnscale.train.sizes import sizes_for
from gnnscale.train.task import Task
from gnnscale.train.updates import Updates

logger = logging.getLogger(__name__)


class LayerwiseTrainer(KeptRun):
    """Trains a model layer by layer, each alone, on features that are aggregated once.

    For layer l the features of the layer before are propagated, X_l = P H_{l−1}, once and over the
    whole graph. Then W_l is trained on mini-batches of the rows of X_l, with a temporary linear
    classifier behind it, as a perceptron is: no neighbours are read, and what is in memory does not
    grow with the graph. H_l = σ(X_l W_l) is what the next layer propagates; the classifier is
    dropped, but for the last layer, whose output is the model's (You et al., CVPR 2020, section
    3.1). Test figures are those of the whole model on the whole graph.

    It takes every `LayeredGNN`. A layer is a convolution with the row-local steps behind it, up to
    the next convolution; dropout in front of the first one acts on the aggregated rows. Where
    aggregation cannot be separated from what is trained (attention, a convolution that is not
    registered), the layer is trained on clusters of its frozen input, as by a `ClusterTrainer`.

    Args:
        model: a `LayeredGNN`, a PyG `BasicGNN`, or a list of convolutions (see `nn.as_layered`).
        graph: a `Graph`, a `ClusteredGraph`, the path of either, or PyG `Data`.
        controller: says after every epoch whether the layer in training stops: `FixedEpochs`,
            `Plateau`, `LearnedController`, or an object of your own (see `StopController`). With
            None, `FixedEpochs(80)`.
        batch_rows: rows (training nodes) a step.
        epochs: the most that a layer is trained for, whatever the controller says.
        lr: learning rate (for the named optimizers); every layer has an optimizer of its own.
        seed: of batches, dropout and the temporary classifiers. The model's initial weights are the
            caller's: seed torch before building it.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ….
        run_dir: a folder for checkpoint, report and curves; without it nothing is written.
        inductive: aggregate for training over the subgraph of the training nodes; evaluate on the
            whole graph.
        evaluate_every: epochs between evaluations of the layer in training, on the rows of the
            validation nodes. "auto" takes the fewest that keep their work under a tenth of
            training's, and 1 where the controller goes by them.
        optimizer: "adam", "adamw", "sgd" (momentum 0.9), or a function from parameters to an
            optimizer.
        task: "auto" takes the graph's; or "classification", "multilabel", "regression", or a `Task`
            whose loss reads outputs and labels of nodes.
        callbacks: `Callback`s, such as `TensorBoard`.
        num_parts: clusters that an opaque convolution is trained on; as many as `ClusterTrainer`
            takes when None.
        clusters_per_batch: of these a step.
        fine_tune: arguments of a `ClusterTrainer` that trains all layers together at the end, such
            as `{"epochs": 10, "num_parts": 50}`; None for none. Its weights are kept where their
            validation metric, exact and on the whole graph, is better than before it; with
            `"keep": "last"`, in any case.
        rows_dtype: "float32", "float16" or "bfloat16": in what aggregated rows are kept.
        split: the split set.
        metric: the headline metric; the graph's, else the task's own, when None.
        weight_decay: for the named optimizers.
        clip_norm: greatest norm of an update's gradient.
        precision: "float32", or "bf16" or "fp16" for dense products in half precision.
        class_weight: None, "balanced", or one weight a class.
        label_smoothing: for classification.
        keep: "best" ends a layer with the weights of its best validation metric, "last" with its
            last.
        checkpoint_every: steps between checkpoints; "auto" writes one at the end of an epoch when
            20 seconds have passed since the last.
        chunk_rows: rows at once where the whole graph is gone through; chosen by size when None.
        storage: a folder for layers and rows, instead of memory.
        memory: bytes of a layer that may be in memory; "auto" goes by what there is.
        progress: show a progress bar on a terminal.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        UnsupportedModel: two layers share a parameter.
        StoreError: the run folder cannot be written.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GCN(graph.num_features, 32, 2, graph.num_classes)
        >>> trainer = gs.LayerwiseTrainer(model, graph, controller=gs.FixedEpochs(10))
        >>> report = trainer.fit()
        >>> accuracy = trainer.evaluate("test")["accuracy"]
    """

    _layer: Layer | None
    _resumed: dict[str, Any] | None

    def __init__(
        self,
        model: Any,
        graph: Any,
        controller: StopController | None = None,
        batch_rows: int = 1024,
        epochs: int = 500,
        lr: float = 0.005,
        seed: int = 0,
        device: str = "auto",
        run_dir: str | Path | None = None,
        inductive: bool = False,
        evaluate_every: int | str = "auto",
        optimizer: str | Callable = "adam",
        task: str | Task = "auto",
        callbacks: Sequence[Callback] = (),
        *,
        num_parts: int | None = None,
        clusters_per_batch: int | None = None,
        fine_tune: Mapping[str, Any] | None = None,
        rows_dtype: str = "float32",
        split: str = "default",
        metric: str | None = None,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        precision: str = "float32",
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        keep: str = "best",
        checkpoint_every: int | str = "auto",
        chunk_rows: int | None = None,
        storage: str | Path | None = None,
        memory: int | str = "auto",
        progress: bool = True,
    ) -> None:
        arguments = locals()
        data = as_data(graph)
        whole = data.graph if isinstance(data, ClusteredGraph) else data
        controller = FixedEpochs(80) if controller is None else controller
        if not isinstance(split, str) or not isinstance(inductive, bool):
            raise InputError(f"split={split!r} must be a name, inductive={inductive!r} a bool")
        split, inductive, unfit = as_seen(data, split, inductive)
        faults = choice_faults(optimizer, None, "auto", None, callbacks)
        if not hasattr(controller, "decide") or not hasattr(controller, "describe"):
            raise InputError([*faults, f"controller={controller!r}: a StopController"])
        read = {
            "controller": controller.describe(),
            "split": split,
            "inductive": inductive,
            "fine_tune": described(fine_tune),
            "device": str(device),
            "storage": None if storage is None else str(storage),
            "optimizer": describe(optimizer) or "",
        }
        names = [field.name for field in dataclasses.fields(LayerwiseConfig)]
        given = {name: arguments[name] for name in names if name in arguments}
        config = LayerwiseConfig(**{**given, **read})
        faults += [*config.faults(), *device_faults(config.device, config.precision)]
        try:
            task = as_task(task, whole, split, metric, class_weight, label_smoothing)
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(faults)
        assert not isinstance(task, str)
        layered = as_layered(model)
        self._sizes = [1, 1]  # clusters, and how many of them a step
        if _is_opaque(layered):
            sizes = (layered, split, inductive, num_parts, clusters_per_batch)
            *self._sizes, impossible = sizes_for(data, *sizes)
            if faults := [*unfit, *impossible]:
                raise InputError(faults)
        if fine_tune is not None:
            fine_tuner(fine_tune, layered, data, config, task)  # checked before anything runs
        self._data: Graph | ClusteredGraph = data
        self._clustered = data if isinstance(data, ClusteredGraph) else None
        self._goes_on = False  # with the run in the folder
        self._stored = False  # whether the clusters in use are those in the folder
        self._fingerprint: str | None = None
        super().__init__(layered, config, run_dir=run_dir, task=task, callbacks=callbacks)
        self.config: LayerwiseConfig = config
        self._fine_tune = fine_tune
        self.controller = controller
        self.precision = MixedPrecision(config.precision, self.device)
        self._optimizer_choice = optimizer
        self._meter = Meter(self.device)
        self._prepared = False
        self._begin()

    @property
    def graph(self) -> Graph:
        """The whole graph; in storage order once it is clustered, or where it was given so."""
        if self._clustered is not None:
            return self._clustered.graph
        assert isinstance(self._data, Graph)
        return self._data

    @property
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""
        return None if self._clustered is None else self._clustered.position

    # --- preparation ------------------------------------------------------------------------

    def prepare(self) -> None:
        """Do what comes before the first step (a check on a few nodes, clusters). Done once."""
        if self._prepared:
            return
        check_features(self.model, self.graph)
        self._views = self._make_views()
        if self.controller.needs_validation and self._views.validation is None:
            raise InputError(
                f"{type(self.controller).__name__} goes by validation nodes; the split has none"
            )
        self.model.to(self.device)
        self._num_outputs = self._views.dry_run(self.model)
        self._stages = stages_of(self.model)
        if opaque := [stage for stage in self._trained if not stage.is_separable]:
            logger.warning(
                "aggregation cannot be separated from training in %s: trained on clusters",
                ", ".join(self._name(stage) for stage in opaque),
            )
            if self._clustered is None:
                self._cluster()
        self._prepared = True

    def _make_views(self) -> Views:
        return Views(self.graph, self.position, self.config, self.task, self.device)

    def _cluster(self) -> None:
        """Lay the graph out by clusters: from here on everything runs in their order."""
        self._clustered = clusters_for(
            self.graph, self._sizes[0], self.config, self.folder, self._goes_on, self._count
        )
        self._stored = self._goes_on
        self._views = self._make_views()

    def _name(self, stage: Stage) -> str:
        assert isinstance(stage.source, Neighbourhood)
        kind = type(stage.source.module).__name__
        return f"layer {self._trained.index(stage) + 1} ({kind})"

    def start(self) -> None:
        """Prepare, and begin with the first layer."""
        self.prepare()

    @property
    def _trained(self) -> list[Stage]:
        return [s for s in self._stages if any(p.requires_grad for p in s.parameters.values())]

    # --- the loop ---------------------------------------------------------------------------

    def _train(self, interrupted: Callable[[], bool]) -> None:
        trained = self._trained
        todo = trained[self._number :]  # none where all that is left is fine-tuning
        with Progress(len(trained), self._number, self.config.progress) as progress:
            for stage, streams in self._walk() if todo else ():
                if trained[self._number : self._number + 1] == [stage]:
                    layer = self._open(stage, streams)
                    self._train_layer(layer, progress, interrupted)
                    self._close(layer)
                    if self.stop:
                        break
        self.report.stopped = "callback" if self.stop else "layers"
        if interrupted() and self._fine_tune is not None:
            raise KeyboardInterrupt

    def _walk(self) -> Iterator[tuple[Stage, list[Stream]]]:
        """Every stage, with the values that it reads: what is trained already is run again."""
        streams = self._views.streams(self.model, self._inference_options())
        for stage in self._stages:
            yield stage, streams
            if stage.last:
                return
            later = self._stages[stage.index + 1 :]
            live = {slot for other in later for slot in other.earlier_slots}
            started = time.monotonic()
            with evaluation_mode(self.model):
                for stream in streams:
                    stream.advance(stage, live, gathered=not later[0].is_separable)
            self._count("aggregate", time.monotonic() - started)

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
        optimizer = make_optimizer(
            self._optimizer_choice, layer.trained, config.lr, config.weight_decay, None
        )
        scaler, clip = self.precision.scaler, config.clip_norm
        self._updates = Updates(layer.trained, optimizer, None, "epoch", None, scaler, clip)
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

    def _read(
        self, stage: Stage, streams: list[Stream]
    ) -> tuple[TrainingBatches, ValidationRows | None]:
        if stage.is_separable:
            return self._views.collect(stage, streams)
        assert self._clustered is not None
        return self._views.clusters(stage, streams, self._clustered, self._sizes[1])

    def _train_layer(
        self, layer: Layer, progress: Progress, interrupted: Callable[[], bool]
    ) -> None:
        account = self.report.layers[-1]
        while "stopped" not in account:
            self._run_epoch(layer, progress, interrupted)
            row = self._end_epoch(layer, account, progress)
            for callback in self.callbacks:
                callback.on_epoch_end(self, row)
            if self.stop:
                account["stopped"] = "callback"
            if interrupted() or self._checkpoint_is_due():
                self._checkpoint()
            if interrupted():
                raise KeyboardInterrupt

    def _run_epoch(self, layer: Layer, progress: Progress, interrupted: Callable[[], bool]) -> None:
        layer.stage.train()
        number, layers = self._number + 1, len(self._trained)
        before = time.monotonic()
        for batch in layer.batches():
            self._step(layer, batch)
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
            if interrupted():
                self._checkpoint()
                raise KeyboardInterrupt
            if self._steps_since_checkpoint == self.config.checkpoint_every:
                self._checkpoint()
                before = time.monotonic()

    def _step(self, layer: Layer, batch: Any) -> None:
        normaliser = self.task.normaliser(batch)
        if normaliser:
            with self.precision.autocast():
                out = layer(batch)
            wide = out.to(torch.promote_types(out.dtype, torch.float32))
            loss = self.task.loss(wide, batch)
            self._updates.add(loss, normaliser)
            self._meter.add(loss, normaliser, batch.num_nodes)
            self._updates.apply()
        layer.step = batch.step + 1

    def _end_epoch(
        self, layer: Layer, account: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        loss = self._meter.mean_loss()
        # A last step that overflows does not show in the loss.
        if not (math.isfinite(loss) and layer.is_finite()):
            layer.revert()
            where = f"epoch {layer.epoch + 1} of layer {self._number + 1}"
            fault = f"the training loss is {loss} in {where}"
            if math.isfinite(loss):
                fault = f"after {where}, weights are no longer finite"
            raise GnnscaleError(
                f"{fault}; the model has those from before that epoch. Try a smaller lr (it is "
                f"{self.config.lr}) or clip_norm=1.0, and see that the features are not too large"
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
        if decision.p_stop is not None:
            row["p_stop"] = decision.p_stop
        if decision.stop or layer.epoch >= self.config.epochs:
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
        for name, value in layer.validate().items():
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

    # --- all layers together ----------------------------------------------------------------

    def _finish(self) -> None:
        if self._fine_tune is not None and not self.stop:
            self._train_together(self._fine_tune)
        super()._finish()

    def _train_together(self, given: Mapping[str, Any]) -> None:
        data, run_dir = self._data, None
        if self.folder is not None:
            data, run_dir = at_source(data, self.folder.graph), self.folder.fine_tune
        exact = self._evaluate([name for name in self._sets() if name == "val"])
        before = exact["val"][self.task.headline] if exact else None
        rows, first = self.report.rows, len(self.report.rows)

        def of_epoch(report: Report) -> bool:
            rows[first:] = rows_of(report, first)
            for callback in self.callbacks:
                callback.on_epoch_end(self, rows[-1])
            return self.stop

        tuner = fine_tuner(given, self.model, data, self.config, self.task, run_dir)
        tuner.callbacks.append(Told(of_epoch))
        kept = fine_tune(tuner, before)
        rows[first:] = rows_of(tuner.report, first)
        self.report.layers.append(account_of(tuner, before, kept))
        if kept and tuner.report.best_epoch is not None:
            self.report.best_epoch = first + tuner.report.best_epoch
        self.report.seconds["fine_tune"] = tuner.report.seconds["total"]

    # --- state ------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        self._number = 0  # of the layer in training
        self._layer = None
        self._resumed = None
        self._steps_since_checkpoint = 0
        self._meter.reset()

    def _checkpoint(self) -> None:
        # What is no longer finite is not what to go on from.
        finite = self._layer is None or self._layer.is_finite()
        if finite and math.isfinite(self._meter.mean_loss()):
            super()._checkpoint()
        self._steps_since_checkpoint = 0

    def _loop_state(self) -> dict[str, Any]:
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

    def _load_loop_state(self, state: dict[str, Any]) -> None:
        self._number = state["number"]
        self._resumed = state["open"]
        self.controller.load_state_dict(state["controller"])

    def _evaluation_interval(self) -> int:
        if self.controller.needs_validation or self._layer is None:
            return 1
        return self._layer.evaluation_interval()

    def _keep_data(self) -> None:
        """Store the graph, and the controller, where nothing else could give them back."""
        assert self.folder is not None
        if hasattr(self.controller, "save"):
            self.controller.save(self.folder.controller)
        if isinstance(self._data, ClusteredGraph):
            if self._data.path is None:
                write_store(self._data, self.folder.graph)
            return
        if self._data.source is None:
            store_graph(self._data, self.folder.graph)
        if self._clustered is not None:
            keep_clusters(self._clustered, self.folder)
            self._stored = True

    def _resume_data(self) -> None:
        self._goes_on = True
        if isinstance(self._data, Graph) and self._clustered is not None and not self._stored:
            self._clustered, self._prepared = None, False  # perhaps made before this run was there

    def _identity(self) -> dict[str, Any]:
        if self._fingerprint is None:
            whole = self._data.graph if isinstance(self._data, ClusteredGraph) else self._data
            self._fingerprint = whole.fingerprint()
        return describe_data(self._data, self._fingerprint)

    def _held(self) -> dict[str, Any]:
        seen = self.graph if self._clustered is None else self._clustered
        return {"": seen, "given": self._data}


def _is_opaque(model: LayeredGNN) -> bool:
    return any(isinstance(phase, Neighbourhood) for phases in model.phases for phase in phases)

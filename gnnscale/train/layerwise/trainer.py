"""LayerwiseTrainer: L-GCN and L²-GCN (You et al., CVPR 2020)."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from gnnscale import comm
from gnnscale.costs.sizes import sizes_for
from gnnscale.declared import takes
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.graph.clustered import write_store
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.inference.engine import check_features
from gnnscale.loader import Batch
from gnnscale.nn import LayeredGNN, as_layered
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.modules import evaluation_mode
from gnnscale.train.arguments import (
    as_data,
    as_seen,
    as_task,
    option_faults,
)
from gnnscale.train.controllers.stopping import FixedEpochs, controller_faults
from gnnscale.train.layerwise.clustering import clusters_for, keep_clusters
from gnnscale.train.layerwise.fine_tuning import (
    Told,
    account_of,
    at_source,
    fine_tune,
    fine_tuner,
    rows_of,
)
from gnnscale.train.layerwise.layer import TrainingBatches, ValidationRows
from gnnscale.train.layerwise.loop import LayerLoop
from gnnscale.train.layerwise.rows import as_rows
from gnnscale.train.layerwise.stages import Stage, stages_of
from gnnscale.train.layerwise.streams import Stream
from gnnscale.train.layerwise.views import Views
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.run.identity import describe_data
from gnnscale.train.run.report import Report
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task

logger = logging.getLogger(__name__)


class LayerwiseTrainer(LayerLoop):
    """Trains a model layer by layer, each alone, on features that are aggregated once.

    For layer l the features of the layer before are propagated, X_l = P H_{l−1}, once and over the
    whole graph. Then W_l is trained on mini-batches of the rows of X_l, with a temporary linear
    classifier behind it, as a perceptron is: no neighbours are read, and what a step needs does not
    grow with the graph (with `storage=`, neither do rows and layers in memory). H_l = σ(X_l W_l) is
    what the next layer propagates; the classifier is dropped, but for the last layer, whose output
    is the model's (You et al., CVPR 2020, section 3.1). Test figures are those of the whole model
    on the whole graph.

    It takes every `LayeredGNN`. A layer is a convolution with the row-local steps behind it, up to
    the next convolution; dropout in front of the first one acts on the aggregated rows. Where
    aggregation cannot be separated from what is trained (attention, a convolution that is not
    registered), the layer is trained on clusters of its frozen input, as by a `ClusterTrainer`.

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

    @takes(LayerwiseOptions)
    def __init__(self, options: LayerwiseOptions) -> None:
        faults = option_faults(options)
        options = options.sound()
        data, fine_tune = as_data(options.graph, options.task), options.fine_tune
        whole = data.graph if isinstance(data, ClusteredGraph) else data
        controller = FixedEpochs(80) if options.controller is None else options.controller
        split, inductive, unfit = as_seen(data, options.split, options.inductive)
        if wrong := controller_faults("controller", controller):
            raise InputError([*faults, *wrong])
        try:
            task = as_task(options, whole, split)
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(faults)
        config = options.settled(controller=controller, split=split, inductive=inductive)
        layered = as_layered(options.model)
        sizes = options.num_parts, options.clusters_per_batch
        self._takes_fewer = options.clusters_per_batch is None
        self._sizes = [1, 1]  # clusters, and how many of them a step
        if _is_opaque(layered):
            *self._sizes, impossible = sizes_for(data, layered, split, inductive, *sizes)
            if faults := [*unfit, *impossible]:
                raise InputError(faults)
        elif sizes != (None, None):
            logger.warning(
                "num_parts and clusters_per_batch do nothing here: every layer of this model is "
                "aggregated once, and none is trained on clusters (fine_tune takes its own)"
            )
        if fine_tune is not None:
            parameters = list(Learnt(layered, task).task.parameters())
            fine_tuner(fine_tune, layered, data, config, task)  # checked before anything runs
            _check_kept(task, parameters, Learnt(layered, task).task)
        self._data: Graph | ClusteredGraph = data
        self._clustered = data if isinstance(data, ClusteredGraph) else None
        self._goes_on = False  # with the run in the folder
        self._stored = False  # whether the clusters in use are those in the folder
        self._fingerprint: str | None = None
        self._fine_tune = fine_tune
        self._prepared = False
        super().__init__(layered, config, task=task)

    @property
    @override
    def graph(self) -> Graph:
        """The whole graph; in storage order once it is clustered, or where it was given so."""
        if self._clustered is not None:
            return self._clustered.graph
        assert isinstance(self._data, Graph)
        return self._data

    @property
    @override
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""
        return None if self._clustered is None else self._clustered.position

    # --- preparation ------------------------------------------------------------------------

    @override
    def prepare(self) -> None:
        """Do what comes before the first step (a check on a few nodes, clusters). Done once."""
        if self._prepared:
            return
        check_features(self.model, self.graph)
        self._check_norms()
        self._views = self._make_views()
        if self.controller.needs_validation and self._views.validation is None:
            why = self._without_metrics() or "the split has none"
            raise InputError(f"{type(self.controller).__name__} goes by validation nodes; {why}")
        self.learnt.to(self.device)
        out, batch = self._views.dry_run(self.model)
        self._num_outputs = out.shape[1]
        self._stages = stages_of(self.model)
        self._try_task(out, batch)
        if opaque := [stage for stage in self._trained if not stage.is_separable]:
            logger.warning(
                "aggregation cannot be separated from training in %s: trained on clusters",
                ", ".join(self._name(stage) for stage in opaque),
            )
            if self._clustered is None:
                self._cluster()
        self._check_room()
        self._prepared = True

    def _try_task(self, out: Tensor, batch: Batch) -> None:
        """See that the task's parameters are not the model's, and that its loss takes rows."""
        learnt, kind = self.learnt, type(self.task).__name__
        of_model = {id(parameter): name for name, parameter in learnt.model.named_parameters()}
        if shared := [of_model[id(p)] for p in learnt.task.parameters() if id(p) in of_model]:
            raise UnsupportedModel(
                f"{kind} has parameters of the model ({', '.join(shared)}): layer-wise training "
                "freezes a layer before it trains the next; use ClusterTrainer"
            )
        in_rows = any(stage.is_separable for stage in self._trained)
        seen: Any = as_rows(batch) if in_rows else dataclasses.replace(batch, x=None)
        try:
            try_loss(learnt, self.task, out, seen, not in_rows and self.graph.y_level == "edge")
        except (AttributeError, TypeError) as error:
            without = "x and edges" if in_rows else "x"
            raise InputError(
                f"{kind}.loss reads what layer-wise training has not ({error}): its batches are "
                f"rows of nodes, with y and node_id and without {without}, as a layer's input is "
                "not the graph's features. For features, keep graph.x in prepare and take its rows "
                "by batch.node_id, in a ClusteredGraph by its position[batch.node_id]; else use "
                "ClusterTrainer"
            ) from error

    def _check_norms(self) -> None:
        """Rows of a step come from anywhere: there is no more than the batch to run over."""
        refused = {"cluster", "graph"} if self.graph.node_ptr is not None else {"cluster"}
        for module in self.model.modules():
            if (over := getattr(module, "over", None)) in refused:
                raise InputError(
                    f"{type(module).__name__}(over={over!r}): layer-wise training takes rows from "
                    "all clusters and graphs; use over='batch', or ClusterTrainer"
                )

    def _make_views(self) -> Views:
        return Views(self.graph, self.position, self.config, self.task, self.device)

    def _cluster(self) -> None:
        """Lay the graph out by clusters: from here on everything runs in their order."""
        self._clustered = clusters_for(
            self.graph, self._sizes[0], self.config, self.folder, self._goes_on, self._count
        )
        self._stored = self._goes_on
        self._views = self._make_views()

    @override
    def _lay_out(self) -> None:
        if self._goes_on and _is_opaque(self.model):
            self.prepare()  # as the run did, so that its trainer and this one give the same bits

    def _name(self, stage: Stage) -> str:
        assert isinstance(stage.source, Neighbourhood)
        kind = type(stage.source.module).__name__
        return f"layer {self._trained.index(stage) + 1} ({kind})"

    @override
    def start(self) -> None:
        """Prepare, and begin with the first layer."""
        self.prepare()

    @property
    @override
    def _trained(self) -> list[Stage]:
        return [s for s in self._stages if any(p.requires_grad for p in s.parameters.values())]

    # --- from layer to layer -----------------------------------------------------------------

    @override
    def _train(self, interrupted: Callable[[], bool]) -> None:
        super()._train(interrupted)
        if comm.any_rank(interrupted()) and self._fine_tune is not None:
            raise KeyboardInterrupt  # rather than begin with what takes longest

    @override
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

    @override
    def _read(
        self, stage: Stage, streams: list[Stream]
    ) -> tuple[TrainingBatches, ValidationRows | None]:
        if stage.is_separable:
            return self._views.collect(stage, streams)
        assert self._clustered is not None
        training, held = self._views.clusters(stage, streams, self._clustered, self._sizes[1])
        training.keep_within(stage, self.config.memory, self._held_bytes(), self._takes_fewer)
        return training, held

    # --- all layers together ----------------------------------------------------------------

    @override
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
        if self.stop:
            self.report.stopped = "callback"
        self.report.seconds["fine_tune"] = tuner.report.seconds["total"]

    # --- data -------------------------------------------------------------------------------

    @override
    def _keep_data(self) -> None:
        """Store the graph, and the controller, where nothing else could give them back."""
        comm.from_main(self._write_data)
        self._stored |= isinstance(self._data, Graph) and self._clustered is not None

    def _write_data(self) -> None:
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

    @override
    def _resume_data(self) -> None:
        self._goes_on = True
        if isinstance(self._data, Graph) and self._clustered is not None and not self._stored:
            self._clustered, self._prepared = None, False  # perhaps made before this run was there

    @override
    def _identity(self) -> dict[str, Any]:
        if self._fingerprint is None:
            whole = self._data.graph if isinstance(self._data, ClusteredGraph) else self._data
            self._fingerprint = whole.fingerprint()
        return describe_data(self._data, self._fingerprint)

    @override
    def _held(self) -> dict[str, Any]:
        seen = self.graph if self._clustered is None else self._clustered
        return {"": seen, "given": self._data}


def _check_kept(task: Task, before: Sequence[nn.Parameter], after: nn.Module) -> None:
    """See that a second trainer, which prepares the task again, trains the same parameters."""
    if {*map(id, before)} - {*map(id, after.parameters())}:
        raise InputError(
            f"fine_tune: {type(task).__name__}.prepare makes parameters anew when it is called "
            "again, and what layers have learnt would be lost: make them in __init__"
        )


def _is_opaque(model: LayeredGNN) -> bool:
    return any(isinstance(phase, Neighbourhood) for phases in model.phases for phase in phases)

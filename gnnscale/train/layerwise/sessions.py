"""LayerByLayer: a session for each section of a model, on what the sections before it give.

for every section that has parameters: aggregate → epochs of steps, validation, decision → freeze
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from gnnscale import comm
from gnnscale.costs.inference import coefficient_bytes
from gnnscale.costs.layout import all_fit
from gnnscale.errors import InputError, MemoryBound, RunMismatch
from gnnscale.graph import ClusteredGraph
from gnnscale.inference.engine import check_features
from gnnscale.nn import LayeredGNN
from gnnscale.nn.blocks.phases import Neighbourhood, opaque_of
from gnnscale.nn.modules import evaluation_mode, has_lazy
from gnnscale.storage.memory import in_words, memory_bytes
from gnnscale.train.clusters import Clusters
from gnnscale.train.controllers.stopping import StopController
from gnnscale.train.evaluators.full_graph import FullGraph
from gnnscale.train.evaluators.temporal import Temporal
from gnnscale.train.layerwise.fine_tuning import LAYER, FineTuning
from gnnscale.train.layerwise.sections import Section, sections_of
from gnnscale.train.layerwise.streams import Stream
from gnnscale.train.layerwise.training import (
    ByController,
    Epochs,
    SectionValidator,
    TrainedSection,
    TrainingBatches,
    ValidationRows,
)
from gnnscale.train.layerwise.trial import check_norms, try_task
from gnnscale.train.layerwise.views import Views
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.run.callbacks import Told
from gnnscale.train.run.records import Row, State
from gnnscale.train.run.report import Meter, Report
from gnnscale.train.session import Session, Setup
from gnnscale.train.steps.across_ranks import RunningStatistics, SharedGradients
from gnnscale.train.steps.batch_step import BatchStep
from gnnscale.train.steps.optimizers import make_optimizer
from gnnscale.train.steps.updates import MixedPrecision, Updates

logger = logging.getLogger(__name__)


class LayerByLayer:
    """Opens a session for one section after the other, and fine-tunes at the end.

    Args:
        setup: of the trainer.
        config: its options.
        data: the graph, and the clusters that opaque sections are trained on.
        evaluator: of the whole model.
        controller: says when a layer stops.
        clusters_per_batch: of an opaque section.
        fine_tuning: of all layers together, or None.

    Attributes:
        open: the session in training.
        trained: the sections that have something to train.
    """

    def __init__(
        self,
        setup: Setup,
        config: LayerwiseOptions,
        data: Clusters,
        evaluator: FullGraph | Temporal,
        controller: StopController,
        clusters_per_batch: int,
        fine_tuning: FineTuning | None,
    ) -> None:
        self._setup, self._config, self._data = setup, config, data
        self._evaluator, self._controller = evaluator, controller
        self._clusters_per_batch, self._fine_tuning = clusters_per_batch, fine_tuning
        self._prepared = False
        self._prepared_for: ClusteredGraph | None = None
        self._sections: list[Section] = []
        self.trained: list[Section] = []
        self.begin()

    # --- preparation ------------------------------------------------------------------------

    def prepare(self) -> None:
        """See `Sessions`: a check on a few nodes, and clusters where a section needs them."""
        setup, data = self._setup, self._data
        if self._prepared and self._prepared_for is data.clustered:
            return
        check_features(setup.model, data.graph)
        check_norms(setup.model, data.graph)
        self._views = self._make_views()
        if self._controller.needs_validation and self._views.validation is None:
            why = self._evaluator.without_metrics() or "the split has none"
            kind = type(self._controller).__name__
            raise InputError(f"{kind} goes by validation nodes; {why}")
        setup.learnt.to(setup.device)
        out, batch = self._views.dry_run(setup.model)
        self._num_outputs = out.shape[1]
        self._sections = sections_of(setup.model)
        self.trained = [
            s for s in self._sections if any(p.requires_grad for p in s.parameters.values())
        ]
        try_task(setup, out, batch, self.trained, data.graph.y_level)
        if opaque := [section for section in self.trained if not section.is_separable]:
            logger.warning(
                "aggregation cannot be separated from training in %s: trained on clusters",
                ", ".join(self._name(section) for section in opaque),
            )
            if data.clustered is None:  # from here on everything runs in their order
                data.check_room()
                data.laid_out()
                self._views = self._make_views()
        self._check_room()
        self._prepared, self._prepared_for = True, data.clustered

    def ready(self) -> None:
        """See `Sessions`."""
        # As the run did, so that its trainer and this one give the same bits.
        resumed = self._data.is_resumed and is_opaque(self._setup.model)
        if has_lazy(self._setup.model) or resumed:
            self.prepare()

    def _make_views(self) -> Views:
        setup, data = self._setup, self._data
        known = data.known_then
        later = None if known is None else known.val
        views = Views(data.graph, data.node_id, self._config, setup.task, setup.device, later)
        data.beside = views.held()
        return views

    def _name(self, section: Section) -> str:
        assert isinstance(section.source, Neighbourhood)
        kind = type(section.source.module).__name__
        return f"layer {self.trained.index(section) + 1} ({kind})"

    def begin(self) -> None:
        """See `Sessions`."""
        self._number = 0  # of the section in training, among those that are trained
        self.open: Session | None = None
        self._resumed: State | None = None

    def start(self) -> None:
        """See `Sessions`."""
        self.prepare()

    def take_up(self, ended: str | None) -> None:
        """See `Sessions`: what was interrupted goes on in the midst of its layer."""
        if ended is None:
            if self.open is not None:
                self._resumed, self.open = self.open.state_dict(), None
            return
        done, layers = self._number, len(self.trained)
        if done < layers:
            stood = f"was stopped by a callback in layer {done} of {layers}"
        elif self._fine_tuning is not None and self._setup.report.layers[-1]["layer"] != LAYER:
            stood = "was left in its fine-tuning, of which it keeps nothing without a run_dir"
        else:
            stood = "has trained its layers"
        raise RunMismatch(
            f"this trainer {stood}; each layer was trained on what the one before gave, and it "
            "cannot go on. fit(resume=False) begins anew with the first layer, from the present "
            "weights; a ClusterTrainer trains all layers further together"
        )

    def reopen(self) -> None:
        """Nothing: a layer that has ended stays as it is."""

    # --- from section to section ------------------------------------------------------------

    def __iter__(self) -> Iterator[Session]:
        """See `Sessions`: what is trained already is run again, on the way to what is not."""
        if self._number < len(self.trained):  # else all that is left is fine-tuning
            yield from self._walk()
        if self._fine_tuning is not None and comm.any_rank(self._setup.interrupted()):
            raise KeyboardInterrupt  # rather than begin with what takes longest

    def _walk(self) -> Iterator[Session]:
        for section, streams in self.walk():
            if self.trained[self._number : self._number + 1] == [section]:
                yield self.opened(section, streams)

    def walk(self) -> Iterator[tuple[Section, list[Stream]]]:
        """Every section, with the values that it reads; going on freezes it."""
        setup = self._setup
        setup.learnt.to(setup.device)
        streams = self._views.streams(setup.model, self._places())
        for section in self._sections:
            yield section, streams
            if section.last:
                return
            later = self._sections[section.index + 1 :]
            live = {slot for other in later for slot in other.earlier_slots}
            started = time.monotonic()
            with evaluation_mode(setup.model):
                for stream in streams:
                    stream.advance(section, live, gathered=not later[0].is_separable)
            setup.count("aggregate", time.monotonic() - started)

    def _places(self) -> dict[str, Any]:
        """Where layers are kept, and what is to be in memory beside them."""
        views, model = self._views, self._setup.model
        beside = views.bytes_of_rows(model) + views.bytes_of_steps(model)
        return {**self._evaluator.places(), "beside": beside}

    def _check_room(self) -> None:
        """Find before anything runs what has no room within `memory`.

        Raises:
            MemoryBound: with the smallest `memory` that would do.
        """
        all_fit(self._evaluator.check_room, self._check_rows)

    def _check_rows(self) -> None:
        setup, memory = self._setup, self._config.memory
        if memory == "auto" or not any(section.is_separable for section in self.trained):
            return
        needed = setup.held_bytes(self._data) + coefficient_bytes(setup.model, self._data.graph)
        needed += self._views.bytes_of_steps(setup.model)
        if needed > memory_bytes(memory):
            raise MemoryBound(
                f"memory={memory!r}: training on batch_rows={self._config.batch_rows} rows takes "
                f"{in_words(needed)} with what the run holds; give memory={in_words(needed)!r} or "
                "more, or fewer rows a batch",
                needed,
            )

    def opened(self, section: Section, streams: list[Stream]) -> Session:
        """Aggregate for a section, and make what it is trained with."""
        started = time.monotonic()
        setup, number, resumed = self._setup, self._number, self._resumed
        rows, validation = self._read(section, streams)
        trained = TrainedSection(section, number, rows, setup, self._num_outputs)
        source, meter = Epochs(rows), Meter(setup.device)
        validator = SectionValidator(
            setup, trained, rows, validation, always=self._controller.needs_validation
        )
        if resumed is None:
            self._controller.begin(number, len(self.trained))
        begun: Row = {"layer": number + 1, "epochs": 0, "seconds": 0.0}
        account = begun if resumed is None else setup.report.layers[-1]
        rule = ByController(setup, self._controller, source, number, len(self.trained), account)
        step = self._step(trained, meter, rows)
        done = 0 if resumed is None else resumed["source"]["epoch"]
        if resumed is None:
            setup.report.layers.append(account)
        self.open = Session(
            source,
            trained,
            step,
            meter,
            validator,
            rule,
            before=len(setup.report.rows) - done,
            layer=number + 1,
            account=account,
        )
        if resumed is not None:
            self.open.load_state_dict(resumed)
            self._resumed = None
            logger.info("going on with layer %d after epoch %d", number + 1, source.epoch)
        seconds = time.monotonic() - started
        setup.count("aggregate", seconds)
        account["aggregate_seconds"] = account.get("aggregate_seconds", 0.0) + seconds
        return self.open

    def _read(
        self, section: Section, streams: list[Stream]
    ) -> tuple[TrainingBatches, ValidationRows | None]:
        """What a section trains on and is evaluated on."""
        if section.is_separable:
            return self._views.collect(section, streams)
        config, held = self._config, self._setup.held_bytes(self._data)
        held += coefficient_bytes(self._setup.model, self._data.graph)
        held += sum(stream.bytes_in_memory() for stream in streams)
        training, validation = self._views.clusters(
            section, streams, self._data.known, self._clusters_per_batch
        )
        training.keep_within(section, config.memory, held, config.clusters_per_batch is None)
        return training, validation

    def _step(self, trained: TrainedSection, meter: Meter, rows: TrainingBatches) -> BatchStep:
        setup, module, shared = self._setup, trained.module, None
        optimizer = make_optimizer(setup.config, module)
        # A scale of its own too: between layers a checkpoint holds none.
        precision = MixedPrecision(setup.config.precision, setup.device)
        if comm.world_size() > 1:
            shared = SharedGradients(module.parameters())
        scaler = precision.scaler
        updates = Updates(module, optimizer, None, "epoch", None, scaler, setup.config, shared)
        running = RunningStatistics(trained.norms_over_batches())
        running.check(rows.num_batches)
        return BatchStep(setup, trained, meter, updates, running, precision)

    def close(self, session: Session) -> bool:
        """See `Sessions`."""
        if session.best is not None:
            session.trained.take(session.best)
        self._number += 1
        self.open = None
        return True

    def finish(self, trainer: Told) -> None:
        """Train all layers together, where that is wanted."""
        if self._fine_tuning is not None and not self._setup.stop:
            self._fine_tuning.run(trainer)

    def keep(self) -> None:
        """Write the controller, where nothing else could give it back."""
        folder = self._setup.folder
        if folder is not None and hasattr(self._controller, "save"):
            self._controller.save(folder.controller)

    # --- state ------------------------------------------------------------------------------

    def best(self) -> State | None:
        """None: each layer has a best of its own, and ends with it."""
        return None

    @property
    def epochs_done(self) -> int:
        """See `Sessions`: those of all layers."""
        return len(self._setup.report.rows)

    def epochs_of(self, state: State, report: Report) -> int:
        """See `Sessions`: the most that a layer has."""
        return max((r["epochs"] for r in report.layers if isinstance(r["layer"], int)), default=0)

    def fixed_length(self, report: Report) -> str | None:
        """See `Sessions`."""
        for row in report.layers:
            if isinstance(row["layer"], int) and row.get("stopped") in ("epochs", "callback"):
                return (
                    f"layer {row['layer']} ended by them, and what comes after is trained on it. "
                    "Take another run_dir, or begin anew with resume=False"
                )
        return None

    def shown(self, session: Session | None) -> tuple[int, int, str]:
        """See `Sessions`."""
        layers = len(self.trained)
        if session is None:
            return self._number, layers, ""
        where = f"{session.source.epoch + 1} of layer {self._number + 1}/{layers}"
        return self._number, layers, where

    def state_dict(self) -> State:
        """See `Sessions`."""
        if self.open is None and not self._number:
            # The controller has not begun: it need have no state yet.
            return {"number": 0, "controller": None, "open": None}
        opened = None if self.open is None else self.open.state_dict()
        controller = self._controller.state_dict()
        return {"number": self._number, "controller": controller, "open": opened}

    def own_state(self) -> State:
        """See `Sessions`."""
        return {} if self.open is None else {"open": self.open.own_state()}

    def load_state_dict(self, state: State) -> None:
        """See `Sessions`: a section that was open is opened when it is its turn."""
        self._number, self._resumed = state["number"], state["open"]
        if state["controller"] is not None:
            self._controller.load_state_dict(state["controller"])


def is_opaque(model: LayeredGNN) -> bool:
    """Whether aggregation cannot be separated from what is trained, somewhere."""
    return bool(opaque_of(model.phases))

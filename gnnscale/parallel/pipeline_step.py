"""PipelineStep: batches gathered for an update, and run through the stages of a model."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.loader import Batch
from gnnscale.parallel.engine.exchange import agree_on, exchanged, part_of, whole
from gnnscale.parallel.engine.passes import Computation
from gnnscale.parallel.micro_batches import order_micro_batches
from gnnscale.parallel.pipeline import Pipeline
from gnnscale.train.clusters import Clusters
from gnnscale.train.contracts import Evaluator, Signals, Source
from gnnscale.train.options import PipelineOptions
from gnnscale.train.run.records import State
from gnnscale.train.run.report import Meter
from gnnscale.train.session import Setup
from gnnscale.train.steps.across_ranks import RunningStatistics
from gnnscale.train.steps.batch_step import WholeModel, training_context, updates_of_whole
from gnnscale.train.steps.updates import MixedPrecision
from gnnscale.train.task import counted, summed_loss


class PipelineStep:
    """Takes batches one by one; every `micro_batches` of them are trained on together.

    Args:
        config: the trainer's options.
        pipeline: the stages.
        data: what is trained on.
        setup: of the trainer.
        trained: the model.
        meter: counts losses and nodes.
        source: of the batches.
        evaluator: of the trainer.
    """

    def __init__(
        self,
        config: PipelineOptions,
        pipeline: Pipeline,
        data: Clusters,
        setup: Setup,
        trained: WholeModel,
        meter: Meter,
        source: Source,
        evaluator: Evaluator,
    ) -> None:
        self._setup, self._config, self._pipeline, self._data = setup, config, pipeline, data
        self._trained, self._meter = trained, meter
        self._precision = MixedPrecision(config.precision, setup.device)
        self._waiting: list[Batch | None] = []
        self._stale = False  # whether this rank has old weights of other ranks' stages
        pipeline.build(data, self._computation())
        self._statistics = {s.index: RunningStatistics(s, setup.group) for s in pipeline.own}
        self.updates = updates_of_whole(
            setup,
            trained.module,
            source,
            evaluator,
            self._precision,
            pipeline.parameters(),
        )

    @property
    def waiting(self) -> int:
        """See `Step`."""
        return len(self._waiting)

    def forget(self) -> None:
        """See `Step`."""
        self._waiting = []

    def __call__(self, batch: Batch | None, done: int, of: int) -> Signals:
        """See `Step`."""
        self._waiting.append(batch)
        if done % self._config.micro_batches and done != of:
            return Signals(False, False)
        waiting, self._waiting = self._waiting, []
        return self._update(waiting)

    def _update(self, waiting: list[Batch | None]) -> Signals:
        """Train on some batches, and update the weights."""
        setup, pipeline = self._setup, self._pipeline
        if comm.world_size(setup.group) > 1:  # its own: pipelines add theirs up below
            waiting = [b and replace(b, step_train_nodes=b.train_index.numel()) for b in waiting]
        own = [0.0 if b is None else counted(setup.task, b) for b in waiting]
        signals = Signals(setup.interrupted(), setup.stop)
        totals, taking, signals = agree_on(own, signals, setup.group, setup.stage_group)
        for total in totals:
            if total:
                self.updates.count(total)
        taken = [number for number, weight in enumerate(own) if weight]
        batches = [b for number in taken if (b := waiting[number]) is not None]
        if self._config.order != "drawn":
            sizes = [batch.num_nodes + batch.adj.num_edges for batch in batches]
            order = order_micro_batches(sizes)
            taken, batches = [taken[i] for i in order], [batches[i] for i in order]
        with exchanged(self._statistics, setup.group, taken, taking) as observe:
            computation = replace(self._computation(), observe=observe)
            losses = pipeline.run(batches, computation, self._data.loader)
        for number, batch, loss in zip(taken, batches, losses, strict=False):
            self._meter.add(loss.to(setup.device), own[number], batch.num_nodes)
        self.updates.apply()
        self._stale = True
        return signals

    def _computation(self) -> Computation:
        setup, config = self._setup, self._config
        return Computation(
            lambda batch: training_context(batch, config.seed, self._trained.runner, setup.group),
            self._last_loss,
            lambda loss: self.updates.root(loss),
            self._precision.autocast,
            redraws=self._pipeline.is_opaque() and config.checkpoint_activations,
        )

    def _last_loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The summed loss of a micro-batch, in the last stage."""
        task = self._setup.task
        try:
            return summed_loss(task, out, batch)
        except (AttributeError, TypeError) as error:
            if batch.x is not None:
                raise
            raise InputError(
                f"{type(task).__name__}.loss failed in the last stage ({error}), which is not "
                "given batch.x: features go to the first. Use ClusterTrainer("
                f"accumulate={self._config.micro_batches}), which learns the same, or stages=1"
            ) from error

    def share(self) -> None:
        """See `Step`."""
        if self._stale:
            self._pipeline.share_weights()
        self._stale = False

    # --- state ------------------------------------------------------------------------------

    def state_dict(self) -> State:
        """See `Step`."""
        updates = self.updates.state_dict()
        if (group := self._setup.stage_group) is not None:
            updates = {**updates, "optimizer": whole(self._part_of(updates), group)}
        return {"updates": updates}

    def own_state(self) -> State:
        """See `Step`."""
        return {"updates": self.updates.begun()}

    def load_state_dict(self, state: State) -> None:
        """See `Step`."""
        updates = state["updates"]
        self.updates.load_state_dict({**updates, "optimizer": self._part_of(updates)})

    def _part_of(self, updates: State) -> State:
        """Of the optimizer's state, that of the stages that are here."""
        parameters = self._pipeline.parameters()
        return part_of(updates["optimizer"], self.updates.optimizer, parameters)

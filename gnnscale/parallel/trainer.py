"""PipelineTrainer: Cluster-GCN on a model in stages; batches of clusters are its micro-batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from typing_extensions import override

from gnnscale import comm
from gnnscale.declared import takes
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph
from gnnscale.loader import Batch, ClusterLoader
from gnnscale.nn import as_layered
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.parallel.config import (
    Layout,
    first_of,
    layout_of,
    local_devices,
)
from gnnscale.parallel.engine.agreement import agree_on, draws
from gnnscale.parallel.engine.distributed import TorchEngine
from gnnscale.parallel.engine.local import LocalExecutor
from gnnscale.parallel.engine.observed import exchanged, refuse_synchronised
from gnnscale.parallel.engine.optimizer_state import part_of, whole
from gnnscale.parallel.engine.passes import Computation
from gnnscale.parallel.micro_batches import BalancedLoader, order_micro_batches
from gnnscale.parallel.schedules import Schedule
from gnnscale.parallel.simulation.profile import Profile, measure_bandwidth, profile
from gnnscale.parallel.simulation.timeline import Timeline
from gnnscale.parallel.stages import Stage, cut
from gnnscale.storage.files import read_json, write_json
from gnnscale.train.arguments import option_faults
from gnnscale.train.cluster_trainer import ClusterTrainer, sample_of
from gnnscale.train.options import PipelineOptions
from gnnscale.train.run.progress import Progress
from gnnscale.train.steps.additive import counted, summed_loss
from gnnscale.train.steps.contexts import training_context
from gnnscale.train.steps.running import RunningStatistics
from gnnscale.train.steps.shared_gradients import SharedGradients
from gnnscale.train.steps.undone import undone
from gnnscale.train.task import NodeTask

logger = logging.getLogger(__name__)


class PipelineTrainer(ClusterTrainer):
    """Trains a model in stages, each on a device of its own, and evaluates exactly.

    An optimizer step takes `micro_batches` batches of the loader, which flow through the stages one
    behind the other. The loss is the sum over them divided by their training nodes: a step is that
    of `ClusterTrainer(accumulate=micro_batches)`, dropout and running statistics included.

    When it helps: where a model or its activations do not fit one device. Clusters are independent,
    so where they do fit, data parallelism (`ClusterTrainer` under `torchrun`) does without a
    pipeline's bubble, (P − 1)/(M + P − 1) of the time, and its traffic.

    - In one process it drives the devices itself; with a single one it takes the stages in turn.
    - Under `torchrun` every process is a device. With k times as many as a pipeline has devices,
      k pipelines train beside each other on the batches of a step (data parallelism).

    Every process holds the model, but gradients and optimizer state of its own stages alone, and
    on its device nothing of the others while it trains.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        UnsupportedModel: two stages would share weights, or a norm is synchronised over ranks.
        StoreError: the run folder cannot be written.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GraphSAGE(graph.num_features, 32, 4, graph.num_classes)
        >>> trainer = gs.PipelineTrainer(
        ...     model, graph, num_parts=20, stages=[2], micro_batches=4, epochs=3
        ... )
        >>> report = trainer.fit()
    """

    config: PipelineOptions
    _agreed: int | None  # the epoch whose batches are known to be the same on all ranks

    @takes(PipelineOptions)
    def __init__(self, options: PipelineOptions) -> None:
        comm.start()
        faults, sound = option_faults(options), options.sound()
        model = as_layered(options.model)
        try:
            self._layout: Layout = layout_of(sound, len(model.blocks), comm.world_size())
        except InputError as error:
            faults += error.faults
        if sound.precision == "fp16" and comm.world_size() > 1:
            faults.append(
                "precision='fp16': an overflow in one stage would have to stop all; use 'bf16'"
            )
        if sound.schedule == "zbv" and sound.checkpoint_activations:
            faults.append(
                "checkpoint_activations: schedule 'zbv' goes back through a stage twice, and would "
                "compute its activations anew each time; take another schedule"
            )
        self._begin_with(replace(options, model=model), faults)
        self.schedule: Schedule = self._layout.schedule
        self.stages: list[Stage] = []
        self.profile: Profile | None = None
        self.record = False
        self._engine: LocalExecutor | TorchEngine | None = None
        self._told = False
        self._mesh: DeviceMesh | None = None
        if comm.world_size() > 1:
            shape = (self._layout.pipelines, self.schedule.devices)
            self._mesh = comm.mesh_of(self.device.type, shape, ("dp", "pp"))
            self.group = self._mesh.get_group("dp")
            self.stage_group = self._mesh.get_group("pp")
            refuse_synchronised(model)

    # --- preparation ------------------------------------------------------------------------

    @override
    def start(self) -> None:
        """Prepare, cut the model, and make a new optimizer: what comes before the first `step`."""
        self.prepare()
        self._runner = self._make_runner()
        self._build()
        super().start()

    def _build(self) -> None:
        """Make stages and what runs them."""
        sample = self._sample_batch().to(self.device)
        learnt = self.learnt.to(self.device)
        self.stages = cut(self.model, self._cuts(), sample, learnt.task)
        if self._mesh is not None:
            self._engine = TorchEngine(
                self.stages, self.schedule, self._mesh, self.device, sample, self._computation()
            )
            self._own = self._engine.own
        else:
            devices = local_devices(self.config.devices, self.schedule, self.device)
            self._engine = LocalExecutor(self.stages, self.schedule, devices)
            self._engine.place()
            self._own = self.stages
            if len(devices) == 1 and len(self.stages) > 1 and not self._told:
                self._told = True
                logger.warning(
                    "there is one device, %s, for %d stages: a pipeline brings nothing here, and "
                    "ClusterTrainer(accumulate=%d) learns the same",
                    devices[0],
                    len(self.stages),
                    self.config.micro_batches,
                )
        self._statistics = {s.index: RunningStatistics(s, self.group) for s in self._own}

    def _cuts(self) -> list[int]:
        if self._layout.cuts is not None:
            return self._layout.cuts
        path = None if self.folder is None else self.folder.stages
        bandwidth = measure_bandwidth(self.device, self.stage_group)

        def find() -> list[int]:
            if self._resumed and path is not None and path.exists():
                return read_json(path)["cuts"]  # those of the run: timings differ
            per_batch = self.loader.clusters_per_batch
            with undone(self.task, self.learnt.task, self.device):
                self.profile = profile(self.model, self._seen(), per_batch, loss=self.task.loss)
            return self.profile.cut(self.schedule.stages, bandwidth)

        return comm.from_main(find)

    @override
    def _prepare_data(self) -> None:
        if self._loader is not None:
            return
        super()._prepare_data()
        assert self._loader is not None
        if self._mesh is None:
            if len(local_devices(self.config.devices, self.schedule, self.device)) > 1:
                self._loader.device = None  # each stage takes what it reads to its own device
            return
        place = comm.rank(self.stage_group)
        if self.schedule.placement[0] != place:
            seen = self._loader.clustered
            self._loader.clustered = replace(seen, graph=replace(seen.graph, x=None))
            self._loader.first_hop = None
        # Another task may ask the labels for what a step's loss is divided by.
        if self.schedule.placement[-1] != place and type(self.task) is NodeTask:
            seen = self._loader.clustered
            self._loader.clustered = replace(seen, graph=replace(seen.graph, y=None))

    @override
    def _make_loader(self, *arguments: Any, **options: Any) -> ClusterLoader:
        if self.config.order != "balanced":
            return super()._make_loader(*arguments, **options)
        number = self.config.micro_batches
        return BalancedLoader(*arguments, micro_batches=number, **options)

    def _seen(self) -> ClusteredGraph:
        """What is trained on, whole: the loader's may be without features or labels."""
        return self.clustered.view("train") if self.config.inductive else self.clustered

    @override
    def _batches_kept(self) -> int:
        return self.schedule.batches_kept(in_one_process=self._mesh is None)

    @override
    def _sample_batch(self) -> Batch:
        return sample_of(self._seen())

    @override
    def _keep_data(self) -> None:
        super()._keep_data()
        comm.from_main(self._write_stages)

    def _write_stages(self) -> None:
        assert self.folder is not None
        write_json(self.folder.stages, {"cuts": [stage.numbers[0] for stage in self.stages[1:]]})
        if self.profile is not None:
            self.profile.save(self.folder.path / "profile.json")

    @override
    def _shared_gradients(self) -> SharedGradients | None:
        if comm.world_size(self.group) == 1:
            self._warn_of_compression()
            return None
        config = self.config
        return SharedGradients(
            self._own_parameters(), self.group, config.gradient_compression, config.seed
        )

    # --- steps ------------------------------------------------------------------------------

    @override
    def step(self, batch: Batch | None) -> None:
        """Take one batch of `loader`; every `micro_batches` of them are trained on together.

        It comes after `start`, in training mode (`learnt.train()`). Of several ranks every one
        takes the step, one that has no batch (None) as well.
        """
        self._waiting = [*self._waiting, batch]
        number = self.loader.step if batch is None else batch.step + 1
        if number % self.config.micro_batches == 0 or number == len(self.loader):
            waiting = self._waiting
            self._waiting = []
            self._update(waiting)

    def _update(self, waiting: Sequence[Batch | None]) -> None:
        """Train on some batches, and update the weights."""
        assert self._engine is not None
        if comm.world_size(self.group) > 1:  # its own: pipelines add theirs up below
            waiting = [b and replace(b, step_train_nodes=b.train_index.numel()) for b in waiting]
        own = [0.0 if b is None else counted(self.task, b) for b in waiting]
        agreed = agree_on(own, self._interrupted(), self.group, self.stage_group)
        totals, taking, self._stopping = agreed
        for total in totals:
            if total:
                self._updates.count(total)
        taken = [number for number, weight in enumerate(own) if weight]
        batches: list[Batch] = [waiting[number] for number in taken]  # type: ignore[misc]
        if self.config.order != "drawn":
            sizes = [batch.num_nodes + batch.adj.num_edges for batch in batches]
            order = order_micro_batches(sizes)
            taken, batches = [taken[i] for i in order], [batches[i] for i in order]
        if isinstance(self._engine, TorchEngine) and self._agreed != self.loader.epoch:
            self._agreed = self.loader.epoch
            # What is received has no size of its own: it is that of the rank's own batch.
            self._engine.agree(f"clusters in epoch {self._agreed}", draws(self.loader))
        self._engine.record = self.record
        self._engine.place()
        with exchanged(self._statistics, self.group, taken, taking) as observe:
            computation = replace(self._computation(), observe=observe)
            schedule = first_of(self.schedule, len(batches))
            losses = self._engine.run(schedule, batches, computation) if batches else []
        for number, batch, loss in zip(taken, batches, losses, strict=False):
            self._meter.add(loss.to(self.device), own[number], batch.num_nodes)
        self._updates.apply()
        self._stale = True

    def _computation(self) -> Computation:
        opaque = any(isinstance(p, Neighbourhood) for block in self.model.phases for p in block)
        return Computation(
            lambda batch: training_context(batch, self.config.seed, self._runner, self.group),
            self._last_loss,
            lambda loss: self._updates.root(loss),
            self.precision.autocast,
            redraws=opaque and self.config.checkpoint_activations,
        )

    def _last_loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The summed loss of a micro-batch, in the last stage."""
        try:
            return summed_loss(self.task, out, batch)
        except (AttributeError, TypeError) as error:
            if batch.x is not None:
                raise
            raise InputError(
                f"{type(self.task).__name__}.loss failed in the last stage ({error}), which is not "
                "given batch.x: features go to the first. Use ClusterTrainer("
                f"accumulate={self.config.micro_batches}), which learns the same, or stages=1"
            ) from error

    # --- weights and state ------------------------------------------------------------------

    def _share(self) -> None:
        """Give every rank all weights, where an update has changed those of others."""
        if self._stale and isinstance(self._engine, TorchEngine):
            self._engine.share_weights()
        self._stale = False

    @override
    def _evaluate(self, sets: Sequence[str]) -> dict[str, dict[str, float]]:
        self._share()
        return super()._evaluate(sets)

    @override
    def _predict(self, nodes: Any, out: str | Path | None, head: bool) -> Tensor:
        self._share()
        return super()._predict(nodes, out, head)

    @override
    def _begin(self) -> None:
        super()._begin()
        self._stale = False
        self._agreed = None

    @override
    def _end_epoch(self, progress: Progress) -> dict[str, Any]:
        if self.stage_group is not None:
            self._meter.over_ranks(self.stage_group)  # the losses are with the last stage
        return super()._end_epoch(progress)

    @override
    def _state(self) -> dict[str, Any]:
        self._share()
        return super()._state()

    @override
    def _loop_state(self) -> dict[str, Any]:
        state = super()._loop_state()
        updates = state["updates"]
        if self.stage_group is not None:
            here = part_of(updates["optimizer"], self.optimizer, self._own_parameters())
            updates = {**updates, "optimizer": whole(here, self.stage_group)}
        return {**state, "updates": updates}

    @override
    def _load_loop_state(self, state: dict[str, Any]) -> None:
        updates = state["updates"]
        here = part_of(updates["optimizer"], self.optimizer, self._own_parameters())
        super()._load_loop_state({**state, "updates": {**updates, "optimizer": here}})

    def _own_parameters(self) -> list[nn.Parameter]:
        return [p for stage in self._own for p in stage.parameters()]

    # --- what was run when ------------------------------------------------------------------

    def timeline(self) -> Timeline:
        """When each device computed what in the last step; set `record = True` before it.

        On every rank of the pipeline together. Ranks of one machine share a clock.

        Raises:
            InputError: nothing has been recorded.
        """
        events = [] if self._engine is None else self._engine.events
        if self.stage_group is not None:
            of_ranks = comm.gather_objects(events, self.stage_group)
            events = [event for events in of_ranks for event in events]
        return Timeline.from_events(events)

"""Pipeline: a model in stages, each where its device is, and what each of them reads of a graph."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.loader import Batch, ClusterLoader
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.parallel.engine.distributed import TorchEngine
from gnnscale.parallel.engine.exchange import draws, refuse_synchronised
from gnnscale.parallel.engine.local import LocalExecutor
from gnnscale.parallel.engine.passes import Computation
from gnnscale.parallel.engine.wire import links
from gnnscale.parallel.micro_batches import BalancedLoader
from gnnscale.parallel.schedules import CHUNKS, Schedule, make_schedule
from gnnscale.parallel.simulation.links import measure_link
from gnnscale.parallel.simulation.profile import Profile, profile
from gnnscale.parallel.simulation.timeline import Timeline
from gnnscale.parallel.stages import Stage, cut, stage_faults
from gnnscale.storage.files import read_json, write_json
from gnnscale.train.clusters import Clusters
from gnnscale.train.options import PipelineOptions
from gnnscale.train.session import Setup, choose_device
from gnnscale.train.steps.undone import undone
from gnnscale.train.task import NodeTask

logger = logging.getLogger(__name__)


def in_stages_faults(options: PipelineOptions, ranks: int) -> list[str]:
    """What of a trainer's options does not go with stages, in words."""
    faults = []
    if options.precision == "fp16" and ranks > 1:
        faults.append(
            "precision='fp16': an overflow in one stage would have to stop all; use 'bf16'"
        )
    if options.schedule == "zbv" and options.checkpoint_activations:
        faults.append(
            "checkpoint_activations: schedule 'zbv' goes back through a stage twice, and would "
            "compute its activations anew each time; take another schedule"
        )
    return faults


def arranged(
    options: PipelineOptions, num_blocks: int, ranks: int
) -> tuple[list[int] | None, Schedule]:
    """Read what a trainer is told of its pipeline.

    Args:
        options: the trainer's.
        num_blocks: of the model.
        ranks: processes that train together.

    Returns:
        Where the model is cut, None where that is still to be found; and the schedule of a full
        step.

    Raises:
        InputError: listing every fault found.
    """
    schedule, given = options.schedule, options.devices
    faults = stage_faults(options.stages, num_blocks)
    names = list(given) if isinstance(given, list | tuple) else None
    count = given if isinstance(given, int) and not isinstance(given, bool) else None
    if given is not None and not (names or (count or 0) >= 1):
        faults.append(f"devices={given!r} must be a number from 1 on, a list of devices or None")
    elif names is not None and ranks > 1:
        faults.append(
            f"devices={names!r}: under torchrun every rank has its own device; give how many make "
            "a pipeline, or None"
        )
    if faults:
        raise InputError(faults)
    width = len(names) if names is not None and len(names) > 1 else count
    chunks = CHUNKS[schedule]
    if isinstance(options.stages, str):
        width = width or (ranks if ranks > 1 else max(1, torch.cuda.device_count()))
        stages, cuts = min(num_blocks // chunks * chunks, width * chunks) or 1, None
    elif isinstance(options.stages, int):
        stages, cuts = options.stages, None
    else:
        cuts = list(options.stages)
        stages = len(cuts) + 1
    if stages == 1:
        cuts = []
    found = make_schedule(
        schedule, width or max(1, stages // chunks), options.micro_batches, stages
    )
    if ranks > 1 and ranks % found.devices:
        raise InputError(
            f"{ranks} ranks make no pipelines of {found.devices} devices each: start a multiple of "
            f"{found.devices} with torchrun, or one process alone"
        )
    if schedule == "zbv" and ranks > found.devices:
        raise InputError(
            f"schedule 'zbv' is experimental and not combined with data parallelism: {ranks} ranks "
            f"would make {ranks // found.devices} pipelines; start {found.devices}, or take '1f1b'"
        )
    return cuts, found


class Pipeline:
    """The stages of a model on their devices.

    Of several ranks it makes the groups: those that share batches, those that share a model.

    Args:
        setup: of the trainer.
        config: its options.
        cuts: where the model is cut, None where that is still to be found.
        schedule: of a full step.

    Attributes:
        stages: of the model, once it is cut.
        own: those of this process.
        profile: of the blocks, where it was taken to cut the model.
        record: whether the next step is recorded.

    Raises:
        UnsupportedModel: a norm is synchronised over ranks.
    """

    def __init__(
        self, setup: Setup, config: PipelineOptions, cuts: list[int] | None, schedule: Schedule
    ) -> None:
        self._setup, self._config = setup, config
        self._known_cuts, self.schedule = cuts, schedule
        self.stages: list[Stage] = []
        self.own: list[Stage] = []
        self.profile: Profile | None = None
        self.record = False
        self._engine: LocalExecutor | TorchEngine | None = None
        self._told = False
        self._agreed: int | None = None  # the epoch whose batches are the same on all ranks
        self._mesh: DeviceMesh | None = None
        if comm.world_size() > 1:
            shape = (comm.world_size() // schedule.devices, schedule.devices)
            self._mesh = comm.mesh_of(setup.device.type, shape, ("dp", "pp"))
            setup.group = self._mesh.get_group("dp")
            setup.stage_group = self._mesh.get_group("pp")
            refuse_synchronised(setup.model)

    @property
    def devices(self) -> list[torch.device]:
        """Those that this process drives: one a row of the schedule, or a single one for all."""
        named, own, wanted = self._config.devices, self._setup.device, self.schedule.devices
        if isinstance(named, list | tuple):
            return [choose_device(name) for name in named]
        if own.type == "cuda" and torch.cuda.device_count() >= wanted > 1:
            return [torch.device("cuda", number) for number in range(wanted)]
        return [own]

    def loader(self, *arguments: Any, **options: Any) -> ClusterLoader:
        """The loader of micro-batches, of what a `ClusterLoader` takes: of what is read here."""
        if self._config.order == "balanced":
            number = self._config.micro_batches
            loader: ClusterLoader = BalancedLoader(*arguments, micro_batches=number, **options)
        else:
            loader = ClusterLoader(*arguments, **options)
        if self._mesh is None:
            if len(self.devices) > 1:
                loader.device = None  # each stage takes what it reads to its own device
            return loader
        place = comm.rank(self._setup.stage_group)
        if self.schedule.placement[0] != place:
            seen = loader.clustered
            loader.clustered = replace(seen, graph=replace(seen.graph, x=None))
            loader.first_hop = None
        # Another task may ask the labels for what a step's loss is divided by.
        if self.schedule.placement[-1] != place and type(self._setup.task) is NodeTask:
            seen = loader.clustered
            loader.clustered = replace(seen, graph=replace(seen.graph, y=None))
        return loader

    def build(self, data: Clusters, computation: Computation) -> None:
        """Cut the model, and make what runs its stages."""
        setup = self._setup
        sample, learnt = data.sample().to(setup.device), setup.learnt.to(setup.device)
        self._agreed = None
        self.stages = cut(setup.model, self._cuts(data), sample, learnt.task)
        if self._mesh is not None:
            self._engine = TorchEngine(
                self.stages, self.schedule, self._mesh, setup.device, sample, computation
            )
            self.own = self._engine.own
            return
        devices = self.devices
        self._engine = LocalExecutor(self.stages, self.schedule, devices)
        self._engine.place()
        self.own = self.stages
        if len(devices) == 1 and len(self.stages) > 1 and not self._told:
            self._told = True
            logger.warning(
                "there is one device, %s, for %d stages: a pipeline brings nothing here, and "
                "ClusterTrainer(accumulate=%d) learns the same",
                devices[0],
                len(self.stages),
                self._config.micro_batches,
            )

    def _cuts(self, data: Clusters) -> list[int]:
        if self._known_cuts is not None:
            return self._known_cuts
        setup = self._setup
        path = None if setup.folder is None else setup.folder.stages

        def kept() -> list[int] | None:
            if data.is_resumed and path is not None and path.exists():
                return read_json(path)["cuts"]  # those of the run: timings differ
            return None

        if (cuts := comm.from_main(kept)) is not None:
            return cuts
        bandwidth = measure_link(setup.device, setup.stage_group).throughput

        def find() -> list[int]:
            per_batch, task = data.loader.clusters_per_batch, setup.task
            with undone(task, setup.learnt.task, setup.device):
                self.profile = profile(setup.model, data.seen, per_batch, loss=task.loss)
            return self.profile.cut(self.schedule.stages, bandwidth)

        return comm.from_main(find)

    def keep(self) -> None:
        """Write into the run folder where the model is cut."""
        folder = self._setup.folder
        assert folder is not None
        write_json(folder.stages, {"cuts": [stage.numbers[0] for stage in self.stages[1:]]})
        if self.profile is not None:
            self.profile.save(folder.path / "profile.json")

    def parameters(self) -> list[nn.Parameter]:
        """Those whose gradients are here."""
        return [p for stage in self.own for p in stage.parameters()]

    def run(
        self, batches: Sequence[Batch], computation: Computation, loader: ClusterLoader
    ) -> list[Tensor]:
        """Add the gradients of micro-batches; the summed loss of each, where the last stage is."""
        engine = self._engine
        assert engine is not None
        if isinstance(engine, TorchEngine) and self._agreed != loader.epoch:
            self._agreed = loader.epoch
            # What is received has no size of its own: it is that of the rank's own batch.
            engine.agree(f"clusters in epoch {self._agreed}", draws(loader))
        engine.record = self.record
        engine.place()
        if not batches:
            return []
        return engine.run(self.schedule.first(len(batches)), batches, computation)

    def share_weights(self) -> None:
        """Give every rank the weights of all stages."""
        if isinstance(self._engine, TorchEngine):
            self._engine.share_weights()

    def is_opaque(self) -> bool:
        """Whether there are convolutions that are no propagations."""
        return bool(opaque_of(self._setup.model.phases))

    def timeline(self) -> Timeline:
        """See `PipelineTrainer.timeline`."""
        events = [] if self._engine is None else self._engine.events
        if self._setup.stage_group is not None:
            of_ranks = comm.gather_objects(events, self._setup.stage_group)
            events = [event for events in of_ranks for event in events]
        return Timeline.from_events(events)

    def batches_kept(self) -> int:
        """Batches that a step has under way at a time."""
        return self.schedule.batches_kept(in_one_process=self._mesh is None)

    def messages_ahead(self) -> int:
        """Messages that a process has asked for before it reads them, at most."""
        if self._mesh is None or self._setup.device.type != "cpu":
            return 0
        return max(Counter(reader for _, reader in links(self.schedule)).values(), default=0)

"""PipelineTrainer: Cluster-GCN on a model in stages; batches of clusters are its micro-batches."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gnnscale import comm
from gnnscale.declared import takes
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph
from gnnscale.loader import ClusterLoader
from gnnscale.nn import as_layered
from gnnscale.parallel.pipeline import Pipeline, arranged, in_stages_faults
from gnnscale.parallel.pipeline_step import PipelineStep
from gnnscale.parallel.schedules import Schedule
from gnnscale.parallel.simulation.profile import Profile
from gnnscale.parallel.simulation.timeline import Timeline
from gnnscale.parallel.stages import Stage
from gnnscale.train.all_layers import AllLayers
from gnnscale.train.arguments import as_clusters, option_faults
from gnnscale.train.clusters import clusters_of
from gnnscale.train.evaluators.temporal import evaluator_of
from gnnscale.train.options import PipelineOptions
from gnnscale.train.session import Setup
from gnnscale.train.steps.dry_run import before_clusters, try_clusters
from gnnscale.train.trainer import Trainer


class PipelineTrainer(Trainer):
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

    @takes(PipelineOptions)
    def __init__(self, options: PipelineOptions) -> None:
        comm.start()
        faults, sound = option_faults(options), options.sound()
        model = as_layered(options.model)
        try:
            cuts, schedule = arranged(sound, len(model.blocks), comm.world_size())
        except InputError as error:
            faults += error.faults
        faults += in_stages_faults(sound, comm.world_size())
        given = as_clusters(replace(options, model=model), faults)
        config = given.config
        setup = Setup(given.model, given.task, config)
        self._pipeline = pipeline = Pipeline(setup, config, cuts, schedule)
        self._clusters = data = clusters_of(setup, given, pipeline.loader)
        evaluator = evaluator_of(setup, data, data.interval)
        kept, make_step = pipeline.batches_kept(), partial(PipelineStep, config, pipeline, data)
        check = partial(
            try_clusters, setup, data, evaluator, fewer=given.fewer, kept=kept,
            ahead=pipeline.messages_ahead(),
        )  # fmt: skip
        before = partial(before_clusters, setup, data, evaluator, fewer=given.fewer)
        sessions = AllLayers(setup, data, evaluator, check, make_step, pipeline.keep, before)
        self._put_together(setup, data, evaluator, sessions)

    @property
    def loader(self) -> ClusterLoader:
        """The micro-batches of an epoch: see `ClusterTrainer.loader`."""
        return self._clusters.loader

    @property
    def clustered(self) -> ClusteredGraph:
        """The clustered graph: see `ClusterTrainer.clustered`."""
        return self._clusters.known

    @property
    def schedule(self) -> Schedule:
        """What every device runs in a full step, in which order."""
        return self._pipeline.schedule

    @property
    def stages(self) -> list[Stage]:
        """The stages of the model, once it is cut."""
        return self._pipeline.stages

    @property
    def profile(self) -> Profile | None:
        """Of the blocks, where it was taken to cut the model."""
        return self._pipeline.profile

    @property
    def record(self) -> bool:
        """Whether the next step is recorded, for `timeline`."""
        return self._pipeline.record

    @record.setter
    def record(self, wanted: bool) -> None:
        self._pipeline.record = wanted

    def timeline(self) -> Timeline:
        """When each device computed what in the last step; set `record = True` before it.

        On every rank of the pipeline together. Ranks of one machine share a clock.

        Raises:
            InputError: nothing has been recorded.
        """
        return self._pipeline.timeline()

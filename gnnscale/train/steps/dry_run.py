"""The check before training: one small batch through the model, and room for the largest."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.clusters import clusters_that_fit
from gnnscale.costs.counted.reading import costs_of
from gnnscale.costs.inference import coefficient_bytes
from gnnscale.costs.layout import all_fit, check_mean_batch
from gnnscale.costs.passes import pass_cost
from gnnscale.errors import GnnscaleError, InexactConvolution, InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference import check_features
from gnnscale.inference.engine import in_one_chunk
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel, LayeredGNN, check_invariance
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import entering, run_phases
from gnnscale.nn.blocks.phases import Features, Phase
from gnnscale.nn.invariance.check import Level, as_layer, first_rows
from gnnscale.nn.modules import evaluation_mode, has_lazy, settle_unused
from gnnscale.train.clusters import Clusters
from gnnscale.train.contracts import Evaluator
from gnnscale.train.session import Setup
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.task import NodeTask, Task

logger = logging.getLogger(__name__)


@torch.no_grad()
def dry_run(
    model: LayeredGNN | GraphModel,
    batch: Batch,
    graph: Graph,
    task: Task | None,
    level: Level = "pieces",
) -> Tensor:
    """Run one batch in evaluation mode; check widths, and whether layers may run in pieces.

    Lazy parameters get their shapes here, before the optimizer is made.

    Returns:
        The output, `[num_nodes, out_channels]`; of a `GraphModel` what its readout is given.

    Raises:
        InputError: features, model and labels do not fit together.
        InexactConvolution: a layer depends on what a piece of the graph does not hold.
        UnsupportedModel: a layer runs on the batch and fails on other pieces.
    """
    check_features(model, graph)
    check_carried(model, graph.carried)
    with evaluation_mode(model):
        context = Context.of(batch, training=False)
        assert batch.x is not None
        x: Any = entering(batch.x, model)
        for phases in model.phases:
            for phase in phases:
                refusal = _refusal(phase, x, context, graph, level)
                try:
                    x = phase(x, context)
                except RuntimeError as error:
                    raise InputError(
                        f"{type(phase).__name__} cannot take {x.shape[1]} channels: {error}"
                    ) from error
                if refusal is not None:
                    raise refusal
        # Of a `GraphModel` the blocks alone: readout and head have not run.
        settle_unused(
            nn.ModuleList(model.encoder.blocks) if isinstance(model, GraphModel) else model
        )
    if isinstance(task, NodeTask):
        task.check_output(x.shape[1], graph)
    return x


def _refusal(
    phase: Phase, x: Features, context: Context, graph: Graph, level: Level
) -> GnnscaleError | None:
    """Check a layer before it runs; a failure of its own is left to the batch, which tells more."""
    layer = as_layer(phase, of_graphs=level == "graphs")
    if layer is None:
        return None
    rows = [first_rows(x), *(first_rows(context.slots[slot]) for slot in layer.slots)]
    try:
        check_invariance(layer, rows, graph.adj, graph.carried, level=level)
    except InexactConvolution:
        raise
    except (InputError, UnsupportedModel) as error:
        return error
    return None


def try_clusters(
    setup: Setup,
    data: Clusters,
    evaluator: Evaluator,
    *,
    fewer: bool,
    kept: int = 1,
    ahead: int = 0,
) -> None:
    """Run one batch before anything long begins: widths, reach, loss and memory are checked.

    It also gives lazy parameters (`in_channels=-1`) their shapes.

    Args:
        setup: of the trainer.
        data: what is trained on.
        evaluator: of the whole graph.
        fewer: whether there may be fewer clusters a batch than the loader has.
        kept: batches that a step has under way at a time.
        ahead: messages between stages that a process has asked for before it reads them.

    Raises:
        InputError: data and model do not fit together; or a step on the largest batch, or an
            evaluation, does not stay within `memory`.
    """
    config, graph = setup.config, data.graph
    batch = data.sample().to(setup.device)
    # Within a bound there may be smaller pieces than a chunk.
    whole = batch.num_nodes == graph.num_nodes and config.memory == "auto"
    whole = whole and in_one_chunk(setup.model, graph, config.chunk_rows)
    level: Level = "whole" if whole else "pieces"
    out = dry_run(setup.model, batch, graph, setup.task, level)
    try_loss(setup.learnt, setup.task, out, batch, graph.y_level == "edge")
    checks = [evaluator.check_room]
    if config.memory != "auto" or comm.world_size() > 1:  # a rank may have a bound of its own
        checks.append(partial(_keep_within, setup, data, evaluator, batch, fewer, kept, ahead))
    all_fit(*checks)


def before_clusters(setup: Setup, data: Clusters, evaluator: Evaluator, *, fewer: bool) -> None:
    """Refuse, before a graph is partitioned, what has no room within `memory`.

    Args:
        setup: of the trainer.
        data: what is trained on.
        evaluator: of the whole graph.
        fewer: whether there may be fewer clusters a batch than was asked for.

    Raises:
        MemoryBound: with the smallest bound that would do, as far as is known by then.
    """
    config: Any = setup.config  # a `ClusterOptions`
    model = setup.model
    if config.memory == "auto" or data.to_come() == 0 or has_lazy(model):
        return
    clusters = 1 if fewer else config.clusters_per_batch
    beside = beside_steps(setup, data, evaluator)
    about = model, data.graph, config.num_parts, clusters, config.memory, beside
    all_fit(data.check_room, evaluator.check_room, partial(check_mean_batch, *about))


def _keep_within(
    setup: Setup,
    data: Clusters,
    evaluator: Evaluator,
    batch: Batch,
    fewer: bool,
    kept: int,
    ahead: int,
) -> None:
    """Have the loader draw as many clusters a batch as steps on them stay within `memory`."""
    config, loader = setup.config, data.loader
    runner = checkpointed(run_phases) if config.checkpoint_activations else run_phases

    def forward(some: Batch) -> Tensor:
        context = Context.of(some, training=False, runner=runner)
        assert some.x is not None
        return setup.model(some.x, some.adj, context=context)

    cost = None
    if config.memory != "auto":
        cost = pass_cost(
            forward,
            setup.model,
            batch,
            config.memory,
            training=True,
            copies=1 + kept + loader.prefetch,  # those trained on, one handed over
            under_way=kept,
        )
        if ahead:
            cost = cost._replace(pair=cost.pair + ahead * _message(setup.model, data.graph))
    loader.clusters_per_batch = clusters_that_fit(
        cost,
        loader.clustered,
        loader.clusters_per_batch,
        config.memory,
        beside_steps(setup, data, evaluator),
        fewer=fewer,
    )


def _message(model: LayeredGNN, graph: Graph) -> float:
    """Bytes a node of the largest that goes from one block to the next."""
    assert graph.x is not None
    crossings = costs_of(model, graph.x, graph.carried).crossings
    return max((crossing.forward for crossing in crossings), default=0.0)


def beside_steps(setup: Setup, data: Clusters, evaluator: Evaluator) -> int:
    """Bytes of `memory` that are taken while a step runs."""
    kept = 0  # of evaluations, with the graph
    if evaluator.sets():
        kept = coefficient_bytes(setup.model, data.graph)
    return setup.held_bytes(data) + kept

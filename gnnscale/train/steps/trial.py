"""The trial before training on clusters: one batch through the model, and room for the largest."""

from __future__ import annotations

from torch import Tensor

from gnnscale.costs.clusters import clusters_with_room
from gnnscale.costs.passes import pass_cost
from gnnscale.inference.engine import in_one_chunk
from gnnscale.loader import Batch
from gnnscale.nn import Context
from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.nn.blocks.context import run_phases
from gnnscale.nn.invariance.check import Level
from gnnscale.train.clusters import Clusters
from gnnscale.train.contracts import Evaluator
from gnnscale.train.setup import Setup
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.steps.dry_run import dry_run


def try_clusters(
    setup: Setup, data: Clusters, evaluator: Evaluator, *, fewer: bool, kept: int = 1
) -> None:
    """Run one batch before anything long begins: widths, reach, loss and memory are checked.

    It also gives lazy parameters (`in_channels=-1`) their shapes.

    Args:
        setup: of the trainer.
        data: what is trained on.
        evaluator: of the whole graph.
        fewer: whether there may be fewer clusters a batch than the loader has.
        kept: batches that a step has under way at a time.

    Raises:
        InputError: data and model do not fit together; or a step on the largest batch, or an
            evaluation, does not stay within `memory`.
    """
    config, graph, loader = setup.config, data.graph, data.loader
    batch = data.sample().to(setup.device)
    one_chunk = in_one_chunk(setup.model, graph, config.chunk_rows)
    one_chunk &= config.memory == "auto"  # within a bound there may be smaller pieces
    level: Level = "whole" if batch.num_nodes == graph.num_nodes and one_chunk else "pieces"
    out = dry_run(setup.model, batch, graph, setup.task, level)
    try_loss(setup.learnt, setup.task, out, batch, graph.y_level == "edge")
    evaluator.check_room()
    runner = checkpointed(run_phases) if config.checkpoint_activations else run_phases

    def forward(some: Batch) -> Tensor:
        context = Context.of(some, training=False, runner=runner)
        return setup.model(some.x, some.adj, context=context)  # type: ignore[arg-type]

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
    loader.clusters_per_batch = clusters_with_room(
        cost,
        loader.clustered,
        loader.clusters_per_batch,
        config.memory,
        setup.held_bytes(data),
        fewer=fewer,
    )

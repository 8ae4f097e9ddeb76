"""The check before training: one small batch through the model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gnnscale.errors import GnnscaleError, InexactConvolution, InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference import check_features
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel, LayeredGNN, check_invariance
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.features import entering
from gnnscale.nn.invariance.check import Level, as_layer, first_rows
from gnnscale.nn.modules import evaluation_mode
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
        x: Any = entering(batch.x, model)  # type: ignore[arg-type]
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


def settle_unused(model: nn.Module) -> None:
    """Give no values to lazy parameters and buffers that are lazy still: nothing that runs is
    theirs.
    """
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is not None and is_lazy(value):
                    # The rows that PyG's Linear looks for when weights are loaded.
                    rows = (module.out_channels,) if hasattr(module, "out_channels") else ()
                    value.materialize((*rows, 0))
                    logger.info("%s.%s is not used and stays empty", type(module).__name__, name)


def _refusal(
    phase: Any, x: Any, context: Context, graph: Graph, level: Level
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

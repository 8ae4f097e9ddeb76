"""The check before training: one small batch through the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import InexactConvolution, InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference import check_features
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel, LayeredGNN, check_invariance
from gnnscale.nn.carried import check_carried
from gnnscale.nn.features import entering
from gnnscale.nn.invariance import Level, first_rows
from gnnscale.nn.modes import evaluation_mode
from gnnscale.nn.on_rows import as_layer
from gnnscale.train.task import NodeTask, Task


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
    if isinstance(task, NodeTask):
        task.check_output(x.shape[1], graph)
    return x


def _refusal(
    phase: Any, x: Any, context: Context, graph: Graph, level: Level
) -> UnsupportedModel | None:
    """Check a layer before it runs; a failure of its own is left to the batch, which tells more."""
    layer = as_layer(phase, of_graphs=level == "graphs")
    if layer is None:
        return None
    rows = [first_rows(x), *(first_rows(context.slots[slot]) for slot in layer.slots)]
    try:
        check_invariance(layer, rows, graph.adj, graph.carried, level=level)
    except InexactConvolution:
        raise
    except UnsupportedModel as error:
        return error
    return None

"""The check before training: one small batch through the model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference import check_features
from gnnscale.loader import Batch
from gnnscale.nn import Context, GraphModel, LayeredGNN, check_reach
from gnnscale.nn.carried import check_carried
from gnnscale.nn.features import entering
from gnnscale.nn.modes import evaluation_mode
from gnnscale.nn.phases import Neighbourhood
from gnnscale.train.task import NodeTask, Task


@torch.no_grad()
def dry_run(
    model: LayeredGNN | GraphModel, batch: Batch, graph: Graph, task: Task | None
) -> Tensor:
    """Run one batch in evaluation mode; check widths, and the reach of opaque convolutions.

    Lazy parameters get their shapes here, before the optimizer is made.

    Returns:
        The output, `[num_nodes, out_channels]`; of a `GraphModel` what its readout is given.

    Raises:
        InputError: features, model and labels do not fit together.
        InexactConvolution: a convolution reaches further than declared.
    """
    check_features(model, graph)
    check_carried(model, graph.carried)
    opaque: list[tuple[Neighbourhood, int, list[int]]] = []
    with evaluation_mode(model):
        context = Context.of(batch, training=False)
        x: Any = entering(batch.x, model)  # type: ignore[arg-type]
        for phases in model.phases:
            for phase in phases:
                if isinstance(phase, Neighbourhood):
                    beside = [context.slots[slot].shape[1] for slot in phase.slots]
                    opaque.append((phase, x.shape[1], beside))
                try:
                    x = phase(x, context)
                except RuntimeError as error:
                    raise InputError(
                        f"{type(phase).__name__} cannot take {x.shape[1]} channels: {error}"
                    ) from error
        # Only now: a lazy convolution has parameters to check after its first forward.
        for phase, width, beside in opaque:
            device = batch.adj.device
            check_reach(phase, width, graph.adj, graph.carried, beside=beside, device=device)
    if isinstance(task, NodeTask):
        task.check_output(x.shape[1], graph)
    return x

"""What layer-wise training cannot train, found before it begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.loader import Batch
from gnnscale.nn import LayeredGNN
from gnnscale.train.layerwise.rows import as_rows
from gnnscale.train.layerwise.sections import Section
from gnnscale.train.session import Setup
from gnnscale.train.steps.additive import try_loss


def try_task(
    setup: Setup, out: Tensor, batch: Batch, trained: Sequence[Section], y_level: str | None
) -> None:
    """See that the task's parameters are not the model's, and that its loss takes rows.

    Args:
        setup: of the trainer.
        out: the model's output for a batch.
        batch: some training nodes.
        trained: the sections that are trained.
        y_level: what the labels are of.

    Raises:
        UnsupportedModel: the task has parameters of the model.
        InputError: its loss reads what there is not.
    """
    learnt, kind = setup.learnt, type(setup.task).__name__
    of_model = {id(parameter): name for name, parameter in learnt.model.named_parameters()}
    if shared := [of_model[id(p)] for p in learnt.task.parameters() if id(p) in of_model]:
        raise UnsupportedModel(
            f"{kind} has parameters of the model ({', '.join(shared)}): layer-wise training "
            "freezes a layer before it trains the next; use ClusterTrainer"
        )
    in_rows = any(section.is_separable for section in trained)
    seen: Any = as_rows(batch) if in_rows else dataclasses.replace(batch, x=None)
    try:
        try_loss(learnt, setup.task, out, seen, not in_rows and y_level == "edge")
    except (AttributeError, TypeError) as error:
        without = "x and edges" if in_rows else "x"
        raise InputError(
            f"{kind}.loss reads what layer-wise training has not ({error}): its batches are "
            f"rows of nodes, with y and node_id and without {without}, as a layer's input is "
            "not the graph's features. For features, keep graph.x in prepare and take its rows "
            "by batch.node_id, in a ClusteredGraph by its position[batch.node_id]; else use "
            "ClusterTrainer"
        ) from error


def check_norms(model: LayeredGNN, graph: Graph) -> None:
    """Refuse norms that run over more than a batch: rows of a step come from anywhere."""
    refused = {"cluster", "graph"} if graph.node_ptr is not None else {"cluster"}
    for module in model.modules():
        if (over := getattr(module, "over", None)) in refused:
            raise InputError(
                f"{type(module).__name__}(over={over!r}): layer-wise training takes rows from "
                "all clusters and graphs; use over='batch', or ClusterTrainer"
            )

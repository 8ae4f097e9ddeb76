"""What `plan` is given, read: data as trainers take them, a model whose widths are known."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gnnscale.costs.predicted.job import Job
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, ClusteredGraph, Graph
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.inference import check_features
from gnnscale.kernels import CSR
from gnnscale.nn import Context, GraphModel, LayeredGNN, as_layered
from gnnscale.nn.blocks.carried import check_carried
from gnnscale.nn.blocks.context import entering
from gnnscale.nn.modules import draws_put_back, evaluation_mode, settle_unused
from gnnscale.train.arguments import as_data, as_seen
from gnnscale.train.graphs import as_graphs

_ROWS = 8  # that lazy parameters get their widths on


def job_of(
    data: Any, model: Any, task: Any, split: str, inductive: bool, readout: Any, **more: Any
) -> Job:
    """The job that a trainer of these would do.

    Args:
        data: what a trainer is given.
        model: likewise.
        task: likewise.
        split: the split set.
        inductive: whether training nodes alone are trained on.
        readout: of a model of graphs.
        more: of `Job`.

    Raises:
        InputError: data and model do not go together.
    """
    if isinstance(model, GraphModel) or readout is not None or _are_graphs(data):
        graph: Graph | ClusteredGraph = as_graphs(data, task)
        if not isinstance(model, GraphModel):
            model = GraphModel(as_layered(model), "mean" if readout is None else readout)
    else:
        graph = as_data(data, task)
    whole = graph.graph if isinstance(graph, ClusteredGraph) else graph
    if whole.x is None:
        raise InputError(f"{whole.name} has no features x, which every model starts from")
    if not whole.num_nodes:
        raise InputError(f"{whole.name} has no nodes: there is nothing to train on")
    if not isinstance(model, GraphModel):
        split, inductive, unfit = as_seen(graph, split, inductive)
        if unfit:
            raise InputError(unfit)
        model = as_layered(model)
    whole.split(split)  # refuses what has no such name
    check_features(model, whole)
    check_carried(model, whole.carried)
    return Job(graph, _materialised(model, whole), split=split, inductive=inductive, **more)


def _are_graphs(data: Any) -> bool:
    """Whether data are many graphs, with a label each."""
    if isinstance(data, ClusteredGraph):
        data = data.graph
    if isinstance(data, Graph):
        return data.y_level == "graph"
    return isinstance(data, list | tuple) or hasattr(data, "dataset")


def _materialised(model: LayeredGNN | GraphModel, graph: Graph) -> LayeredGNN | GraphModel:
    """The model; of one with lazy parameters a copy whose widths are known, the model as it was."""
    if not any(map(is_lazy, model.parameters())):
        return model
    with draws_put_back():
        model = copy.deepcopy(model)
        _run(model, graph)
    settle_unused(model)
    return model


@torch.no_grad()
def _run(model: nn.Module, graph: Graph) -> None:
    """Run a model on a ring, which has as many columns and values an edge as the graph."""
    rows = min(_ROWS, graph.num_nodes)
    node = torch.arange(rows)
    ring = torch.stack([node, node.roll(1)])
    edges = ring.size(1)
    carried = {
        name: torch.ones_like(value[:1]).expand(
            edges if name in EDGE_VALUES else rows, *value.shape[1:]
        )
        for name, value in graph.carried.items()
        if value.size(0)
    }
    adj = Adjacency.from_edge_index(ring, rows, carried.pop("edge_weight", None))
    assert graph.x is not None
    x: Any = graph.x[:rows] if not isinstance(graph.x, CSR) else graph.x.slice_rows(0, rows)
    segments = {"cluster": torch.tensor([0, rows]), "graph": torch.tensor([0, rows])}
    context = Context(
        adj,
        False,
        edge_attr=carried.get("edge_attr"),
        edge_type=carried.get("edge_type"),
        node_type=carried.get("node_type"),
        segments=segments,
    )
    with evaluation_mode(model):
        model(entering(x, model), adj, context=context)

"""GraphTrainer: training on data sets of many small graphs, one label a graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gnnscale.declared import takes
from gnnscale.errors import InexactConvolution, InputError
from gnnscale.graph import Graph
from gnnscale.loader import Batch
from gnnscale.loader.graph_loader import GraphLoader
from gnnscale.nn import Context, GraphModel
from gnnscale.nn.modules import evaluation_mode
from gnnscale.train.all_layers import AllLayers
from gnnscale.train.arguments import as_task, option_faults
from gnnscale.train.evaluators.each_graph import EachGraph
from gnnscale.train.graphs import ManyGraphs, as_graphs, graphs_as_rows, with_split
from gnnscale.train.options import GraphOptions
from gnnscale.train.session import Setup
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.steps.batch_step import BatchStep, step_of_whole
from gnnscale.train.steps.dry_run import dry_run
from gnnscale.train.task import NodeTask, Task
from gnnscale.train.trainer import Trainer


class GraphTrainer(Trainer):
    """Trains on mini-batches of whole graphs and evaluates exactly, each graph by itself.

    A step draws `graphs_per_batch` training graphs without replacement and takes one optimizer
    step. Norms that run over a batch, its clusters or its graphs (`GraphNorm`, `InstanceNorm`, …)
    run over every graph apart, in training as in evaluation; batch norm over the nodes of all.

    Under `torchrun` every rank takes every R-th batch, as with `ClusterTrainer`.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        StoreError: the run folder cannot be written.

    Example:
        >>> import torch, gnnscale as gs
        >>> from torch_geometric.data import Data
        >>> def cycle(n):  # is it a triangle?
        ...     ring = torch.arange(n)
        ...     edges = torch.stack([ring, ring.roll(1)])
        ...     x = torch.ones(n, 1)
        ...     return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=int(n == 3))
        >>> graphs = [cycle(n) for n in (3, 4, 5, 6) * 8]
        >>> model = gs.nn.GIN(1, 16, 2, out_channels=2, jk="cat")
        >>> split = {"train": range(24), "test": range(24, 32)}
        >>> trainer = gs.GraphTrainer(model, graphs, readout="sum", split=split, epochs=5)
        >>> report = trainer.fit()
        >>> trainer.predict().shape
        torch.Size([32, 2])
    """

    @takes(GraphOptions)
    def __init__(self, options: GraphOptions) -> None:
        model, graph, rows, task, config = _read(options, option_faults(options))
        setup = Setup(model, task, config)  # type: ignore[arg-type]
        data = ManyGraphs(setup, graph, rows, config.graphs_per_batch, config.prefetch)
        evaluator = EachGraph(setup, model, data)
        check = partial(_try_graphs, setup, model, data, config)
        sessions = AllLayers(setup, data, evaluator, check, partial(_step, evaluator, config))
        self._put_together(setup, data, evaluator, sessions)
        self._graphs = data

    @property
    def loader(self) -> GraphLoader:
        """The batches of an epoch."""
        return self._graphs.loader


def _step(evaluator: EachGraph, config: GraphOptions, *parts: Any) -> BatchStep:
    evaluator.check_steps(config.graphs_per_batch, config.prefetch)
    return step_of_whole(*parts)


def _read(
    options: GraphOptions, faults: list[str]
) -> tuple[GraphModel, Graph, Graph, Task, GraphOptions]:
    """The model, the data set, its graphs as rows of the task, the task, and settled options."""
    options = options.sound()
    model: Any = options.model
    readout, split = options.readout, options.split
    graph = as_graphs(options.graphs, options.task)
    if isinstance(split, Mapping):
        graph, split = with_split(graph, split), "given"
    if not isinstance(split, str):
        raise InputError(f"split={split!r}: the name of a split set, or graphs by part")
    if readout is not None and isinstance(model, GraphModel):
        faults.append(f"readout={readout!r}: the model is a GraphModel, which has its own")
    if graph.cuts:
        faults.append(
            f"split {next(iter(graph.cuts))!r} has cuts, and a GraphTrainer knows all of its "
            "graphs: give it what was known, graph.until(…), and splits without cuts"
        )
    rows = graphs_as_rows(graph)
    try:
        task = as_task(options, rows, split)
    except InputError as error:
        faults += map(_of_graphs, error.faults)
    if faults:
        raise InputError(faults)
    if not isinstance(model, GraphModel):
        model = GraphModel(model, "mean" if readout is None else readout)
    return model, graph, rows, task, options.settled(split=split)


def _try_graphs(setup: Setup, model: GraphModel, data: ManyGraphs, config: GraphOptions) -> None:
    """Run one batch before anything long begins: widths, layers, readout and loss are checked.

    It also gives lazy parameters (`in_channels=-1`) their shapes.
    """
    batch = data.sample().to(setup.device)
    each_alone = config.graphs_per_batch == 1 and config.chunk_rows == 1
    dry_run(model, batch, data.graph, None, "whole" if each_alone else "graphs")
    with torch.no_grad(), evaluation_mode(model):
        context = Context.of(batch, training=False)
        assert batch.x is not None
        try:
            out = model(batch.x, batch.adj, context=context)
        except RuntimeError as error:
            raise InputError(f"readout and head do not fit the blocks: {error}") from error
    if out.dim() != 2 or out.size(0) != batch.clusters.numel():
        raise InputError(
            f"the model returned {list(out.shape)} for {batch.clusters.numel()} graphs; a "
            "readout returns one row a graph"
        )
    if not each_alone:
        _try_alone(setup, model, data, batch, out)
    if isinstance(setup.task, NodeTask):
        setup.task.check_output(out.size(1), data.rows)
    try_loss(setup.learnt, setup.task, out, batch)


@torch.no_grad()
def _try_alone(
    setup: Setup, model: GraphModel, data: ManyGraphs, batch: Batch, out: Tensor
) -> None:
    """Compare some graphs' outputs with those of each by itself: layers have been checked."""
    if not bool(out.isfinite().all()):
        return  # of which the loss will tell
    near = 1e-3 * float(out.abs().max())  # float32 leaves 1e-5 or so
    with evaluation_mode(model):
        for graph, together in zip(batch.clusters, out, strict=True):
            one = data.assembled(graph.reshape(1).cpu()).to(setup.device)
            context = Context.of(one, training=False)
            assert one.x is not None
            alone = model(one.x, one.adj, context=context)
            if not torch.allclose(alone[0], together, rtol=0, atol=near, equal_nan=True):
                raise InexactConvolution(
                    f"the output of graph {int(graph)} changes by "
                    f"{float((alone[0] - together).abs().max()):.2g} where another graph lies "
                    "beside it, and no layer does that: readout and head must keep to the rows "
                    "of a graph; graphs_per_batch=1 with chunk_rows=1 runs each by itself"
                )


def _of_graphs(fault: str) -> str:
    """A fault of nodes' labels as one of graphs'."""
    for words, of_graphs in (
        ("training node", "training graph"),
        ("train_mask selects no node", "the split selects no graph"),
        ("give train_mask, or splits={'default': {'train': …}}", "give split={'train': ids, …}"),
    ):
        fault = fault.replace(words, of_graphs)
    return fault

"""GraphLoader: an epoch of mini-batches of whole graphs, of a data set of many."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.loader.batch import Assemble, Batch
from gnnscale.loader.cluster_loader import ClusterLoader


def graphs_as_clusters(graph: Graph, split: str = "default") -> ClusteredGraph:
    """A data set of many graphs, each a cluster of its own: nothing is moved or copied.

    The training graphs are the view "train" of it; a graph is one if its first node is a training
    node, which a graph without nodes never is.

    Raises:
        InputError: the data set has no `node_ptr`.
    """
    if graph.node_ptr is None:
        raise InputError("node_ptr says where each graph begins; this data set has none")
    start, end = graph.node_ptr[:-1], graph.node_ptr[1:]
    in_training = of_graphs(graph, None if (s := graph.split(split)) is None else s.train)
    return ClusteredGraph(
        graph=graph,
        node_id=torch.arange(graph.num_nodes),
        offsets=graph.node_ptr,
        train_ends=torch.where(in_training, end, start),
        split=split,
        method="graphs",
    )


def of_graphs(graph: Graph, mask: Tensor | None) -> Tensor:
    """A mask of nodes as one of graphs, bool `[num_graphs]`: whether a graph's first node is in."""
    assert graph.node_ptr is not None
    start, end = graph.node_ptr[:-1], graph.node_ptr[1:]
    chosen = torch.zeros(graph.num_graphs, dtype=torch.bool)
    if mask is not None:
        chosen[start < end] = mask[start[start < end]]
    return chosen


class GraphLoader(ClusterLoader):
    """Iterates over the training graphs of an epoch, so many a batch; resumable.

    Everything is as in `ClusterLoader`, a cluster being a graph. Of a batch, `clusters` are its
    graphs, `ptr` is where each begins, and `y` has one row a graph; batches of an epoch differ by
    one graph at most.

    Args:
        graphs: of `graphs_as_clusters`.
        graphs_per_batch: graphs a batch; all training graphs at most.
        options: `seed`, `rank`, `world_size`, `prefetch` and `device` of `ClusterLoader`.
    """

    def __init__(self, graphs: ClusteredGraph, graphs_per_batch: int = 128, **options: Any) -> None:
        super().__init__(graphs.view("train"), graphs_per_batch, stratify=False, **options)
        self._counts = torch.ones(graphs.num_parts, dtype=torch.int64)
        self._dress = partial(labelled_by_graph, y=graphs.graph.y)


def labelled_by_graph(assemble: Assemble, y: Tensor | None) -> Assemble:
    """Batches with the rows of `y` `[num_graphs, …]` that are of their graphs."""

    def assembled(graphs: Tensor) -> Batch:
        batch = assemble(graphs)
        device = batch.adj.device
        rows = torch.arange(graphs.numel(), device=device)
        return replace(
            batch,
            y=None if y is None else y[graphs.sort().values].to(device, non_blocking=True),
            train_mask=torch.ones_like(rows, dtype=torch.bool),
            train_index=rows,
            graph_ptr=batch.ptr,  # those without nodes too
            step_train_nodes=graphs.numel(),
        )

    return assembled

"""The subgraph that some nodes of a graph induce, with all that they carry."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph
from gnnscale.graph.reading.nodes import Split, read_mask
from gnnscale.kernels import CSR, induced_subgraph


def subgraph(graph: Graph, nodes: Tensor) -> Graph:
    """The graph of some nodes and of the edges among them, nodes in their order.

    Args:
        graph: the graph.
        nodes: a mask `[num_nodes]`, or ids.

    Returns:
        A graph of `nodes.sum()` nodes with their features, labels, splits and edges, in memory.
        It has as many graphs (`node_ptr`) as before, those without such nodes being empty.
    """
    graph.adj.prove()
    nodes = read_mask(nodes, graph.num_nodes, "nodes")
    chosen = nodes.nonzero().squeeze(1)
    # To the kernel, every node is a cluster of its own.
    indptr, indices, positions = induced_subgraph(
        graph.adj.indptr,
        graph.adj.indices,
        torch.arange(graph.num_nodes, dtype=torch.int32),
        chosen,
        chosen + 1,
        chosen,
        torch.zeros(graph.num_nodes, 2, dtype=torch.int64),
        with_positions=graph.carries_by_edge,
    )
    weight = None if graph.edge_weight is None else graph.edge_weight[positions]
    x, y = graph.x, graph.y
    if x is not None:
        x = x.select_rows(chosen) if isinstance(x, CSR) else x[chosen]
    if y is not None and graph.y_level != "graph":
        y = y[positions if graph.y_level == "edge" else chosen]
    return dataclasses.replace(
        graph,
        adj=Adjacency(indptr, indices, weight),
        x=x,
        y=y,
        edge_attr=None if graph.edge_attr is None else graph.edge_attr[positions],
        edge_type=None if graph.edge_type is None else graph.edge_type[positions],
        node_type=None if graph.node_type is None else graph.node_type[chosen],
        splits={
            name: Split(split.train[chosen], split.val[chosen], split.test[chosen])
            for name, split in graph.splits.items()
        },
        node_ptr=pointers_among(graph.node_ptr, nodes),
        source=None,
        names=None,
    )


def pointers_among(node_ptr: Tensor | None, nodes: Tensor) -> Tensor | None:
    """`node_ptr` of the graph that some nodes induce, bool `[num_nodes]`; None for a single one."""
    if node_ptr is None:
        return None
    before = torch.cat([node_ptr.new_zeros(1), nodes.long().cumsum(0)])
    return before[node_ptr]

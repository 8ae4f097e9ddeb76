"""The subgraph that some nodes of a graph induce, with all that they carry."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph
from gnnscale.graph.reading.nodes import pointers_among, read_mask
from gnnscale.kernels import induced_subgraph


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
        with_positions=graph.carries_by_edge or graph.edge_time is not None,
    )
    weight = None if graph.edge_weight is None else graph.edge_weight[positions]
    return dataclasses.replace(
        graph.taken(Adjacency(indptr, indices, weight), chosen, positions),
        node_ptr=pointers_among(graph.node_ptr, nodes),
        source=None,
    )

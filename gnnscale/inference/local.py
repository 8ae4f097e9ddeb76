"""The outputs of a few nodes from the rows that they depend on, and no others.

A row of L hops in all depends on the nodes within L hops, and these on how many edges arrive at
each: with the rows within L + 1 hops all of them are as in the whole graph. That holds of fixed
propagations, whose reach is known. Norms over a graph, opaque layers, whose reach is only declared,
and functions that may read other rows are left to the inference over all rows, which checks them.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from gnnscale.graph import Adjacency, Graph
from gnnscale.nn import LayeredGNN
from gnnscale.nn.blocks.phases import Neighbourhood, Propagate, Statistics
from gnnscale.nn.blocks.reach import halo
from gnnscale.nn.invariance.check import as_layer

FEWEST = 1 << 18
"""Edges of a graph below which all rows are computed: that takes no time."""
_EDGE = 160  # bytes, with what is sorted on the way; of its features, what it brings twice
SHARE = 8
"""The rows depended on are computed alone where they have less than one edge in so many."""


def reach(model: LayeredGNN) -> int | None:
    """How many hops away an output depends on a node; None where that is not known for sure."""
    hops = 0
    for phase in (phase for phases in model.phases for phase in phases):
        if isinstance(phase, Statistics) and not phase.row_local_in_evaluation:
            return None
        if isinstance(phase, Neighbourhood) or as_layer(phase, of_graphs=False) is not None:
            return None
        if isinstance(phase, Propagate):
            hops += phase.propagation.hops
    return hops


def around(
    model: LayeredGNN, graph: Graph, rows: Tensor, room: int | None = None
) -> tuple[Graph, Tensor] | None:
    """What the outputs of some nodes depend on, as a graph of its own.

    Args:
        model: the model.
        graph: the whole graph.
        rows: int64 `[k]`, nodes of it.
        room: bytes that it may take; None for as many as there are.

    Returns:
        It, and where the nodes are in it; None where it would be much of the graph, or all of it.
    """
    if graph.node_ptr is not None:  # of several graphs, layers may be told which a node is of
        return None
    if graph.num_edges < FEWEST or rows.numel() * SHARE > graph.num_nodes:
        return None
    hops = reach(model)
    if hops is None:
        return None
    graph.adj.prove()
    unique = rows.unique()
    most = graph.num_edges // SHARE
    if room is not None:
        most = min(most, room // (_EDGE + 8 * graph.num_features))
    near = halo(graph.adj, unique, hops + 1, most=most)
    if near is None:
        return None
    nodes, place = near.nodes.sort()
    number = place.argsort()  # ascending, so that every row is summed in the same order
    source, target = number[near.edge_index]
    order = target.argsort(stable=True)
    indptr = torch.zeros(nodes.numel() + 1, dtype=torch.int64)
    torch.cumsum(target.bincount(minlength=nodes.numel()), 0, out=indptr[1:])
    edges = near.edges[order]
    weight = None if graph.edge_weight is None else graph.edge_weight[edges]
    adj = Adjacency(indptr, source[order].to(graph.adj.indices.dtype), weight)
    bare = dataclasses.replace(graph, y=None, y_level="node", splits={}, names=None)
    local = bare.taken(adj, nodes, edges)
    return local, torch.searchsorted(nodes, rows)

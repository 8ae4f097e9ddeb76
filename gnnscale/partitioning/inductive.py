"""Parts of the training subgraph, with every other node attached to one of them.

The inductive protocol partitions and trains on the subgraph of the training nodes and tests on the
full graph (Chiang et al., KDD 2019, section 4). Attaching the others lays both out in one store.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from gnnscale.errors import InputError
from gnnscale.graph import Graph, subgraph
from gnnscale.graph.partition import Partition
from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.structure import undirected


def partition_training_nodes(
    graph: Graph, split: str, num_parts: int, cut: Callable[[Graph], Partition], *, whole: bool
) -> Partition:
    """Cut the subgraph of the training nodes and attach every other node.

    Args:
        graph: the whole graph.
        split: the split set whose training nodes are cut.
        num_parts: how many parts `cut` makes.
        cut: the partitioner, of the training subgraph.
        whole: give it features and labels too, which are copied for it.

    Returns:
        A partition of the whole graph. Its parts are those of `cut`, and one more for each graph
        of a multi-graph data set without training nodes.

    Raises:
        InputError: there are fewer training nodes than parts, or none.
    """
    if not isinstance(graph, Graph):
        raise InputError(f'view="train" is of a Graph with splits; got {type(graph).__name__}')
    chosen = graph.split(split)
    train = torch.zeros(graph.num_nodes, dtype=torch.bool) if chosen is None else chosen.train
    count = int(train.sum())
    if num_parts > count:
        raise InputError(
            f"num_parts is {num_parts}, the split {split!r} has {count} training nodes: no part of "
            'view="train" may be empty'
            + (f", so choose between 1 and {count}" if count else '; cut view="all"')
        )
    bare = dataclasses.replace(graph, x=None, y=None, edge_attr=None)
    seen = cut(subgraph(graph if whole else bare, train))
    began = time.perf_counter()
    starts = torch.tensor([0, graph.num_nodes]) if graph.node_ptr is None else graph.node_ptr
    sizes = starts.diff().numpy()
    graph_of = np.repeat(np.arange(len(sizes)), sizes)
    part, owner = _numbered(seen.assignment.numpy(), train.numpy(), graph_of, sizes)
    if bool((part < 0).any()):
        structure = undirected(graph.adj.indptr.numpy(), graph.adj.indices.numpy())
        _attach(*structure, part, np.bincount(part[part >= 0], minlength=len(owner)))
        _share_out(part, graph_of, owner)
    return dataclasses.replace(
        seen,
        assignment=torch.from_numpy(part),
        num_parts=len(owner),
        seconds=seen.seconds + time.perf_counter() - began,
        parameters={**seen.parameters, "view": "train", "split": split},
    )


def _numbered(
    seen: NDArray[np.int32],
    train: NDArray[np.bool_],
    graph_of: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number the parts graph by graph; graphs without training nodes become parts of their own.

    Returns:
        The part of every node, -1 where it is still to be attached, and the graph of every part.
    """
    owner = np.zeros(int(seen.max()) + 1, np.int64)
    owner[seen] = graph_of[train]
    rest = np.setdiff1d(np.flatnonzero(sizes), owner)
    owners = np.concatenate([owner, rest])
    number = np.empty(len(owners), np.int32)
    number[np.argsort(owners, kind="stable")] = np.arange(len(owners), dtype=np.int32)
    of_graph = np.full(len(sizes), -1, np.int32)
    of_graph[rest] = number[len(owner) :]
    part = of_graph[graph_of]
    part[train] = number[seen]
    return part, np.sort(owners)


def _share_out(
    part: NDArray[np.int32], graph_of: NDArray[np.int64], owner: NDArray[np.int64]
) -> None:
    """Fill up the smallest parts of each graph with its nodes that have none, in node order."""
    left = np.flatnonzero(part < 0)
    sizes = np.bincount(part[part >= 0], minlength=len(owner))
    for graph in np.unique(graph_of[left]):
        nodes = left[graph_of[left] == graph]
        first, last = np.searchsorted(owner, [graph, graph + 1])
        order = np.argsort(sizes[first:last], kind="stable")
        small = sizes[first:last][order]
        # The most parts that all these nodes raise to one level, or above it.
        filled = int(np.sum(small * np.arange(1, len(small) + 1) - np.cumsum(small) <= len(nodes)))
        level, more = divmod(int(small[:filled].sum()) + len(nodes), filled)
        room = level - small[:filled] + (np.arange(filled) < more)
        part[nodes] = first + np.repeat(order[:filled], room)


@njit_serial
def _attach(indptr, indices, part, sizes):
    """Give every node that a path joins to one with a part the part of most of its neighbours.

    In rounds: a node is attached in the first round in which a neighbour has a part, by the
    neighbours of earlier rounds alone. A tie goes to the part with the fewest nodes before the
    round, then to the lowest id. Every edge is read three times in all.
    """
    n = len(part)
    queue = np.empty(n, np.int64)
    choice = np.empty(n, np.int32)
    votes = np.zeros(len(sizes), np.int64)
    end = 0
    for i in range(n):
        if part[i] >= 0:
            queue[end] = i
            end += 1
    start = 0
    while start < end:
        tail = end
        for q in range(start, end):
            for e in range(indptr[queue[q]], indptr[queue[q] + 1]):
                j = indices[e]
                if part[j] == -1:
                    part[j] = -2  # in this round
                    queue[tail] = j
                    tail += 1
        for q in range(end, tail):
            i = queue[q]
            best = -1
            for e in range(indptr[i], indptr[i + 1]):
                p = part[indices[e]]
                if p >= 0:
                    votes[p] += 1
                    if best < 0 or (-votes[p], sizes[p], p) < (-votes[best], sizes[best], best):
                        best = p
            for e in range(indptr[i], indptr[i + 1]):
                if part[indices[e]] >= 0:
                    votes[part[indices[e]]] = 0
            choice[q] = best
        for q in range(end, tail):
            part[queue[q]] = choice[q]
            sizes[choice[q]] += 1
        start, end = end, tail

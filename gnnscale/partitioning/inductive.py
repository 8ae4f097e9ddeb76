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
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, Graph, subgraph
from gnnscale.graph.partition import Partition
from gnnscale.graph.reading.nodes import pointers_among
from gnnscale.kernels.threads import njit_serial
from gnnscale.partitioning.derived import induced
from gnnscale.partitioning.native.structure import Structure, undirected
from gnnscale.partitioning.rows import ENTRIES, let_go
from gnnscale.storage.mapped import is_mapped

_AROUND = 1 << 14  # entries that come with any one of a file: Linux maps 64 KiB at once


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
    seen = cut(subgraph(graph, train) if whole else _structure_among(graph, train))
    began = time.perf_counter()
    starts = torch.tensor([0, graph.num_nodes]) if graph.node_ptr is None else graph.node_ptr
    sizes = starts.diff().numpy()
    graph_of = np.repeat(np.arange(len(sizes)), sizes)
    part, owner = _numbered(seen.assignment.numpy(), train.numpy(), graph_of, sizes)
    if bool((part < 0).any()):
        structure = undirected(*graph.adj.arrays())
        attach(structure, part, np.bincount(part[part >= 0], minlength=len(owner)))
        _share_out(part, graph_of, owner)
    return dataclasses.replace(
        seen,
        assignment=torch.from_numpy(part),
        num_parts=len(owner),
        seconds=seen.seconds + time.perf_counter() - began,
        parameters={**seen.parameters, "view": "train", "split": split},
    )


def _structure_among(graph: Graph, nodes: Tensor) -> Graph:
    """The graph of some nodes, bare of all that a partitioner does not look at.

    Of a graph in files, it lies in a file as well.
    """
    graph.adj.prove()
    adj = Adjacency(graph.adj.indptr, graph.adj.indices)
    bare = Graph(adj=adj, node_ptr=graph.node_ptr, name=graph.name)
    if not is_mapped(adj.indices):
        return subgraph(bare, nodes)
    indptr, indices = induced(adj.indptr.numpy(), adj.indices.numpy(), nodes.numpy())
    return dataclasses.replace(
        bare,
        adj=Adjacency(torch.from_numpy(indptr), torch.from_numpy(indices)),
        node_ptr=pointers_among(graph.node_ptr, nodes),
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


def attach(
    structure: Structure, part: NDArray[np.int32], sizes: NDArray[np.int64], entries: int = ENTRIES
) -> None:
    """Give every node that a path joins to one with a part the part of most of its neighbours.

    In rounds: a node is attached in the first round in which a neighbour has a part, by the
    neighbours of earlier rounds alone. A tie goes to the part with the fewest nodes before the
    round, then to the lowest id. Every edge is read three times in all. Each round goes through the
    rows in order, so that of a structure in a file some `entries` are resident at once.

    Args:
        structure: undirected.
        part: int32 `[n]`, -1 where a node has none yet; filled in.
        sizes: nodes of every part; brought up to date.
        entries: to be read before they are let go.
    """
    queue = np.empty(len(part), np.int32)
    known = np.flatnonzero(part >= 0)
    queue[: len(known)] = known
    choice, votes = np.empty(len(part), np.int32), np.zeros(len(sizes), np.int64)
    at = np.array([0, len(known), len(known), 0])
    while _attach(*structure, part, sizes, queue, choice, votes, at, entries):
        let_go(structure.indices)
    let_go(*structure)


@njit_serial
def _attach(indptr, indices, part, sizes, queue, choice, votes, at, entries):
    """Go on from where `at` says; returns whether there is more to do, after so many entries.

    Nodes `queue[start:end]` came in the last round, `queue[end:tail]` come in this one. First those
    are found, as neighbours of the former, then each of them chooses.
    """
    start, end, tail, q = at
    seen = -1
    while start < end:
        while q < tail:
            if entries <= 0:
                at[:] = (start, end, tail, q)
                return True
            i = queue[q]
            first, last = indptr[i] // _AROUND, indptr[i + 1] // _AROUND
            entries -= (last - first + (first != seen)) * _AROUND
            seen = last
            if q < end:
                for e in range(indptr[i], indptr[i + 1]):
                    j = indices[e]
                    if part[j] == -1:
                        part[j] = -2  # in this round
                        queue[tail] = j
                        tail += 1
            else:
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
            q += 1
            if q == end:
                queue[end:tail].sort()
        for k in range(end, tail):
            part[queue[k]] = choice[k]
            sizes[choice[k]] += 1
        start, end = end, tail
        q = start
    return False

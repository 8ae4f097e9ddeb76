"""ClusteredGraph: a graph laid out so that every cluster is a contiguous range of nodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph, Split
from gnnscale.graph.partition import Partition
from gnnscale.kernels import CSR


@dataclass(eq=False)
class ClusteredGraph:
    """A graph renumbered by a partition: the partition is the storage layout.

    Cluster c owns the nodes `offsets[c]` up to `offsets[c + 1]` of `graph`, its training nodes
    first: they end at `train_ends[c]`. A view reads the nodes from `offsets[c]` up to `ends[c]`.
    Made by `cluster` or `open_graph`.

    Attributes:
        graph: the whole graph in storage order.
        node_id: int64 `[num_nodes]`, the original id of every stored node.
        offsets: int64 `[num_parts + 1]`.
        train_ends: int64 `[num_parts]`.
        split: name of the split set whose training nodes come first.
        view_name: "all", or "train" for the inductive view.
        path: the folder it is stored in, or None for one in memory.
        method: how the partition was made, for reports.
        seed: the seed that the partition was made with.
    """

    graph: Graph
    node_id: Tensor
    offsets: Tensor
    train_ends: Tensor
    split: str = "default"
    view_name: str = "all"
    path: Path | None = None
    method: str = "given"
    seed: int = 0

    @property
    def num_parts(self) -> int:
        return self.offsets.numel() - 1

    @property
    def num_nodes(self) -> int:
        """Nodes of this view."""
        return int(self.sizes.sum())

    @property
    def sizes(self) -> Tensor:
        """Nodes of every cluster in this view, int64 `[num_parts]`."""
        return self.ends - self.offsets[:-1]

    @property
    def ends(self) -> Tensor:
        """End of every cluster in this view, int64 `[num_parts]`."""
        return self.train_ends if self.view_name == "train" else self.offsets[1:]

    @property
    def train_counts(self) -> Tensor:
        """Training nodes of every cluster, int64 `[num_parts]`."""
        return self.train_ends - self.offsets[:-1]

    def view(self, name: str) -> ClusteredGraph:
        """The same store seen as "all" or as "train": the subgraph of the training nodes.

        In the "train" view every batch holds training nodes only, and edges to others are dropped
        while it is assembled; `graph` stays the whole graph, for the test (inductive protocol).
        """
        if not isinstance(name, str) or name not in ("all", "train"):
            raise InputError(f'no view {name!r}; there are "all" and "train"')
        return dataclasses.replace(self, view_name=name)

    @cached_property
    def cluster_of(self) -> Tensor:
        """The cluster of every stored node, int32 `[num_nodes]`."""
        sizes = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(self.num_parts, dtype=torch.int32), sizes)

    @cached_property
    def position(self) -> Tensor:
        """The storage position of every original node, int64 `[num_nodes]`."""
        position = torch.empty_like(self.node_id)
        position[self.node_id] = torch.arange(self.node_id.numel())
        return position

    @property
    def partition(self) -> Partition:
        """The partition, in the original order of the nodes."""
        assignment = self.cluster_of[self.position]
        return Partition(assignment, self.num_parts, self.method, self.seed)

    def original(self) -> Graph:
        """The whole graph in its original order, in memory."""
        # Every graph owns the same range of nodes in both orders.
        return dataclasses.replace(reorder(self.graph, self.position), node_ptr=self.graph.node_ptr)

    def __repr__(self) -> str:
        where = f" at {self.path}" if self.path else ""
        view = "" if self.view_name == "all" else f", view {self.view_name}"
        return f"ClusteredGraph({self.graph!r}, {self.num_parts:,} clusters{view}{where})"


def cluster(
    graph: Graph,
    part: Partition,
    path: str | Path | None = None,
    *,
    split: str = "default",
) -> ClusteredGraph:
    """Lay out a graph by a partition: clusters contiguous, training nodes first in each.

    Args:
        graph: the graph.
        part: a partition of it.
        path: a folder to write the result to; it is then read from there, memory-mapped. A store
            already there is replaced; anything else there is refused.
        split: the split set whose training nodes come first.

    Returns:
        The clustered graph, in memory or on disk.

    Raises:
        InputError: the partition is of another graph, or a part spans two graphs.
        StoreError: the folder cannot be written, or the disk is full.
    """
    if part.num_nodes != graph.num_nodes:
        raise InputError(f"the partition has {part.num_nodes} nodes, the graph {graph.num_nodes}")
    assignment = part.assignment.long()
    chosen = graph.split(split)
    train = torch.zeros(graph.num_nodes, dtype=torch.bool) if chosen is None else chosen.train
    node_id = torch.argsort(assignment * 2 + (~train).long(), stable=True)
    if graph.node_ptr is not None:
        _check_order_of_graphs(graph.node_ptr, part, node_id)
    offsets = _pointers(torch.bincount(assignment, minlength=part.num_parts))
    train_ends = offsets[:-1] + torch.bincount(assignment[train], minlength=part.num_parts)
    clustered = ClusteredGraph(
        graph=dataclasses.replace(reorder(graph, node_id), node_ptr=graph.node_ptr),
        node_id=node_id,
        offsets=offsets,
        train_ends=train_ends,
        split=split,
        method=part.method,
        seed=part.seed,
    )
    if path is None:
        return clustered
    from gnnscale.graph.store import open_graph, write_store

    write_store(clustered, path)
    return open_graph(path)


def reorder(graph: Graph, order: Tensor) -> Graph:
    """The same graph with its nodes renumbered: new node i is old node `order[i]`."""
    adj, edges = _renumber(graph.adj, order)
    x = graph.x
    if isinstance(x, CSR):
        x = x.select_rows(order)
    elif x is not None:
        x = x[order]
    y = graph.y
    if y is not None and graph.y_level == "node":
        y = y[order]
    elif y is not None and graph.y_level == "edge":
        y = y[edges]
    splits = {
        name: Split(s.train[order], s.val[order], s.test[order]) for name, s in graph.splits.items()
    }
    return dataclasses.replace(
        graph,
        adj=adj,
        x=x,
        y=y,
        edge_attr=None if graph.edge_attr is None else graph.edge_attr[edges],
        splits=splits,
        node_ptr=None,
    )


def _renumber(adj: Adjacency, order: Tensor) -> tuple[Adjacency, Tensor]:
    """The adjacency in the new numbering, rows sorted, and where each of its edges stood."""
    new_id = torch.empty(adj.num_nodes, dtype=adj.indices.dtype)
    new_id[order] = torch.arange(adj.num_nodes, dtype=adj.indices.dtype)
    indptr, positions = adj.row_positions(order)
    unsorted = CSR(indptr, new_id[adj.indices[positions].long()], None, adj.shape)
    # Transposing by counting sort twice sorts every row in O(nodes + edges).
    transposed = unsorted.t()
    ordered = transposed.t()
    edges = positions[unsorted.t_permutation[transposed.t_permutation]]
    weight = None if adj.values is None else adj.values[edges]
    return Adjacency(ordered.indptr, ordered.indices, weight, symmetric=adj.symmetric), edges


def _check_order_of_graphs(node_ptr: Tensor, part: Partition, node_id: Tensor) -> None:
    """Refuse parts that span two graphs, or that would not leave every graph where it was."""
    num_graphs = node_ptr.numel() - 1
    graph_of = torch.repeat_interleave(torch.arange(num_graphs), node_ptr.diff())
    low = torch.full((part.num_parts,), num_graphs)
    high = torch.full((part.num_parts,), -1)
    assignment = part.assignment.long()
    low.scatter_reduce_(0, assignment, graph_of, "amin")
    high.scatter_reduce_(0, assignment, graph_of, "amax")
    spanning = int((high > low).sum())
    if spanning:
        raise InputError(
            f"{spanning} parts span several graphs; a part may hold nodes of one graph only. "
            "gnnscale.partition keeps to that when it is given this graph"
        )
    if bool((graph_of[node_id].diff() < 0).any()):
        raise InputError(
            "the parts of one graph must have consecutive ids: number them graph by graph"
        )


def _pointers(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

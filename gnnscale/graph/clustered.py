"""ClusteredGraph: a graph laid out so that every cluster is a contiguous range of nodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.graph import Graph
from gnnscale.graph.partition import Partition
from gnnscale.graph.store.cluster_folder import checked_store_path, read_store, store_meta
from gnnscale.graph.store.graph_folder import (
    graph_arrays,
    graph_of,
    new_graph_folder,
    open_stored_graph,
)
from gnnscale.graph.store.streamed import FEATURE_TYPES, Narrowing, write_in_order
from gnnscale.kernels.rows.cpu import (
    copy_rows,
    order_by_part,
    renumber,
    sort_rows,
    sorting_order,
)
from gnnscale.storage.array_folder import write_arrays
from gnnscale.storage.files import checked_path
from gnnscale.storage.mapped import prove, release
from gnnscale.storage.memory import memory_bytes

_ROWS_AT_ONCE = 1 << 18


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
        """Clusters, which are the parts of the partition."""
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
        # torch's repeat_interleave would hold 8 bytes a node more on the way.
        numbers = np.arange(self.num_parts, dtype=np.int32)
        return torch.from_numpy(np.repeat(numbers, self.offsets.diff().numpy()))

    @cached_property
    def position(self) -> Tensor:
        """The storage position of every original node, int64 `[num_nodes]`."""
        prove(self.node_id)
        position = torch.empty_like(self.node_id)
        position[self.node_id] = torch.arange(self.node_id.numel())
        return position

    @property
    def partition(self) -> Partition:
        """The partition, in the original order of the nodes."""
        assignment = self.cluster_of[self.position]
        return Partition(assignment, self.num_parts, self.method, self.seed)

    def original(self, path: str | Path | None = None, *, memory: int | str = "512MB") -> Graph:
        """The whole graph in its original order.

        With a path, it is written there piece by piece, memory-mapped, and what `cluster` holds for
        each node is held beside `memory`.

        Args:
            path: a folder to write it to. A graph already stored there is replaced; anything else
                there is refused. With None, it is in memory.
            memory: what writing to `path` may take, as "512MB" or a number of bytes.

        Raises:
            StoreError: the folder cannot be written, or the disk is full.
        """
        if path is not None:
            budget = memory_bytes(memory)
            path, meta = new_graph_folder(self.graph, path)
            stored = self.node_id.to(self.graph.adj.indices.dtype)
            write_in_order(self.graph, self.position, stored, path, meta, {}, None, budget)
            return open_stored_graph(path)
        # Every graph owns the same range of nodes in both orders.
        return dataclasses.replace(reorder(self.graph, self.position), node_ptr=self.graph.node_ptr)

    @override
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
    features: str | None = None,
    memory: int | str = "512MB",
) -> ClusteredGraph:
    """Lay out a graph by a partition: clusters contiguous, training nodes first in each.

    With a path, the graph is written there piece by piece: beside `memory`, some 21 bytes a node
    are held (`node_id` 8, its inverse 4, training nodes 1, row pointers 8).

    Args:
        graph: the graph, in memory or memory-mapped.
        part: a partition of it.
        path: a folder to write the result to; it is then read from there, memory-mapped. A store
            already there is replaced; anything else there is refused.
        split: the split set whose training nodes come first.
        features: type to keep dense features in, "float16", "float32" or "float64", or None for
            the one they have. Half precision halves what is stored and read, to 3 digits.
        memory: what writing to `path` may take, as "512MB" or a number of bytes.

    Returns:
        The clustered graph, in memory or on disk.

    Raises:
        InputError: the partition is of another graph, or a part spans two graphs; `features` is
            no such type, or too narrow for the values.
        StoreError: the folder cannot be written, or the disk is full.
    """
    if part.num_nodes != graph.num_nodes:
        raise InputError(f"the partition has {part.num_nodes} nodes, the graph {graph.num_nodes}")
    budget = memory_bytes(memory)
    if features is not None:
        _check_feature_type(graph, features)
    layout = _layout(graph, part, split)
    if path is not None:
        path = checked_store_path(path)
        meta = store_meta(graph, part.num_parts, split, part.method, part.seed)
        own = layout._asdict()
        position = own.pop("position")
        write_in_order(graph, layout.node_id, position, path, meta, own, features, budget)
        return open_graph(path)
    reordered = reorder(graph, layout.node_id)
    if features is not None and isinstance(reordered.x, Tensor):
        narrowing = Narrowing(FEATURE_TYPES[features])
        reordered.x = narrowing(reordered.x)
        narrowing.warn()
    return ClusteredGraph(
        graph=dataclasses.replace(reordered, node_ptr=graph.node_ptr),
        node_id=layout.node_id,
        offsets=layout.offsets,
        train_ends=layout.train_ends,
        split=split,
        method=part.method,
        seed=part.seed,
    )


@choices_checked
def open_graph(path: str | Path, *, verify: bool = False) -> ClusteredGraph:
    """Open a clustered graph written by `cluster(…, path=…)`, memory-mapped.

    Its arrays are for reading: what is changed in place may be lost. Assign a changed copy instead.

    Args:
        path: the folder.
        verify: also read every byte and compare checksums.

    Raises:
        StoreError: it is missing, of another format or version, damaged or truncated.
    """
    path = checked_path(path).absolute()
    meta, arrays = read_store(path, verify=verify)
    return ClusteredGraph(
        graph=graph_of(meta, arrays),
        node_id=arrays["node_id"],
        offsets=arrays["offsets"],
        train_ends=arrays["train_ends"],
        split=meta["split"],
        path=path,
        method=meta["method"],
        seed=meta["seed"],
    )


def write_store(clustered: ClusteredGraph, path: str | Path) -> None:
    """Write a clustered graph to the folder `path`.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    about = clustered.num_parts, clustered.split, clustered.method, clustered.seed
    own = {name: getattr(clustered, name) for name in ("node_id", "offsets", "train_ends")}
    arrays = dict(graph_arrays(clustered.graph)) | own
    path = checked_store_path(path)
    write_arrays(path, store_meta(clustered.graph, *about), arrays, "the graph")


def _check_feature_type(graph: Graph, features: str) -> None:
    if not isinstance(features, str) or features not in FEATURE_TYPES:
        raise InputError(
            f"features={features!r} must be one of {', '.join(FEATURE_TYPES)}, or None"
        )
    if not isinstance(graph.x, Tensor):
        has = "has none" if graph.x is None else "has sparse ones, which keep their type"
        raise InputError(f"features={features!r} is for dense features; this graph {has}")


class Layout(NamedTuple):
    """The order that a partition gives to the nodes of a graph.

    Attributes:
        node_id: see `ClusteredGraph`.
        position: where every node is, of the type of the adjacency's indices: `node_id` inverted.
        offsets: see `ClusteredGraph`.
        train_ends: see `ClusteredGraph`.
    """

    node_id: Tensor
    position: Tensor
    offsets: Tensor
    train_ends: Tensor


def _layout(graph: Graph, part: Partition, split: str) -> Layout:
    chosen = graph.split(split)
    train = torch.zeros(graph.num_nodes, dtype=torch.bool) if chosen is None else chosen.train
    pointers = torch.zeros(2 * part.num_parts + 1, dtype=torch.int64)
    node_id = torch.empty(graph.num_nodes, dtype=torch.int64)
    position = torch.empty(graph.num_nodes, dtype=graph.adj.indices.dtype)
    order_by_part(
        part.assignment.numpy(), train.numpy(), pointers.numpy(), node_id.numpy(), position.numpy()
    )
    release(train)
    if graph.node_ptr is not None:
        _check_order_of_graphs(graph.node_ptr, part, node_id)
    return Layout(node_id, position, pointers[::2].clone(), pointers[1::2].clone())


def reorder(graph: Graph, order: Tensor) -> Graph:
    """The same graph with its nodes renumbered: new node i is old node `order[i]`."""
    carried = graph.carries_by_edge or graph.edge_time is not None
    adj, edges = _renumber(graph.adj, order, carried)
    return dataclasses.replace(graph.taken(adj, order, edges), node_ptr=None)


def _renumber(adj: Adjacency, order: Tensor, carried: bool) -> tuple[Adjacency, Tensor | None]:
    """The adjacency in the new numbering, rows sorted, and where each of its edges stood.

    Beside the result it takes 28 bytes a node; what belongs to edges, 12 an edge more.

    Args:
        adj: the adjacency.
        order: int64, new node i is old node `order[i]`.
        carried: whether anything belongs to edges: else nobody asks where they stood.
    """
    adj.prove()
    new_id = torch.empty(adj.num_nodes, dtype=adj.indices.dtype)
    new_id[order] = torch.arange(adj.num_nodes, dtype=adj.indices.dtype)
    starts, stops = adj.indptr[order], adj.indptr[1:][order]
    indptr = torch.zeros_like(adj.indptr)
    torch.cumsum(stops - starts, 0, out=indptr[1:])
    indices = torch.empty_like(adj.indices)
    put = indptr[:-1].numpy()
    copy_rows(starts.numpy(), stops.numpy(), adj.indices.numpy(), 1, put, indices.numpy())
    release(adj.indices)
    renumber(indices.numpy(), new_id.numpy())
    del new_id, stops
    if not carried:
        sort_rows(indptr.numpy(), indices.numpy())
        return Adjacency(indptr, indices, None, symmetric=adj.symmetric), None
    edges = torch.empty(adj.nnz, dtype=torch.int64)
    sorting_order(indptr.numpy(), indices.numpy(), edges.numpy())
    indices = indices[edges]
    moved_by = starts - indptr[:-1]
    for start in range(0, adj.num_nodes, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, adj.num_nodes)
        own = slice(int(indptr[start]), int(indptr[stop]))
        edges[own] += moved_by[start:stop].repeat_interleave(indptr[start : stop + 1].diff())
    weight = None if adj.values is None else adj.values[edges]
    return Adjacency(indptr, indices, weight, symmetric=adj.symmetric), edges


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

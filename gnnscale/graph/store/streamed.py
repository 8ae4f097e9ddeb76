"""Another order of nodes straight to disk, in bounded memory: clusters, and back from them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.graph.clustered import FEATURE_TYPES, ClusteredGraph, Layout, Narrowing
from gnnscale.graph.graph import Graph
from gnnscale.graph.partition import Partition
from gnnscale.graph.store.cluster_folder import checked_store_path, store_meta
from gnnscale.graph.store.graph_folder import (
    FORMAT,
    check_replaceable,
    graph_arrays,
    graph_meta,
    is_stored_graph,
    open_stored_graph,
)
from gnnscale.graph.store.shuffle import Range, Shuffle
from gnnscale.kernels import CSR, rows
from gnnscale.storage.array_folder import ArrayFolder, array_folder, refuse_bfloat16
from gnnscale.storage.files import checked_path


def cluster_to_disk(
    graph: Graph,
    part: Partition,
    layout: Layout,
    path: str | Path,
    split: str,
    features: str | None,
    budget: int,
) -> None:
    """Write the store of `cluster(graph, part, path)`.

    Args:
        graph: in memory or memory-mapped.
        part: a partition of it.
        layout: the order that it gives.
        path: the folder.
        split: the split set whose training nodes come first.
        features: type to store dense features in, or None for their own.
        budget: bytes that may be used, besides those that grow with the number of nodes.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
    path = checked_store_path(path)
    own = {"node_id": layout.node_id, "offsets": layout.offsets, "train_ends": layout.train_ends}
    meta = store_meta(graph, part.num_parts, split, part.method, part.seed)
    _write(graph, layout.node_id, layout.position, path, meta, own, features, budget)


def original_on_disk(clustered: ClusteredGraph, path: str | Path, budget: int) -> Graph:
    """What `clustered.original(path)` does.

    Args:
        clustered: in memory or memory-mapped.
        path: the folder.
        budget: bytes that may be used, besides those that grow with the number of nodes.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
    """
    path = checked_path(path).resolve()
    check_replaceable(path, is_stored_graph, "graph")
    graph = clustered.graph
    meta = {**FORMAT.stamp, **graph_meta(graph)}
    order, position = clustered.position, clustered.node_id.to(graph.adj.indices.dtype)
    _write(graph, order, position, path, meta, {}, None, budget)
    return open_stored_graph(path)


def _write(
    graph: Graph,
    order: Tensor,
    position: Tensor,
    path: Path,
    meta: dict[str, Any],
    own: dict[str, Tensor],
    features: str | None,
    budget: int,
) -> None:
    """Write the arrays of a graph, those of nodes in another order, and `own` as they are."""
    arrays = dict(graph_arrays(graph))
    needed = sum(a.numel() * a.element_size() for a in [*arrays.values(), *own.values()])
    if features is not None and "x" in arrays:
        saved = arrays["x"].element_size() - FEATURE_TYPES[features].itemsize
        needed -= saved * arrays["x"].numel()
    refuse_bfloat16(arrays)
    with array_folder(path, "the graph", needed) as folder:
        folder.meta = meta
        writing = _Writing(folder, Shuffle(order, position, budget, folder.path))
        _write_adjacency(writing, graph, position)
        if isinstance(graph.x, CSR):
            writing.sparse(graph.x)
        elif graph.x is not None:
            writing.dense("x", graph.x, features)
        by_node = {key: a for key, a in arrays.items() if key.startswith("split")}
        if graph.node_type is not None:
            by_node["node_type"] = graph.node_type
        as_they_are = dict(own)
        if graph.y is not None and graph.y_level == "node":
            by_node["y"] = graph.y
        elif graph.y is not None and graph.y_level == "graph":
            as_they_are["y"] = graph.y
        if graph.node_ptr is not None:  # every graph owns the same range of nodes in both orders
            as_they_are["node_ptr"] = graph.node_ptr
        for key, array in by_node.items():
            writing.dense(key, array)
        for key, array in as_they_are.items():
            folder.write(key, array)


class _Writing:
    """Arrays written to a folder in the order of a shuffle."""

    def __init__(self, folder: ArrayFolder, shuffle: Shuffle) -> None:
        self.folder, self.shuffle = folder, shuffle

    def dense(self, name: str, array: Tensor, stored: str | None = None) -> None:
        """Write an array with one entry a node."""
        dtype = array.dtype if stored is None else FEATURE_TYPES[stored]
        narrowing = Narrowing(dtype)
        with self.folder.array(name, _numpy_type(dtype), tuple(array.shape)) as file:
            for part in self.shuffle.ranges([array.detach()]):
                entries = torch.from_numpy(part.arrays[0])
                if stored is not None:
                    entries = narrowing(entries)
                file.append(entries.numpy())
        narrowing.warn()

    def sparse(self, x: CSR) -> None:
        """Write sparse features."""
        values = [] if x.values is None else [x.values.detach()]
        names = ["x_indices", "x_values"][: 1 + len(values)]
        for part in self.ragged("x_indptr", names, [x.indices, *values], x.indptr):
            del part

    def ragged(self, pointers: str, names: list[str], arrays: list[Tensor], indptr: Tensor):  # type: ignore[no-untyped-def]
        """Write arrays with `indptr`'s entries a node; the caller may change each range first."""
        base = 0
        with contextlib.ExitStack() as stack:
            pointer_file = stack.enter_context(
                self.folder.array(pointers, np.dtype(np.int64), tuple(indptr.shape))
            )
            files = [
                stack.enter_context(
                    self.folder.array(name, _numpy_type(array.dtype), tuple(array.shape))
                )
                for name, array in zip(names, arrays, strict=True)
            ]
            pointer_file.append(np.zeros(1, np.int64))
            for part in self.shuffle.ranges(arrays, indptr):
                yield part
                pointer_file.append(part.pointers[1:] + base)
                base += int(part.pointers[-1])
                for file, entries in zip(files, part.arrays, strict=True):
                    file.append(entries)


def _write_adjacency(writing: _Writing, graph: Graph, position: Tensor) -> None:
    along = {name: getattr(graph, name) for name in EDGE_VALUES}
    if graph.y_level == "edge":
        along["y"] = graph.y
    found = {name: array.detach() for name, array in along.items() if array is not None}
    arrays = [graph.adj.indices, *found.values()]
    for part in writing.ragged("indptr", ["indices", *found], arrays, graph.adj.indptr):
        _renumber(part, position)


def _renumber(part: Range, position: Tensor) -> None:
    """Give the columns their new ids and sort every row, with what goes along."""
    cols, *along = part.arrays
    if not cols.size:
        return
    rows.renumber(cols, position.numpy())
    if not along:
        rows.sort_rows(part.pointers, cols)
        return
    order = np.empty(cols.size, np.int64)
    rows.sorting_order(part.pointers, cols, order)
    part.arrays[:] = [array[order] for array in part.arrays]


def _numpy_type(dtype: torch.dtype) -> np.dtype:
    return torch.empty(0, dtype=dtype).numpy().dtype

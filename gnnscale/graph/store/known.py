"""What was known of a graph by a moment, written to a folder in bounded memory."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gnnscale.graph.adjacency import EDGE_VALUES, Adjacency, row_blocks
from gnnscale.graph.graph import Graph
from gnnscale.graph.store.graph_folder import graph_arrays, new_graph_folder, open_stored_graph
from gnnscale.graph.times import known_by, known_edges
from gnnscale.kernels import CSR
from gnnscale.storage.array_folder import ArrayFolder, array_folder
from gnnscale.storage.mapped import read_rows, release

_AT_ONCE = 1 << 22  # numbers


def store_known(graph: Graph, moment: float, path: str | Path) -> Graph:
    """As `Graph.until`, written to a folder and memory-mapped.

    Beside blocks of some millions of numbers, some 30 bytes a node are held, and names.

    Args:
        graph: in memory or memory-mapped.
        moment: the last that is known.
        path: a folder.

    Raises:
        StoreError: the folder cannot be written, holds something else, or the disk is full.
    """
    nodes = None if graph.node_time is None else known_by(graph.node_time, moment)
    along = {name: getattr(graph, name) for name in (*EDGE_VALUES, "edge_time")}
    if graph.y_level == "edge":
        along["y"] = graph.y
    by_edge = {name: array.detach() for name, array in along.items() if array is not None}
    # What is left is of nodes, and small; edges and features go straight into their files.
    empty = torch.zeros(graph.num_nodes + 1, dtype=torch.int64)
    bare = dataclasses.replace(
        graph,
        adj=Adjacency(empty, graph.adj.indices[:0], symmetric=None),
        x=None,
        edge_attr=None,
        edge_type=None,
        edge_time=None,
        y=None if graph.y_level == "edge" else graph.y,
    ).until(moment)
    path, meta = new_graph_folder(bare, path)
    known = dict(graph_arrays(bare))
    del known["indptr"], known["indices"]
    with array_folder(path, "the graph") as folder:
        num_edges = _write_edges(folder, graph, nodes, moment, by_edge)
        if isinstance(graph.x, CSR):
            _write_sparse(folder, graph.x, nodes, bare.num_nodes)
        elif graph.x is not None:
            _write_dense(folder, graph.x, nodes, bare.num_nodes)
        for name, array in known.items():
            folder.write(name, array)
        folder.meta = {
            **meta,
            "num_edges": num_edges,
            "num_features": graph.num_features,
            "symmetric": None,
        }
    return open_stored_graph(path)


def _write_edges(
    folder: ArrayFolder,
    graph: Graph,
    nodes: Tensor | None,
    moment: float,
    along: dict[str, Tensor],
) -> int:
    """Write the edges that are known, and what goes along with them: their number."""
    rows = graph.num_nodes if nodes is None else int(nodes.sum())
    arrays = {"indices": graph.adj.indices, **along}
    base = 0
    with contextlib.ExitStack() as stack:
        pointers = stack.enter_context(folder.array("indptr", np.dtype(np.int64), (rows + 1,)))
        files = {
            name: stack.enter_context(
                folder.array(name, _numpy_type(array), (None, *array.shape[1:]))
            )
            for name, array in arrays.items()
        }
        pointers.append(np.zeros(1, np.int64))
        for part in known_edges(graph.adj, nodes, graph.edge_time, moment):
            ends = part.counts.cumsum(0) + base
            pointers.append(ends.numpy())
            base += part.positions.numel()
            files["indices"].append(part.indices.numpy())
            if not part.positions.numel():
                continue
            first, last = int(part.positions[0]), int(part.positions[-1]) + 1
            for name, array in along.items():
                block = read_rows(array, first, last)[part.positions - first]
                files[name].append(block.contiguous().numpy())
                release(array)
    return base


def _write_dense(folder: ArrayFolder, x: Tensor, nodes: Tensor | None, count: int) -> None:
    at_once = max(1, _AT_ONCE // max(1, x.size(1)))
    with folder.array("x", _numpy_type(x), (count, x.size(1))) as file:
        for start in range(0, x.size(0), at_once):
            rows = read_rows(x, start, min(start + at_once, x.size(0)))
            own = rows if nodes is None else rows[nodes[start : start + at_once]]
            file.append(own.contiguous().numpy())
            release(x)


def _write_sparse(folder: ArrayFolder, x: CSR, nodes: Tensor | None, count: int) -> None:
    base = 0
    x.prove()
    with contextlib.ExitStack() as stack:
        pointers = stack.enter_context(folder.array("x_indptr", np.dtype(np.int64), (count + 1,)))
        columns = stack.enter_context(folder.array("x_indices", _numpy_type(x.indices), (None,)))
        values = None
        if x.values is not None:
            values = stack.enter_context(folder.array("x_values", _numpy_type(x.values), (None,)))
        pointers.append(np.zeros(1, np.int64))
        for start, stop, block in row_blocks(x):
            kept = torch.ones(stop - start, dtype=torch.bool)
            kept = kept if nodes is None else nodes[start:stop]
            rows = block.select_rows(kept.nonzero().squeeze(1))
            pointers.append((rows.indptr[1:] + base).numpy())
            base += rows.nnz
            columns.append(rows.indices.contiguous().numpy())
            if values is not None and rows.values is not None:
                values.append(rows.values.contiguous().numpy())


def _numpy_type(array: Tensor) -> np.dtype:
    return torch.empty(0, dtype=array.dtype).numpy().dtype

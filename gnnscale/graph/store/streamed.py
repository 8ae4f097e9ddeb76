"""A graph written with its nodes in another order, in bounded memory."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.graph.graph import Graph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.store.graph_folder import graph_arrays
from gnnscale.graph.store.shuffle import Range, Shuffle
from gnnscale.kernels import CSR
from gnnscale.kernels.rows import cpu as rows
from gnnscale.storage.array_folder import ArrayFolder, array_folder, refuse_bfloat16

FEATURE_TYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class Narrowing:
    """Gives features another type, block by block, and says what becomes 0 in it.

    Args:
        dtype: the type.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._lost: Tensor | int = 0  # values that become 0, by column
        self._kept = 0  # values that do not

    def __call__(self, x: Tensor) -> Tensor:
        """Rows in the type.

        Raises:
            InputError: a value does not fit.
        """
        narrow = x.to(self.dtype)
        if self.dtype.itemsize >= x.element_size():
            return narrow
        if bool(torch.isinf(narrow).any()):
            beyond = torch.isinf(narrow)
            column = int(beyond.flatten(1).sum(0).argmax())
            raise InputError(
                f"features go up to {float(x.abs().max()):g}, beyond "
                f"{torch.finfo(self.dtype).max:g}, the greatest number of {self.dtype} (column "
                f"{column}); standardise them or keep a wider type"
            )
        present = x != 0
        self._lost = self._lost + (present & (narrow == 0)).sum(0)
        self._kept += int((narrow != 0).sum())
        return narrow

    def warn(self) -> None:
        """Warn (RuntimeWarning) where values have become 0, with their number and a remedy."""
        lost = int(self._lost.sum()) if isinstance(self._lost, Tensor) else 0
        if not lost:
            return
        assert isinstance(self._lost, Tensor)
        column = int(self._lost.argmax())
        warnings.warn(
            f"features: {lost:,} of {lost + self._kept:,} values that are not 0 become 0 in "
            f"{self.dtype}, {int(self._lost[column]):,} of them in column {column}: they are "
            f"below {torch.finfo(self.dtype).smallest_normal:g}. Standardise the features, or keep "
            "a wider type",
            RuntimeWarning,
            stacklevel=3,
        )


def write_in_order(
    graph: Graph,
    order: Tensor,
    position: Tensor,
    path: Path,
    meta: dict[str, Any],
    own: dict[str, Tensor],
    features: str | None,
    budget: int,
) -> None:
    """Write a graph to a folder with its nodes in another order.

    Args:
        graph: in memory or memory-mapped.
        order: int64 `[num_nodes]`: new node i is old node `order[i]`.
        position: `order` inverted, of the type of the adjacency's indices.
        path: the folder.
        meta: what `meta.json` is to say.
        own: further arrays, written as they are.
        features: type to store dense features in, or None for their own.
        budget: bytes that may be used, besides those that grow with the number of nodes.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
        InputError: an array has a type that cannot be stored.
    """
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
        for name in ("node_type", "node_time"):
            if (values := getattr(graph, name)) is not None:
                by_node[name] = values
        as_they_are = dict(own)
        if graph.y is not None and graph.y_level == "node":
            by_node["y"] = graph.y
        elif graph.y is not None and graph.y_level == "graph":
            as_they_are["y"] = graph.y
        if graph.node_ptr is not None:  # every graph owns the same range of nodes in both orders
            as_they_are["node_ptr"] = graph.node_ptr
        if graph.names is not None and graph.names.ids is not None:
            by_node["name_ids"] = graph.names.ids
        for key, array in by_node.items():
            writing.dense(key, array)
        if graph.names is not None and graph.names.ids is None:
            writing.text(graph.names)
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

    def text(self, names: NodeNames) -> None:
        """Write names that are text."""
        assert names.ends is not None and names.text is not None
        for part in self.ragged("name_ends", ["name_text"], [names.text], names.ends):
            del part

    def ragged(self, pointers: str, names: list[str], arrays: list[Tensor], indptr: Tensor):
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
    along = {name: getattr(graph, name) for name in (*EDGE_VALUES, "edge_time")}
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

"""A clustered graph with more nodes and edges, written in one pass over what there is.

The new nodes of a cluster go behind its training nodes, or behind all: old nodes keep their order,
so every old row is still sorted once its columns are renumbered, and the new edges are merged in.
Floor: the bytes of the store read and written once, and 8 bytes a node for where each goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph.names import NodeNames
from gnnscale.graph.reading.nodes import PARTS
from gnnscale.kernels.rows import cpu as rows
from gnnscale.storage.array_folder import ArrayFile, ArrayFolder, array_folder
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.mapped import read_rows, release

_ROWS = 1 << 16
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Addition:
    """What comes to a graph of n nodes: k nodes, called n to n + k − 1, and edges.

    Attributes:
        num_nodes: k.
        source: int64 `[edges]`, original ids, of new nodes too; each way of an undirected edge.
        target: likewise.
        weight: float32 `[edges]`; None where the graph has no weights.
        edge_time: `[edges]`, as the graph's; None where it has none.
        node_time: `[k]`, likewise.
        x: `[k, num_features]`; None where the graph has no features.
        y: `[k]` or `[k, columns]`, as the graph's labels; None where nothing is known of them.
        names: of the nodes, where the graph's have names.
        part: the part of the split that nodes with a label join; None for none.
        known: bool `[k]`, whether a node has a label.
    """

    num_nodes: int
    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    edge_time: np.ndarray | None
    node_time: np.ndarray | None
    x: np.ndarray | None
    y: np.ndarray | None
    names: NodeNames | None
    part: str | None
    known: np.ndarray


@dataclass(frozen=True)
class Grown:
    """How a graph has grown.

    Attributes:
        clusters: of each new node, int64 `[k]`.
        cut_before: the part of the old edges whose ends lie in different clusters.
        cut: that of all edges.
        repeated: new edges that there were already, now parallel ones.
    """

    clusters: np.ndarray
    cut_before: float
    cut: float
    repeated: int


def clusters_of_new(
    addition: Addition, num_nodes: int, cluster_of: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """The cluster that most neighbours of each new node are in, int64 `[k]`.

    Nodes whose neighbours are new as well follow these; one without any joins the smallest cluster.

    Args:
        addition: what is new.
        num_nodes: nodes there were, n.
        cluster_of: int32 `[n]`, of the old nodes by their original ids.
        sizes: int64 `[num_parts]`, nodes of each cluster; those that join are counted in.
    """
    found = np.full(addition.num_nodes, -1, np.int64)
    one = np.concatenate([addition.source, addition.target])
    other = np.concatenate([addition.target, addition.source])
    new = one >= num_nodes
    one, other = one[new] - num_nodes, other[new]
    while one.size:
        there = np.where(
            other < num_nodes,
            cluster_of[np.minimum(other, num_nodes - 1)] if num_nodes else -1,
            found[np.maximum(other - num_nodes, 0)],
        )
        settled = there >= 0
        if not settled.any():
            break
        keys, counts = np.unique(one[settled] * sizes.size + there[settled], return_counts=True)
        node, cluster = keys // sizes.size, keys % sizes.size
        best = np.lexsort((cluster, sizes[cluster], -counts, node))
        first = np.unique(node[best], return_index=True)[1]
        found[node[best][first]] = cluster[best][first]
        left = found[one] < 0
        one, other = one[left], other[left]
    np.add.at(sizes, found[found >= 0], 1)
    for alone in np.flatnonzero(found < 0).tolist():
        found[alone] = smallest = int(sizes.argmin())
        sizes[smallest] += 1
    return found


def write_grown(
    graph: Any,
    own: dict[str, Tensor],
    split: str,
    addition: Addition,
    path: Path,
    meta: dict[str, Any],
) -> Grown:
    """Write a clustered graph with what comes to it.

    Args:
        graph: the whole graph in storage order.
        own: `node_id`, `offsets` and `train_ends` of the clustered graph.
        split: the split set whose training nodes come first.
        addition: what is new.
        path: the folder.
        meta: what `meta.json` is to say, without the counts of nodes and edges.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    num_nodes, more = graph.num_nodes, addition.num_nodes
    node_id, offsets = own["node_id"].numpy(), own["offsets"].numpy()
    ends = own["train_ends"].numpy()
    parts = offsets.size - 1
    stored_cluster = np.repeat(np.arange(parts, dtype=np.int32), np.diff(offsets))
    cluster_of = np.empty(num_nodes, np.int32)
    cluster_of[node_id] = stored_cluster
    clusters = clusters_of_new(addition, num_nodes, cluster_of, np.diff(offsets))
    training = addition.known if addition.part == "train" else np.zeros(more, dtype=bool)
    # A new node stands in front of the old one at `before`, the training ones first.
    before = np.where(training, ends[clusters], offsets[clusters + 1])
    order = np.lexsort((np.arange(more), ~training, clusters, before))
    origin = np.insert(np.arange(num_nodes), before[order], -1 - order)
    place = np.empty(num_nodes + more, np.int64)  # by original id
    old = origin >= 0
    to_new = np.flatnonzero(old)  # by the place an old node had
    place[node_id] = to_new
    place[num_nodes + (-1 - origin[~old])] = np.flatnonzero(~old)
    cluster_by_place = np.empty(num_nodes + more, np.int32)
    cluster_by_place[to_new] = stored_cluster
    cluster_by_place[place[num_nodes:]] = clusters
    joined = np.bincount(clusters, minlength=parts)
    trained = np.bincount(clusters[training], minlength=parts)
    new_offsets = offsets + np.concatenate([[0], joined.cumsum()])
    with array_folder(path, "the graph") as folder:
        writing = _Interleaved(folder, origin)
        edges = _Edges(addition, place, to_new, cluster_by_place)
        edges.write(folder, graph, origin)
        _write_nodes(writing, graph, addition, split)
        identity = np.empty(num_nodes + more, np.int64)
        identity[place] = np.arange(num_nodes + more)
        for name, array in (
            ("node_id", identity),
            ("offsets", new_offsets),
            ("train_ends", new_offsets[:-1] + (ends - offsets[:-1]) + trained),
        ):
            folder.write(name, torch.from_numpy(array.astype(np.int64)))
        folder.meta = {
            **meta,
            "num_nodes": num_nodes + more,
            "num_edges": graph.num_edges + addition.source.size,
        }
    total = graph.num_edges + addition.source.size
    return Grown(
        clusters,
        edges.cut_old / max(1, graph.num_edges),
        (edges.cut_old + edges.cut_new) / max(1, total),
        edges.repeated,
    )


def _write_nodes(writing: _Interleaved, graph: Any, addition: Addition, split: str) -> None:
    if graph.x is not None:
        writing.write("x", graph.x, addition.x)
    if graph.y is not None:
        writing.write("y", graph.y, addition.y)
    if graph.node_time is not None:
        writing.write("node_time", graph.node_time, addition.node_time)
    for i, (name, masks) in enumerate(graph.splits.items()):
        for part in PARTS:
            joins = addition.known & (name == split and part == addition.part)
            writing.write(f"split{i}_{part}", masks[part], joins)
    if graph.names is None or addition.names is None:
        return
    both = [graph.names.to_arrow(), addition.names.to_arrow()]
    called = pyarrow.concat_arrays([both[0], both[1].cast(both[0].type)])
    at = np.where(writing.origin >= 0, writing.origin, graph.num_nodes - 1 - writing.origin)
    names = (
        NodeNames(torch.from_numpy(called.to_numpy()[at]))
        if graph.names.ids is not None
        else NodeNames.from_arrow(called.take(pyarrow.array(at)))
    )
    for name, array in names.arrays():
        writing.folder.write(name, array)


class _Interleaved:
    """Arrays with an entry a node, the new ones between the old ones."""

    def __init__(self, folder: ArrayFolder, origin: np.ndarray) -> None:
        self.folder, self.origin = folder, origin

    def write(self, name: str, old: Tensor, new: np.ndarray | None) -> None:
        """Write one array."""
        kind = torch.empty(0, dtype=old.dtype).numpy().dtype
        shape = (self.origin.size, *old.shape[1:])
        with self.folder.array(name, kind, shape) as file:
            for start, stop, was, fresh in _row_blocks(self.origin):
                block = np.empty((stop - start, *old.shape[1:]), kind)
                block[~fresh] = read_rows(old, *was).numpy()
                if fresh.any():
                    assert new is not None
                    block[fresh] = new[-1 - self.origin[start:stop][fresh]]
                file.append(block)
                release(old)


class _Edges:
    """The old edges, renumbered, with the new ones merged in."""

    def __init__(
        self, addition: Addition, place: np.ndarray, to_new: np.ndarray, cluster: np.ndarray
    ) -> None:
        target, source = place[addition.target], place[addition.source]
        order = np.lexsort((source, target))
        self._target, self._source = target[order], source[order]
        along = {"edge_weight": addition.weight, "edge_time": addition.edge_time}
        self._along = {name: own[order] for name, own in along.items() if own is not None}
        self._index = np.dtype(np.int32 if place.size <= _INT32_MAX else np.int64)
        self._to_new, self._cluster = to_new.astype(self._index), cluster
        self.cut_old = self.cut_new = self.repeated = 0

    def write(self, folder: ArrayFolder, graph: Any, origin: np.ndarray) -> None:
        """Write `indptr`, `indices` and, where there are any, `edge_weight` and `edge_time`."""
        total = graph.num_edges + self._source.size
        with contextlib.ExitStack() as stack:

            def file(name: str, kind: np.dtype, size: int) -> ArrayFile:
                return stack.enter_context(folder.array(name, kind, (size,)))

            pointers = file("indptr", np.dtype(np.int64), origin.size + 1)
            indices = file("indices", self._index, total)
            along = {name: file(name, own.dtype, total) for name, own in self._along.items()}
            pointers.append(np.zeros(1, np.int64))
            base = 0
            for start, stop, was, fresh in _row_blocks(origin):
                ptr, cols, values = self._block(graph, start, stop, was, fresh)
                pointers.append(ptr[1:] + base)
                base += int(ptr[-1])
                indices.append(cols)
                for name, into in along.items():
                    into.append(values[name])

    def _block(
        self, graph: Any, start: int, stop: int, was: tuple[int, int], fresh: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        old_ptr = read_rows(graph.adj.indptr, was[0], was[1] + 1).numpy()
        a, b = int(old_ptr[0]), int(old_ptr[-1])
        low, high = np.searchsorted(self._target, [start, stop])
        ours = self._target[low:high] - start
        counts = np.zeros(stop - start, np.int64)
        counts[~fresh] = np.diff(old_ptr)
        lengths = counts + np.bincount(ours, minlength=stop - start)
        ptr = np.concatenate([[0], lengths.cumsum()])
        cols = np.empty(ptr[-1], self._index)
        row = np.repeat(np.arange(stop - start), counts)
        at = ptr[row] + np.arange(b - a) - np.repeat(np.cumsum(counts) - counts, counts)
        cols[at] = self._to_new[read_rows(graph.adj.indices, a, b).numpy()]
        self.cut_old += int((self._cluster[cols[at]] != self._cluster[start + row]).sum())
        taken = np.ones(cols.size, dtype=bool)
        taken[at] = False
        cols[taken] = self._source[low:high]  # both in the order of rows
        self.cut_new += int(
            (self._cluster[self._source[low:high]] != self._cluster[start + ours]).sum()
        )
        values = {name: np.empty(cols.size, own.dtype) for name, own in self._along.items()}
        for name, both in values.items():
            both[at] = read_rows(getattr(graph, name), a, b).numpy()
            both[taken] = self._along[name][low:high]
        if high > low:
            order = np.empty(cols.size, np.int64)
            rows.sorting_order(ptr, cols, order)
            cols, taken = cols[order], taken[order]
            values = {name: both[order] for name, both in values.items()}
            same = (cols[1:] == cols[:-1]) & taken[1:] & ~taken[:-1]
            same[ptr[1:-1][(ptr[1:-1] > 0) & (ptr[1:-1] < cols.size)] - 1] = False
            self.repeated += int(same.sum())
        release(graph.adj.indices)
        return ptr, cols, values


def _row_blocks(
    origin: np.ndarray,
) -> Iterator[tuple[int, int, tuple[int, int], np.ndarray]]:
    """Rows from `start` to `stop`, the range of old rows among them, and which are new."""
    done = 0
    for start in range(0, origin.size, _ROWS):
        stop = min(start + _ROWS, origin.size)
        fresh = origin[start:stop] < 0
        count = int((~fresh).sum())
        yield start, stop, (done, done + count), fresh
        done += count


def check_growable(graph: Any) -> None:
    """Refuse what nothing can come to.

    Raises:
        InputError: naming all that stands in the way.
    """
    faults = []
    if graph.node_ptr is not None:
        faults.append("it holds several graphs")
    faults += [f"its edges or nodes have {n}" for n in graph.carried if n != "edge_weight"]
    if graph.y is not None and graph.y_level != "node":
        faults.append(f"its labels are of {graph.y_level}s")
    if graph.x is not None and not isinstance(graph.x, Tensor):
        faults.append("its features are sparse")
    if faults:
        raise InputError(
            f"nothing can be appended to {graph.name}: {', and '.join(faults)}. Build it anew with "
            "the new nodes, as it was built"
        )

"""Batches put together on the device that holds the graph.

Everything that the shape of a batch needs is known on the host from offsets, but for one number:
how many of its clusters' edges stay inside. Kept edges are therefore written to a buffer for all
edges, one slot longer, which takes those that leave; the number follows in an asynchronous copy,
and names the length of the view that the batch gets. Assembled ahead on a stream of its own (see
`Courier`), the copy has arrived before the batch is asked for, and the computing stream is never
waited for. The alternative, padding every batch to all its edges, would have made sparse products
and opaque convolutions work on twice the edges.

Floor: what `Assembler` moves, in the device's memory; of an edge, 4 bytes are read, and some 40 are
written and read again in the passes between, which a handful of torch operations make.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gnnscale.graph import Adjacency, ClusteredGraph
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR
from gnnscale.loader.batch import (
    Assemble,
    Assembler,
    Batch,
    Ranges,
    graphs_of_clusters,
    pointers_among,
    take_features,
)
from gnnscale.storage.mapped import loaded, read_ranges, release

_INT32_MAX = 2**31 - 1
_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for activations, and for inference on the whole graph


class DeviceAssembler:
    """`Assembler` for a graph that is on the device: equal batches, without a wait for the device.

    It owns no scratch memory: threads may share it.

    Args:
        clustered: the clustered graph, or a view of it; copied to the device.
        device: the device.
        first_hop: rows over the nodes of the view, in its order, that batches carry.
    """

    def __init__(
        self,
        clustered: ClusteredGraph,
        device: torch.device,
        first_hop: Tensor | CSR | None = None,
    ) -> None:
        graph = clustered.graph
        self.device = device
        self._starts, self._ends = clustered.offsets[:-1], clustered.ends
        self._train_counts = clustered.train_counts
        self._in_view = _pointers(clustered.sizes)
        self._symmetric = graph.adj.symmetric
        self._adjacency = _SparseRows(graph.adj, self._starts, self._ends, device)
        self._x = _rows(graph.x, self._starts, self._ends, device)
        self._first_hop = _rows(first_hop, self._in_view[:-1], self._in_view[1:], device)
        self._y = None if graph.y is None or graph.y_level == "graph" else loaded(graph.y, device)
        self._labels_edges = graph.y_level == "edge"
        self._carried = {
            name: loaded(value, device)
            for name, value in graph.carried.items()
            if name != "edge_weight"  # with the adjacency
        }
        self._carries_by_edge = graph.carries_by_edge
        self._node_id = loaded(clustered.node_id, device)
        self._graph_of = graphs_of_clusters(clustered)

    def __call__(self, clusters: Tensor) -> Batch:
        """The batch of these clusters (each once), which are sorted, on the device."""
        clusters = clusters.long().sort().values
        starts, ends = self._starts[clusters], self._ends[clusters]
        ranges, ptr = _ranges(starts, ends), _pointers(ends - starts)
        in_view = _ranges(self._in_view[clusters], self._in_view[clusters + 1])
        adj, positions, entries = self._induced(clusters, starts, ends, ptr)

        def carried(values: Tensor) -> Tensor:
            return read_ranges(values, entries)[positions]

        y = self._y
        if y is not None:
            y = carried(y) if self._labels_edges else read_ranges(y, ranges)
        more: dict[str, Any] = {
            name: carried(value) if name in EDGE_VALUES else read_ranges(value, ranges)
            for name, value in self._carried.items()
        }
        train_counts = self._train_counts[clusters]
        train_index = _runs(ptr[:-1], train_counts, self.device)  # first in every cluster
        train_mask = torch.zeros(adj.num_nodes, dtype=torch.bool, device=self.device)
        return Batch(
            x=_take(self._x, clusters, ranges, ptr),
            y=y,
            adj=adj,
            train_mask=train_mask.index_fill_(0, train_index, True),
            train_index=train_index,
            node_id=read_ranges(self._node_id, ranges),
            clusters=_send(clusters, self.device),
            ptr=_send(ptr, self.device),
            graph_ptr=None
            if self._graph_of is None
            else _send(pointers_among(self._graph_of[clusters], ptr), self.device),
            **more,
            first_hop=_take(self._first_hop, clusters, in_view, ptr),
            step_train_nodes=int(train_counts.sum()),
        )

    def _induced(
        self, clusters: Tensor, starts: Tensor, ends: Tensor, ptr: Tensor
    ) -> tuple[Adjacency, Tensor, Ranges]:
        """The induced adjacency, where its edges stand among those of the clusters, and where those
        stand in the graph.
        """
        device = self.device
        ranges = _ranges(starts, ends)
        pointers, columns, values, entries = self._adjacency.take(clusters, ranges, ptr)
        nodes, edges = int(ptr[-1]), columns.numel()
        # Clusters ascend, so their bounds do: an odd number of them at or before a column says that
        # it is inside, and half of that number in which cluster. Two bounds where a cluster ends
        # and the next begins, or where one is empty, keep the count right.
        bounds = _send(torch.stack([starts, ends], dim=1).flatten(), device).to(columns.dtype)
        place = torch.searchsorted(bounds, columns, right=True, out_int32=True)
        before = _pointers((place & 1).long())
        shift = _send(torch.cat([ptr[:-1] - starts, ptr.new_zeros(1)]), device)
        index = torch.int32 if nodes <= _INT32_MAX else torch.int64
        column = (columns + shift[place >> 1]).to(index)
        target = torch.where((place & 1).bool(), before[:-1], edges)
        kept = column.new_empty(edges + 1).scatter_(0, target, column)
        positions = before.new_empty(edges + 1)
        if self._carries_by_edge:
            positions.scatter_(0, target, torch.arange(edges, device=device))
        count = _read(before[-1])
        kept, positions = kept[:count], positions[:count]
        weight = None if values is None else values[positions]
        adj = Adjacency(before[pointers], kept, weight, symmetric=self._symmetric)
        return adj, positions, entries


def make_assembler(
    clustered: ClusteredGraph, first_hop: Tensor | CSR | None, device: torch.device | None
) -> Assemble:
    """A `DeviceAssembler` where the graph takes at most half of the GPU's free memory."""
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if resident_bytes(clustered, first_hop) <= _SHARE_OF_FREE_MEMORY * free:
            return DeviceAssembler(clustered, device, first_hop)
    return Assembler(clustered, first_hop)


def resident_bytes(clustered: ClusteredGraph, first_hop: Tensor | CSR | None = None) -> int:
    """Bytes that a `DeviceAssembler` of the graph takes on its device."""
    graph = clustered.graph
    carried = [value for name, value in graph.carried.items() if name != "edge_weight"]
    held = [graph.adj, graph.x, graph.y, *carried, clustered.node_id, first_hop]
    tensors: list[Tensor | None] = []
    for value in held:
        if isinstance(value, CSR):
            tensors += [value.indptr, value.indices, value.values]
        else:
            tensors.append(value)
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


class _SparseRows:
    """A matrix on the device, and on the host which of its entries every cluster has."""

    def __init__(self, a: CSR, starts: Tensor, ends: Tensor, device: torch.device) -> None:
        self.columns = a.shape[1]
        self._low, self._high = a.indptr[starts], a.indptr[ends]
        release(a.indptr)
        self._indptr, self._indices = loaded(a.indptr, device), loaded(a.indices, device)
        self._values = None if a.values is None else loaded(a.values, device)

    def take(
        self, clusters: Tensor, ranges: Ranges, ptr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Ranges]:
        """Pointers, columns and values of the clusters' rows, and the ranges of their entries."""
        low, high = self._low[clusters], self._high[clusters]
        entries, first = _ranges(low, high), _pointers(high - low)
        moved_by = _spread(first[:-1] - low, ptr.diff(), self._indices.device)
        end = moved_by.new_full((1,), int(first[-1]))
        indptr = torch.cat([read_ranges(self._indptr, ranges) + moved_by, end])
        values = None if self._values is None else read_ranges(self._values, entries)
        return indptr, read_ranges(self._indices, entries), values, entries


def _rows(
    x: Tensor | CSR | None, starts: Tensor, ends: Tensor, device: torch.device
) -> Tensor | _SparseRows | None:
    if isinstance(x, CSR):
        return _SparseRows(x, starts, ends, device)
    return None if x is None else loaded(x, device)


def _take(
    x: Tensor | _SparseRows | None, clusters: Tensor, ranges: Ranges, ptr: Tensor
) -> Tensor | CSR | None:
    if not isinstance(x, _SparseRows):
        return take_features(x, ranges)
    indptr, indices, values, _ = x.take(clusters, ranges, ptr)
    sparse = CSR(indptr, indices, values, (int(ptr[-1]), x.columns))
    sparse.t()  # ahead of the step that reads it
    return sparse


def _ranges(starts: Tensor, ends: Tensor) -> Ranges:
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _pointers(counts: Tensor) -> Tensor:
    pointers = counts.new_zeros(counts.numel() + 1)
    torch.cumsum(counts, 0, out=pointers[1:])
    return pointers


def _spread(values: Tensor, counts: Tensor, device: torch.device) -> Tensor:
    """Each of the host's values as often as its count says, on the device."""
    both, total = _send(torch.stack([values, counts]), device), int(counts.sum())
    return torch.repeat_interleave(both[0], both[1], output_size=total)


def _runs(starts: Tensor, counts: Tensor, device: torch.device) -> Tensor:
    """The whole numbers from each start on, as many as its count says."""
    shift = _spread(starts - _pointers(counts)[:-1], counts, device)
    return shift + torch.arange(shift.numel(), device=device)


def _send(values: Tensor, device: torch.device) -> Tensor:
    """Values of the host on the device, without waiting for it."""
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def _read(value: Tensor) -> int:
    """A number of the device, waiting for the current stream alone, up to here."""
    if value.device.type == "cuda":
        value = value.to("cpu", non_blocking=True)
        torch.cuda.current_stream().record_event().synchronize()
    return int(value)

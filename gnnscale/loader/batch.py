"""Batch: the subgraph induced by some clusters, links between them included.

Floor of an assembly, in bytes: rows of x, y and ids are copied once (read + write); of the edges of
the drawn clusters, 4 bytes of column and 4 of its cluster are read, and 4 written where kept. Of
files rows are read by range: nothing is touched through a map, whose pages would stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, ClusteredGraph
from gnnscale.graph.adjacency import slice_rows
from gnnscale.kernels import CSR, induced_subgraph
from gnnscale.storage.mapped import is_mapped, read_ranges

Ranges = list[tuple[int, int]]
_HALF = (torch.float16, torch.bfloat16)


@dataclass
class Batch:
    """One mini-batch. Rows are the nodes of its clusters, cluster by cluster.

    Attributes:
        x: features `[num_nodes, num_features]`, dense or sparse; None if the graph has none.
        y: labels of the nodes, or of the edges in the order of `adj`; None if there are none, or
            one a graph.
        adj: the induced adjacency: all edges among the batch's nodes, and no others.
        train_mask: bool `[num_nodes]`.
        train_index: int64, the rows that `train_mask` selects: indexing by a mask would stop the
            host for their number on a GPU.
        node_id: int64 `[num_nodes]`, original ids.
        clusters: int64 `[num_clusters]`, ascending.
        ptr: int64 `[num_clusters + 1]`: where each cluster's rows start.
        graph_ptr: int64 `[num_graphs + 1]`: the same for the graphs that clusters are of, in a data
            set of several; None for a single graph.
        edge_attr: `[num_edges, channels]` in the order of `adj`, or None.
        edge_type: int64 `[num_edges]` in the order of `adj`, or None.
        node_type: int64 `[num_nodes]`, or None.
        first_hop: P·X of the whole view `[num_nodes, …]`, where it was computed before training.
        epoch: the epoch it belongs to.
        step: the step within the epoch.
        step_train_nodes: training nodes of the step over all ranks: what a loss is divided by.
    """

    x: Tensor | CSR | None
    y: Tensor | None
    adj: Adjacency
    train_mask: Tensor
    train_index: Tensor
    node_id: Tensor
    clusters: Tensor
    ptr: Tensor
    graph_ptr: Tensor | None = None
    edge_attr: Tensor | None = None
    edge_type: Tensor | None = None
    node_type: Tensor | None = None
    first_hop: Tensor | CSR | None = None
    epoch: int = 0
    step: int = 0
    step_train_nodes: int = 0

    @override
    def __repr__(self) -> str:
        x = "no features" if self.x is None else f"x {list(self.x.shape)}"
        return (
            f"Batch({self.num_nodes:,} nodes of {self.clusters.numel():,} clusters, "
            f"{self.adj.num_edges:,} edges, {self.train_index.numel():,} training rows, {x}, "
            f"step {self.step} of epoch {self.epoch}, {self.adj.device})"
        )

    @property
    def num_nodes(self) -> int:
        """Rows of the batch."""
        return self.adj.num_nodes

    @property
    def edge_index(self) -> Tensor:
        """int64 `[2, num_edges]`, as PyG's layers take it."""
        return self.adj.edge_index

    @property
    def edge_weight(self) -> Tensor | None:
        """`[num_edges]` in CSR order, None where all are 1."""
        return self.adj.edge_weight

    @property
    def segments(self) -> dict[str, Tensor]:
        """What a norm may run over, by kind: see `gnnscale.nn.Context`."""
        graphs = {} if self.graph_ptr is None else {"graph": self.graph_ptr}
        return {"cluster": self.ptr, **graphs}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on a device; itself where it is there already."""
        if self.adj.device == torch.device(device):
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, Tensor | CSR)
        }
        return replace(self, **moved)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory."""
        pinned: dict[str, Any] = {
            name: value.pin_memory()
            for name, value in vars(self).items()
            if isinstance(value, Tensor | CSR)
        }
        return replace(self, **pinned)

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory of the batch, which another stream filled, until this one is done."""
        for value in vars(self).values():
            if isinstance(value, Tensor | CSR):
                value.record_stream(stream)


#: Puts the batch of some clusters together.
Assemble = Callable[[Tensor], Batch]


class Assembler:
    """Puts batches together from a clustered graph. One per thread: it owns scratch memory.

    Args:
        clustered: the clustered graph, or a view of it.
        first_hop: rows over the nodes of the view, in its order, that batches carry.
    """

    def __init__(self, clustered: ClusteredGraph, first_hop: Tensor | CSR | None = None) -> None:
        self.clustered = clustered
        self._first_hop = first_hop
        # NumPy's: on some ten numbers its calls cost less than torch's.
        self._starts, self._ends = clustered.offsets[:-1].numpy(), clustered.ends.numpy()
        self._train_counts = clustered.train_counts.numpy()
        self._in_view = np.concatenate([[0], clustered.sizes.numpy().cumsum()])
        self._window = torch.zeros(clustered.num_parts, 2, dtype=torch.int64)
        split = clustered.graph.split(clustered.split)
        self._train = None if split is None else split.train
        self._graph_of = graphs_of_clusters(clustered)

    def __call__(self, clusters: Tensor) -> Batch:
        """The batch of these clusters, which are sorted so that reads are sequential.

        Raises:
            InputError: there are none, one is there twice, or there is no such cluster.
        """
        clustered, graph = self.clustered, self.clustered.graph
        drawn = np.sort(clusters.long().numpy())
        if not drawn.size or (drawn[1:] == drawn[:-1]).any():
            raise InputError("a batch takes one cluster or more, each once")
        if drawn[0] < 0 or drawn[-1] >= clustered.num_parts:
            raise InputError(
                f"clusters span [{drawn[0]}, {drawn[-1]}]; there are {clustered.num_parts}"
            )
        starts, ends = self._starts[drawn], self._ends[drawn]
        ranges = list(zip(starts.tolist(), ends.tolist(), strict=True))
        clusters = torch.from_numpy(drawn)
        ptr = torch.from_numpy(np.concatenate([[0], (ends - starts).cumsum()]))
        rows = TakenRows(graph.adj, ranges)
        indptr, indices, positions = induced_subgraph(
            rows.indptr,
            rows.indices,
            clustered.cluster_of,
            torch.from_numpy(starts),
            torch.from_numpy(ends),
            clusters,
            self._window,
            with_positions=graph.carries_by_edge,
            row_base=rows.row_base,
            entry_base=rows.entry_base,
        )
        weight = rows.carried(graph.edge_weight, positions)
        adj = Adjacency(indptr, indices, weight, symmetric=graph.adj.symmetric)
        node_id = read_ranges(clustered.node_id, ranges)
        if self._train is None:
            train_mask = torch.zeros(node_id.numel(), dtype=torch.bool)
        else:
            train_mask = read_ranges(self._train, ranges)
        y = None if graph.y_level == "graph" else graph.y
        if y is not None:
            y = rows.carried(y, positions) if graph.y_level == "edge" else read_ranges(y, ranges)
        of_view = zip(self._in_view[drawn].tolist(), self._in_view[drawn + 1].tolist(), strict=True)
        return Batch(
            x=take_features(graph.x, ranges),
            y=y,
            adj=adj,
            train_mask=train_mask,
            train_index=train_mask.nonzero().squeeze(1),
            node_id=node_id,
            clusters=clusters,
            ptr=ptr,
            graph_ptr=None
            if self._graph_of is None
            else pointers_among(self._graph_of[drawn], ptr),
            edge_attr=rows.carried(graph.edge_attr, positions),
            edge_type=rows.carried(graph.edge_type, positions),
            node_type=None if graph.node_type is None else read_ranges(graph.node_type, ranges),
            first_hop=take_features(self._first_hop, list(of_view)),
            step_train_nodes=int(self._train_counts[drawn].sum()),
        )


def graphs_of_clusters(clustered: ClusteredGraph) -> Tensor | None:
    """The graph that each cluster is of, int64 `[num_parts]`; None where there is but one."""
    pointers = clustered.graph.node_ptr
    if pointers is None:
        return None
    return torch.searchsorted(pointers, clustered.offsets[:-1].contiguous(), right=True) - 1


def pointers_among(graph_of: Tensor, ptr: Tensor) -> Tensor:
    """Where the rows of each graph begin, of those that clusters `[num_clusters]` are of.

    Args:
        graph_of: the graph of each cluster, ascending.
        ptr: int64 `[num_clusters + 1]`: where each cluster's rows begin.
    """
    counts = torch.unique_consecutive(graph_of, return_counts=True)[1]
    return ptr[torch.cat([counts.new_zeros(1), counts.cumsum(0)])]


def take_features(x: Tensor | CSR | None, ranges: Ranges) -> Tensor | CSR | None:
    """The features of all ranges; those stored in half precision as float32."""
    if x is None:
        return None
    if isinstance(x, Tensor):
        rows = read_ranges(x, ranges)
        return rows.float() if rows.dtype in _HALF else rows
    if not is_mapped(x.indices):  # one pass, where slices cost as much as some hundred rows
        taken = x.select_rows(_ids_of(ranges))
        taken.t()  # the first layer's gradient reads the transpose: made here, off the main thread
        return taken
    parts = [slice_rows(x, start, stop) for start, stop in ranges]
    counts = torch.cat([part.indptr.diff() for part in parts])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    indices = torch.cat([part.indices for part in parts])
    values = [part.values for part in parts if part.values is not None]
    shape = (counts.numel(), x.shape[1])
    sparse = CSR(indptr, indices, torch.cat(values) if values else None, shape)
    sparse.t()  # as above
    return sparse


def _ids_of(ranges: Ranges) -> Tensor:
    """The rows `start` up to `stop` of all ranges, one after the other, int64."""
    bounds = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    counts = bounds[:, 1] - bounds[:, 0]
    ends = counts.cumsum()
    return torch.from_numpy(np.arange(counts.sum()) + np.repeat(bounds[:, 1] - ends, counts))


class TakenRows:
    """Row pointers and entries of some ranges of an adjacency, as `induced_subgraph` takes them.

    Attributes:
        indptr: int64, those of the ranges one after the other; all of them in memory.
        indices: likewise.
        row_base: int64 `[ranges]`: the pointer of node i of range k is `indptr[i - row_base[k]]`.
        entry_base: int64 `[ranges]`, the same for `indices`.
    """

    def __init__(self, a: CSR, ranges: Ranges) -> None:
        self._entries: Ranges | None = None
        self.indptr, self.indices = a.indptr, a.indices
        self.row_base = self.entry_base = torch.zeros(len(ranges), dtype=torch.int64)
        if not is_mapped(a.indices):
            return
        # A range of n rows has n + 1 pointers.
        self.indptr = read_ranges(a.indptr, [(start, stop + 1) for start, stop in ranges])
        sizes = torch.tensor([stop - start for start, stop in ranges])
        last = (sizes + 1).cumsum(0) - 1
        self.row_base = torch.tensor([start for start, _ in ranges]) - (last - sizes)
        low, high = self.indptr[last - sizes], self.indptr[last]
        self._entries = list(zip(low.tolist(), high.tolist(), strict=True))
        self.indices = read_ranges(a.indices, self._entries)
        self.entry_base = low - ((high - low).cumsum(0) - (high - low))

    def carried(self, values: Tensor | None, positions: Tensor | None) -> Tensor | None:
        """What edges carry, at positions among the entries taken."""
        if values is None:
            return None
        return (values if self._entries is None else read_ranges(values, self._entries))[positions]

"""What a graph holds, as a whole: its faults, and the fingerprints that tell it from others."""

from __future__ import annotations

import hashlib
import logging
from typing import Protocol

import torch
from torch import Tensor

from gnnscale.graph import checks
from gnnscale.graph.adjacency import Adjacency, row_blocks
from gnnscale.graph.reading.labels import TASKS
from gnnscale.graph.reading.nodes import PARTS, Split
from gnnscale.graph.times import cut_faults, time_faults
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import read_rows

logger = logging.getLogger(__name__)


class Contents(Protocol):
    """What of a `Graph` is checked and told by; see there."""

    adj: Adjacency
    x: Tensor | CSR | None
    y: Tensor | None
    y_level: str
    edge_attr: Tensor | None
    edge_type: Tensor | None
    node_type: Tensor | None
    edge_time: Tensor | None
    node_time: Tensor | None
    splits: dict[str, Split]
    node_ptr: Tensor | None
    task: str
    metric: str | None
    num_classes: int


# --- faults -------------------------------------------------------------------------------------


def faults(graph: Contents) -> list[str]:
    """Every fault of what a graph holds."""
    adj = graph.adj
    found = checks.csr_faults(adj, "adjacency")
    structure_ok = not found
    if adj.edge_weight is not None and checks.bad_rows(adj.edge_weight):
        found.append("edge_weight holds NaN or infinite values")
    if graph.edge_attr is not None:
        found += checks.edge_attr_faults(graph.edge_attr, adj.num_edges)
    types, times = (graph.edge_type, graph.node_type), (graph.edge_time, graph.node_time)
    counts = (("edge", adj.num_edges), ("node", adj.num_nodes))
    for (of, count), values in zip(counts, types, strict=True):
        if values is not None:
            found += checks.type_faults(f"{of}_type", values, count)
    for (of, count), values in zip(counts, times, strict=True):
        if values is not None:
            found += time_faults(f"{of}_time", values, count)
    if graph.x is not None:
        found += checks.feature_faults(graph.x, adj.num_nodes)
    if graph.node_ptr is not None and structure_ok:
        found += _node_ptr_faults(graph.node_ptr, adj)
    found += _label_faults(graph)
    for name, split in graph.splits.items():
        found += _split_faults(name, split, graph, otherwise_whole=not found)
    return found


def _node_ptr_faults(pointers: Tensor, adj: Adjacency) -> list[str]:
    if pointers.dim() != 1 or pointers.numel() < 2:
        return [f"node_ptr has shape {tuple(pointers.shape)}; it must be [num_graphs + 1]"]
    if int(pointers[0]) != 0 or int(pointers[-1]) != adj.num_nodes:
        return [f"node_ptr must run from 0 to the number of nodes, {adj.num_nodes}"]
    if int(pointers.diff().min()) < 0:
        return ["node_ptr decreases"]
    graph = torch.repeat_interleave(torch.arange(pointers.numel() - 1), pointers.diff())
    crossing = 0
    for start, _, rows in row_blocks(adj):
        target = graph[start + rows.row_index]
        crossing += int((target != graph[rows.indices.long()]).sum())
    return [f"{crossing} edges connect different graphs of node_ptr"] if crossing else []


def _label_faults(graph: Contents) -> list[str]:
    if graph.task not in TASKS:
        return [f"unknown task {graph.task!r}; there are {', '.join(TASKS)}"]
    if graph.y is None:
        return []
    graphs = 1 if graph.node_ptr is None else graph.node_ptr.numel() - 1
    rows = {"node": graph.adj.num_nodes, "edge": graph.adj.num_edges, "graph": graphs}
    level = graph.y_level
    if level not in rows:
        return [f"unknown y_level {level!r}; there are node, edge and graph"]
    return checks.label_faults(graph.y, graph.task, graph.num_classes, rows[level], level)


def _split_faults(name: str, split: Split, graph: Contents, otherwise_whole: bool) -> list[str]:
    """Faults of a split set; what is odd and no fault is a warning."""
    found = []
    for part in PARTS:
        mask = f"{part}_mask" if name == "default" else f"{name}/{part}"
        found += checks.mask_faults(mask, split[part], graph.adj.num_nodes)
    if found:
        return found
    for words in checks.overlaps(split.train, split.val, split.test):
        logger.warning("split %s: %s", name, words)
    if split.cuts is None or not otherwise_whole:
        return []
    return cut_faults(name, split.cuts, graph.node_time, split.train, split.val)


# --- fingerprints -------------------------------------------------------------------------------


_AT_ONCE = 1 << 18  # entries


class _Digest:
    """A hash of named values and arrays, read in blocks; the same whatever they lie in."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, key: str, value: object) -> None:
        """Add a value, by its repr."""
        self._hash.update(f"{key}={value!r};".encode())

    def add_array(self, array: Tensor | None) -> None:
        """Add an array, or that there is none."""
        if array is None:
            self._hash.update(b"none;")
            return
        narrow = array.dtype == torch.int32  # index width is a storage choice: hash as 64-bit
        self.add("int64" if narrow else str(array.dtype).removeprefix("torch."), tuple(array.shape))
        flat = array.detach().cpu().reshape(-1)
        for start in range(0, flat.numel(), _AT_ONCE):
            block = read_rows(flat, start, min(start + _AT_ONCE, flat.numel()))
            block = block.long() if narrow else block
            self._hash.update(block.contiguous().view(torch.uint8).numpy().data)

    def hex(self) -> str:
        """The hash of all that was added."""
        return self._hash.hexdigest()


def structure_fingerprint(graph: Contents) -> str:
    """A hash of structure and edge weights."""
    adj, digest = graph.adj, _Digest()
    digest.add("shape", tuple(adj.shape))
    for array in (adj.indptr, adj.indices, adj.values, graph.node_ptr):
        digest.add_array(array)
    return digest.hex()


def fingerprint(graph: Contents) -> str:
    """A hash of everything but name and source, and the nodes' names."""
    digest = _Digest()
    digest.add("structure", structure_fingerprint(graph))
    digest.add("task", (graph.task, graph.metric, graph.num_classes, graph.y_level))
    if isinstance(graph.x, CSR):
        digest.add("x", tuple(graph.x.shape))
        for array in (graph.x.indptr, graph.x.indices, graph.x.values):
            digest.add_array(array)
    else:
        digest.add_array(graph.x)
    digest.add_array(graph.y)
    digest.add_array(graph.edge_attr)
    for name, types in (("edge_type", graph.edge_type), ("node_type", graph.node_type)):
        if types is not None:  # a graph without any keeps the hash that it had before types
            digest.add("types", name)
            digest.add_array(types)
    for name, times in (("edge_time", graph.edge_time), ("node_time", graph.node_time)):
        if times is not None:
            digest.add("times", name)
            digest.add_array(times)
    for name, split in graph.splits.items():
        digest.add("split", name)
        for part in PARTS:
            digest.add_array(split[part])
        if split.cuts is not None:
            digest.add("cuts", tuple(map(float, split.cuts)))
    return digest.hex()

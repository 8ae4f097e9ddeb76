"""Arrays of all nodes and edges of a graph that a run has, and while it lays a graph out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.kernels import CSR
from gnnscale.partitioning.native.launch import estimated_peak, fitting_preset
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.memory import available_memory

_IDS = 17  # bytes a node of a batch: its id, whether it is trained on, and where
_WRITING = 512e6  # bytes that writing to files takes at most
_ORDERS = 36  # bytes a node while a graph is renumbered
# Of the partitioner's process: alone, and of what its resident memory is expected to grow by, which
# is estimated from above and has mapped files in it.
_WORKER, _ANONYMOUS = 16e6, 0.5
_CUT_NODE, _CUT_EDGE = 24, 8  # bytes while the structure is handed to a partitioner


def array_bytes(graph: Graph) -> float:
    """Bytes of all arrays of a graph, wherever they are."""
    return float(sum(array.nbytes for array in _arrays(graph)))


def _arrays(graph: Graph) -> Iterator[Tensor]:
    own = [graph.adj.indptr, graph.adj.indices, graph.adj.values, graph.y]
    own += [graph.edge_attr, graph.edge_type, graph.node_type]
    x = graph.x
    own += [x.indptr, x.indices, x.values] if isinstance(x, CSR) else [x]
    splits = (graph.splits[name] for name in graph.splits)
    masks = itertools.chain.from_iterable((s.train, s.val, s.test) for s in splits)
    return (array for array in (*own, *masks) if isinstance(array, Tensor))


def laid_out(graph: Graph, clustered: ClusteredGraph | None, files: bool) -> float:
    """Bytes that stay of a graph in clusters, beside those that were given."""
    of_nodes = 4.0 * graph.num_nodes  # the cluster of each
    if clustered is not None:
        return of_nodes
    of_nodes += 8 * graph.num_nodes  # what each was called
    return of_nodes if files else of_nodes + array_bytes(graph)


def storing(graph: Graph, *, files: bool) -> dict[str, float]:
    """Bytes while a graph is laid out, by part."""
    orders = float(_ORDERS * graph.num_nodes)
    if files:
        return {"nodes": orders, "workspace": min(_WRITING, 2 * array_bytes(graph))}
    carried = graph.carries_by_edge or graph.adj.values is not None
    return {
        "nodes": laid_out(graph, None, False),
        "workspace": orders + 12 * graph.num_edges * carried,
    }


def partitioning(graph: Graph, parts: int) -> dict[str, float]:
    """Bytes while a graph is partitioned by the native library, in a process of its own."""
    nodes, edges = graph.num_nodes, graph.num_edges
    preset = fitting_preset(nodes, edges, parts, available_memory())
    here = _CUT_NODE * nodes + _CUT_EDGE * edges
    if is_mapped(graph.adj.indices):
        here += 12 * edges
    grows = estimated_peak(preset, nodes, edges) - estimated_peak(preset, 0, 0)
    return {"worker": _WORKER + _ANONYMOUS * grows, "workspace": float(here)}


def copied(nodes: float) -> float:
    """Bytes of ids and masks of a batch."""
    return _IDS * nodes


def labels_of(graph: Graph, nodes: float) -> float:
    """Bytes of the labels, ids and masks of a batch."""
    y = graph.y
    row = 0 if y is None or not y.numel() else y[:1].nbytes
    return copied(nodes) + row * nodes

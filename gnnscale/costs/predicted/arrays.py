"""Arrays of all nodes and edges of a graph that a run has, and while it lays a graph out."""

from __future__ import annotations

from collections.abc import Callable

from gnnscale.costs.layout import array_bytes, moved_with_edges, partitioner_room
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.partitioning.dispatch import native_settings
from gnnscale.partitioning.native.launch import estimated_peak
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.memory import available_memory

_IDS = 17  # bytes a node of a batch: its id, whether it is trained on, and where
_WRITING = 512e6  # bytes that writing to files takes at most
_ORDERS = 36  # bytes a node while a graph is renumbered
# Of the partitioner's process: alone, and of what its resident memory is expected to grow by, which
# is estimated from above and has mapped files in it.
_WORKER, _ANONYMOUS = 16e6, 0.5
_CUT_NODE, _CUT_EDGE = 24, 8  # bytes while the structure is handed to a partitioner
_CUT_HERE = 48  # bytes a node of a partitioner in this process


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
    return {
        "nodes": laid_out(graph, None, False),
        "workspace": orders + moved_with_edges(graph),
    }


def partitioning(
    graph: Graph, seen: Graph, parts: int, method: str | Callable, memory: int | None, held: float
) -> dict[str, float]:
    """Bytes while a graph is partitioned, by the method that a trainer comes to.

    Args:
        graph: the whole graph.
        seen: what is cut of it.
        parts: that there will be.
        method: that was asked for.
        memory: the bound of a run, or None.
        held: bytes of it that are taken.
    """
    nodes, edges = seen.num_nodes, seen.num_edges
    room = available_memory()
    if memory is not None:
        room = partitioner_room(graph, memory, int(held))
    settings = native_settings(method, nodes, edges, parts, room)
    if settings is None:
        return {"workspace": float(_CUT_HERE * nodes)}
    here = _CUT_NODE * nodes + _CUT_EDGE * edges
    if is_mapped(seen.adj.indices):
        here += 12 * edges
    grows = estimated_peak(settings, nodes, edges) - estimated_peak(settings, 0, 0)
    return {"worker": _WORKER + _ANONYMOUS * grows, "workspace": float(here)}


def copied(nodes: float) -> float:
    """Bytes of ids and masks of a batch."""
    return _IDS * nodes


def labels_of(graph: Graph, nodes: float) -> float:
    """Bytes of the labels, ids and masks of a batch."""
    y = graph.y
    row = 0 if y is None or not y.numel() else y[:1].nbytes
    return copied(nodes) + row * nodes

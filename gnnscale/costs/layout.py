"""What laying a graph out by clusters takes, before anything is trained, and what stays of it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.memory import step_memory
from gnnscale.costs.counted.reading import costs_of, entries_of
from gnnscale.costs.passes import MARGIN
from gnnscale.errors import GnnscaleError, MemoryBound, RankFailure
from gnnscale.graph import Graph
from gnnscale.nn import LayeredGNN
from gnnscale.partitioning.native.launch import estimated_peak
from gnnscale.storage.memory import in_words, memory_bytes

# Bytes a node: of a streaming partitioner, of one that needs no edges, beside a native one; while a
# graph is renumbered; in the end, in memory and in files.
_STREAMED, _UNSEEN, _HANDED, _MOVED, _KEPT, _IN_FILES = 48, 32, 28, 44, 12, 4
_HANDED_EDGE, _MOVED_EDGE = 8, 12  # the latter where anything belongs to edges
_NATIVE = {"kaminpar": "terapart-largek", "metis": "metis"}
_WRITTEN = 16 << 20  # to files, at least


def all_fit(*checks: Callable[[], None]) -> None:
    """Run checks; of bounds that are too small, the one that would do for all is said.

    All are run, whatever comes of the first: ranks agree in them.

    Raises:
        MemoryBound: with what asks for most.
    """
    refused = []
    for check in checks:
        try:
            check()
        except MemoryBound as error:
            refused.append(error)
    if refused:
        raise max(refused, key=lambda error: error.needed)


def kept_of_layout(graph: Graph, files: bool) -> int:
    """Bytes in memory of a graph in clusters, beside the one that was given."""
    return (_IN_FILES if files else _KEPT) * graph.num_nodes + (0 if files else array_bytes(graph))


def partitioner_room(graph: Graph, bound: int, held: int) -> int:
    """Bytes of a bound that are left to a partitioner's own process."""
    return max(1, bound - held - _HANDED * graph.num_nodes - _HANDED_EDGE * graph.num_edges)


def check_layout(
    graph: Graph,
    parts: int,
    method: str | Callable,
    memory: int | str,
    held: int,
    *,
    files: bool,
) -> None:
    """Refuse what has no room while a graph is partitioned and laid out.

    Args:
        graph: the graph.
        parts: of it.
        method: of partitioning.
        memory: the bound.
        held: bytes of it that are taken.
        files: whether the clusters are written to files.

    Raises:
        MemoryBound: with the smallest bound that would do.
    """
    nodes, edges = graph.num_nodes, graph.num_edges
    partition = 0
    if parts > 1 and isinstance(method, str):
        if settings := _NATIVE.get(method):
            handed = _HANDED * nodes + _HANDED_EDGE * edges
            partition = handed + estimated_peak(settings, nodes, edges)
        else:
            partition = (_STREAMED if method in ("auto", "streaming") else _UNSEEN) * nodes
    if files:
        layout = _MOVED * nodes + 2 * _WRITTEN
        what = "laying a graph out by clusters, in files,"
        remedy = ""
    else:
        layout = array_bytes(graph) + _MOVED * nodes + moved_with_edges(graph)
        what = "laying a graph in memory out by clusters takes a copy of it, which with its order"
        remedy = (
            ", or a graph that is laid out in files: "
            "gnnscale.cluster(graph, gnnscale.partition(graph, …), path=…)"
        )
    if partition > layout:
        what, remedy = f"partitioning by method={method!r}", ", or another method"
    needed = held + max(partition, layout)
    if needed > memory_bytes(memory):
        raise MemoryBound(
            f"memory={memory!r}: {what} takes {in_words(needed)} with what the run holds; give "
            f"memory={in_words(needed)!r} or more{remedy}",
            needed,
        )


def check_mean_batch(
    model: LayeredGNN,
    graph: Graph,
    parts: int,
    clusters: int,
    memory: int | str,
    held: int,
) -> None:
    """Refuse, before a graph is partitioned, a step that has no room even without edges.

    Args:
        model: the model.
        graph: what is trained on.
        parts: that there will be.
        clusters: of a batch, at least.
        memory: the bound.
        held: bytes of it that are taken beside a step.

    Raises:
        MemoryBound: with a bound that would do, as far as is known before the parts are.
    """
    share = min(1.0, clusters / parts)
    try:
        assert graph.x is not None
        costs = costs_of(model, graph.x, graph.carried)
    except RankFailure:
        raise
    except GnnscaleError:  # said where a batch is run
        return
    sizes = Sizes(graph.num_nodes, graph.num_edges, entries=entries_of(graph)).share(share)
    bare = step_memory(costs, sizes._replace(edges=0.0), states=0).total
    if held + bare <= memory_bytes(memory):
        return
    most = sizes._replace(nodes=1.03 * sizes.nodes, transposed=sizes.edges)
    needed = held + int(MARGIN * step_memory(costs, most, states=0).total)
    raise MemoryBound(
        f"memory={memory!r}: a step on {clusters} of {parts} clusters takes up to "
        f"{in_words(needed)} with what the run holds; give memory={in_words(needed)!r} or more, or "
        "more and smaller clusters (num_parts)",
        needed,
    )


def moved_with_edges(graph: Graph) -> int:
    """Bytes that a graph's edges take while they move, where anything belongs to them."""
    carried = graph.carries_by_edge or graph.edge_time is not None
    return _MOVED_EDGE * graph.num_edges if carried else 0


def array_bytes(graph: Graph) -> int:
    """Bytes of all arrays of a graph that are copied, wherever they are."""
    x, adj = graph.x, graph.adj
    own = [adj.indptr, adj.indices, adj.values, graph.y, graph.node_type, graph.edge_attr]
    own += [graph.edge_type, graph.edge_time, graph.node_time]
    own += [x] if isinstance(x, Tensor) or x is None else [x.indptr, x.indices, x.values]
    for name in graph.splits:
        split = graph.splits[name]
        own += [split.train, split.val, split.test]
    return sum(value.nbytes for value in own if value is not None)

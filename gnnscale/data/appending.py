"""``gnnscale.append``: new nodes and edges for a clustered graph, without a new partition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gnnscale.choices import choices_checked
from gnnscale.data.kept import scratch_in
from gnnscale.data.tables.given import Tables
from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts, as_text
from gnnscale.data.tables.node_table import NodeArray, NodeTable
from gnnscale.data.tables.said import Told
from gnnscale.data.tables.values.classes import read_label_columns
from gnnscale.data.tables.values.recipe import FeatureRecipe
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, NodeNames, open_graph
from gnnscale.graph.store.cluster_folder import FORMAT, checked_store_path, store_meta
from gnnscale.graph.store.growth import Addition, check_growable, write_grown
from gnnscale.storage.array_folder import read_meta
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.memory import memory_bytes

logger = logging.getLogger(__name__)

_PAYS = 0.2
"""Share of nodes that came since the partition, from where a new one is advised; or, of the edges,
how many more are cut."""


@choices_checked
def append(
    store: ClusteredGraph | str | Path,
    edges: Any = None,
    nodes: Any = None,
    *,
    path: str | Path | None = None,
    joins: Literal["train", "val", "test"] | None = "train",
    undirected: bool | None = None,
    labels: str | int | Sequence[str] | None = None,
    id: str | int | None = None,
    source: str | int | None = None,
    target: str | int | None = None,
    weight: str | int | None = None,
    time: str | int | Sequence[str | int] | None = None,
    drop: str | int | Sequence[str | int] = (),
    sep: str | None = None,
    comment: str | None = None,
    header: bool | Sequence[str] | None = None,
    encoding: str | None = None,
    memory: int | str = "512MB",
) -> ClusteredGraph:
    """Add nodes and edges to a clustered graph on disk.

    Every new node joins the cluster that most of its neighbours are in; one without neighbours the
    smallest. Old nodes keep their numbers, clusters and order, and new ones are numbered behind
    them. The store is written anew in one pass, without a partition, and takes its place when it is
    whole. How many edges the clusters cut now is logged, and a hint where a new partition pays.

    A model that was trained on the graph scores the new nodes at once:
    `gs.load_run("runs/x", graph=grown)`, whose `predict(nodes)`, of a large graph and a model of
    fixed propagations, computes no rows but those that these depend on; `fit()` then goes on from
    its weights.

    Args:
        store: the clustered graph, or the folder that `cluster(…, path=…)` wrote.
        edges: new edges, between old and new nodes, as `from_edge_list` takes them.
        nodes: a table of the new nodes, with the columns that the graph's features were made of
            (the same recipe is applied), ids, and labels by the classes' names; an array of
            features where the graph's were an array. Without it, the graph has no features, and
            the new nodes are those that the edges name.
        path: another folder to write to.
        joins: the part of the split that new nodes with a label join; None for none.
        undirected: each edge is given once; without it, as the graph is.
        labels: the columns of labels; without it, that of the graph's own table.
        id: the column of ids; without it, likewise.
        source: see `from_edge_list`, as the others.
        target: see there.
        weight: see there.
        time: see there; without it, the columns that were times in the graph's own tables.
        drop: see there.
        sep: see there.
        comment: see there.
        header: see there.
        encoding: see there.
        memory: what reading the tables may take. Beside it: the new nodes and edges, 40 bytes for
            each old node, and names that are text.

    Returns:
        The graph that has grown, memory-mapped.

    Raises:
        InputError: an id is there already, or of no node; columns differ from those of the recipe;
            a class is new; or nothing can come to this graph.
        StoreError: the folder cannot be written.
    """
    clustered = store if isinstance(store, ClusteredGraph) else open_graph(store)
    if clustered.path is None and path is None:
        raise InputError("append: this graph is in memory; give path=, a folder to write it to")
    graph = clustered.graph
    check_growable(graph)
    if edges is None:
        edges = np.empty((2, 0), np.int64)
    schema = graph.schema
    told = Told(
        id=id if id is not None else next(iter(_columns(graph, "node id", nodes)), None),
        source=source,
        target=target,
        weight=weight,
        time=[] if time is None else [time] if isinstance(time, str | int) else list(time),
        times_before=[] if schema is None else schema.columns_of("time"),
        drop=[drop] if isinstance(drop, str | int) else list(drop),
        recipe=schema if schema is not None and schema.recipe is not None else None,
    )
    if labels is None:
        labels = _columns(graph, "label", nodes) or None
    dialect = {"sep": sep, "comment": comment, "header": header, "encoding": encoding}
    root = clustered.path if path is None else checked_store_path(path)
    assert root is not None
    with scratch_in(Path(root).resolve().parent) as scratch:
        tables = Tables(edges, nodes, labels, told=told, dialect=dialect, num_nodes=None)
        addition = _addition(clustered, tables, joins, undirected, memory_bytes(memory), scratch)
        tables.log()
    return _written(clustered, addition, Path(root))


def _addition(
    clustered: ClusteredGraph,
    tables: Tables,
    joins: str | None,
    undirected: bool | None,
    budget: int,
    scratch: Path,
) -> Addition:
    graph = clustered.graph
    rows = tables.rows
    names = None if graph.names is None else graph.names.take(clustered.position)
    ids, order = _ids(graph, names, tables, rows, budget)
    new = ids.num_nodes - graph.num_nodes
    x = _features(graph, tables, rows, scratch, new)
    y, known = _labels(graph, rows, new)
    chunks = list(tables.numbered(ids, "refuse"))
    source, target = (
        np.concatenate([np.empty(0, np.int64), *(chunk[k] for chunk in chunks)]) for k in (0, 1)
    )
    weight = _weights(graph, chunks, source.size)
    times = [time for *_, time in chunks if time is not None and tables.edges.clock is not None]
    when = _times(graph.edge_time, np.concatenate(times) if times else None, source.size, "edges")
    of_rows = rows.row_times() if isinstance(rows, NodeTable) else None
    known_when = _times(graph.node_time, of_rows, new, "nodes")
    if graph.adj.symmetric if undirected is None else undirected:
        one_way = source != target
        weight, when = (
            None if values is None else np.concatenate([values, values[one_way]])
            for values in (weight, when)
        )
        source, target = (
            np.concatenate([source, target[one_way]]),
            np.concatenate([target, source[one_way]]),
        )
    called = None
    if names is not None:
        assert ids.names is not None
        called = ids.names.take(torch.arange(graph.num_nodes, ids.num_nodes))
    return Addition(
        new,
        source,
        target,
        weight,
        when,
        None if known_when is None else known_when[order],
        None if x is None else x[order],
        None if y is None else y[order],
        called,
        joins,
        known[order],
    )


def _ids(
    graph: Graph,
    names: NodeNames | None,
    tables: Tables,
    rows: NodeTable | NodeArray | None,
    budget: int,
) -> tuple[NodeIds, np.ndarray]:
    """Whose each id is, old nodes first, and the row of each new node."""
    count, text = graph.num_nodes, names is not None and names.ids is None
    new: Any
    if isinstance(rows, NodeTable) and rows.id is not None:
        found = rows.node_ids(text, budget // 4)
        if isinstance(found, Numbers):
            new = np.arange(found.num_nodes) if rows.order is None else rows.order
        else:
            assert found.names is not None
            new = found.names.to_arrow() if text else found.names.to_arrow().to_numpy()
    elif rows is not None:
        if names is not None:
            raise InputError(
                f"{rows.what}: there is no column of ids, by which the nodes of "
                f"{graph.name} are called; name it, id="
            )
        new = count + np.arange(rows.num_rows)
    else:
        new = _named_by_edges(graph, names, tables)
    order = np.arange(len(new))
    if names is None:
        order = np.argsort(new)
        if not np.array_equal(new[order], count + np.arange(len(new))):
            raise InputError(
                f"the nodes of {graph.name} are called by their numbers, 0 to {count - 1:,}: give "
                f"new ones the numbers {count:,} to {count + len(new) - 1:,}, each once"
            )
        return Numbers(count + len(new), f"{graph.name} with the new nodes"), order
    known = names.to_arrow()
    again = compute.is_in(pyarrow.array(new).cast(known.type), value_set=known)
    if (already := compute.sum(again).as_py() or 0) > 0:
        first = pyarrow.array(new).filter(again)[0].as_py()
        raise InputError(
            f"{already:,} of {len(new):,} nodes are in {graph.name} already, {first!r} first: give "
            "rows of new nodes alone"
        )
    if text:
        return Texts(pyarrow.concat_arrays([known, as_text(new)])), order
    return Integers(np.concatenate([known.to_numpy(), new]), budget // 4), order


def _named_by_edges(graph: Graph, names: NodeNames | None, tables: Tables) -> Any:
    """The ids of edges that no node has: those of new ones, where nodes have no features."""
    text = names is not None and names.ids is None
    ends = [pyarrow.array(end) for chunk in tables.edges.chunks(text) for end in chunk[:2]]
    kind = pyarrow.large_string() if text else pyarrow.int64()
    found = compute.unique(pyarrow.chunked_array(ends, kind))
    known = pyarrow.array(np.arange(graph.num_nodes)) if names is None else names.to_arrow()
    new = found.filter(compute.invert(compute.is_in(found, value_set=known.cast(kind))))
    if len(new) and graph.x is not None:
        raise InputError(
            f"the edges name {len(new):,} nodes that {graph.name} does not have, "
            f"{new[0].as_py()!r} first: give a table of them, nodes=, with their features"
        )
    new = new.take(compute.sort_indices(new))
    return new if text else new.to_numpy()


def _features(
    graph: Graph, tables: Tables, rows: NodeTable | NodeArray | None, scratch: Path, new: int
) -> np.ndarray | None:
    if graph.x is None:
        return None
    assert isinstance(graph.x, torch.Tensor)
    width, kind = graph.x.size(1), torch.empty(0, dtype=graph.x.dtype).numpy().dtype
    if isinstance(rows, NodeTable):
        rows.order = None  # rows are placed by whoever asked for them
    known = None if graph.schema is None else graph.schema.recipe
    recipe = tables.recipe(None) if known is None else FeatureRecipe.from_json(known)
    blocks = tables.features(recipe, scratch)
    parts = [] if blocks is None or not new else list(blocks)
    x = np.concatenate([np.empty((0, width), kind), *parts]) if _fit(parts, width) else None
    if x is None or len(x) != new:
        found = sum(map(len, parts)), parts[0].shape[1] if parts else 0
        raise InputError(
            f"the new nodes have features [{found[0]}, {found[1]}]; {graph.name} wants "
            f"[{new}, {width}]: nodes="
        )
    return x.astype(kind, copy=False)


def _fit(parts: Sequence[np.ndarray], width: int) -> bool:
    return all(part.shape[1] == width for part in parts)


def _labels(
    graph: Graph, rows: NodeTable | NodeArray | None, new: int
) -> tuple[np.ndarray | None, np.ndarray]:
    if graph.y is None:
        return None, np.zeros(new, dtype=bool)
    shape = (new, *graph.y.shape[1:])
    kind = torch.empty(0, dtype=graph.y.dtype).numpy().dtype
    unknown = np.full(shape, np.nan if kind.kind == "f" else -1, kind)
    columns = rows.those("label") if isinstance(rows, NodeTable) else []
    if not isinstance(rows, NodeTable) or not columns:
        return unknown, np.zeros(new, dtype=bool)
    read = read_label_columns(rows.cells(columns), graph.task, graph.class_names, rows.what)
    if read.y.shape != shape:
        raise InputError(f"{rows.what}: labels are {[*read.y.shape]}; the graph's are {[*shape]}")
    given = read.y[read.known]
    if (
        graph.task == "classification"
        and given.size
        and not ((given >= 0) & (given < graph.num_classes) & (given == np.round(given))).all()
    ):
        raise InputError(
            f"{rows.what}: labels go from {given.min():g} to {given.max():g}; the classes of "
            f"{graph.name} are 0 to {graph.num_classes - 1}"
        )
    y = np.where(read.known, read.y, unknown).astype(kind)
    return y, np.asarray(read.known.reshape(new, -1).any(axis=1)) if new else np.zeros(0, bool)


def _weights(graph: Graph, chunks: Sequence[Any], count: int) -> np.ndarray | None:
    weighted = bool(chunks) and len(chunks[0]) > 2 and chunks[0][2] is not None
    if graph.edge_weight is None:
        if weighted:
            raise InputError(
                f"the new edges have weights, and those of {graph.name} have none: drop the column"
            )
        return None
    if count and not weighted:
        raise InputError(f"the edges of {graph.name} have weights: give those of the new ones")
    weight = np.concatenate([np.empty(0, np.float32), *(c[2] for c in chunks if c[2] is not None)])
    weight = weight.astype(np.float32)
    if not np.isfinite(weight).all():
        raise InputError("the new edges hold weights that are NaN or infinite")
    return weight


def _times(
    had: torch.Tensor | None, given: np.ndarray | None, count: int, what: str
) -> np.ndarray | None:
    """The times of new edges or nodes, of the type that the graph's are of; None where it has none.

    Raises:
        InputError: the graph has times, and what is new has none, or none of that type.
    """
    if had is None:
        return None
    if given is None and count:
        raise InputError(f"the {what} of the graph have times: give those of the new ones, time=")
    given = np.empty(0) if given is None else given
    kind = torch.empty(0, dtype=had.dtype).numpy().dtype
    if kind.kind == "i" and not (given == np.floor(given)).all():
        raise InputError(f"times of the {what} are whole numbers; those of the new ones are not")
    return given.astype(kind)


def _written(clustered: ClusteredGraph, addition: Addition, root: Path) -> ClusteredGraph:
    graph = clustered.graph
    own = {name: getattr(clustered, name) for name in ("node_id", "offsets", "train_ends")}
    about = (clustered.num_parts, clustered.split, clustered.method, clustered.seed)
    meta = store_meta(graph, *about)
    before: Mapping[str, Any] = {}
    if clustered.path is not None:
        before = read_meta(clustered.path, FORMAT).get("grown") or {}
    symmetric = graph.adj.symmetric and _both_ways(addition)
    added = before.get("nodes", 0) + addition.num_nodes
    meta |= {"symmetric": symmetric, "grown": {"nodes": added}}
    grown = write_grown(graph, own, clustered.split, addition, root, meta)
    _tell(graph, addition, grown.clusters, (grown.cut_before, grown.cut), added, grown.repeated)
    return open_graph(root)


def _both_ways(addition: Addition) -> bool:
    """Whether every new edge has its reverse, of the same weight."""
    values = [] if addition.weight is None else [addition.weight]
    there = np.stack([addition.source, addition.target, *values])
    back = np.stack([addition.target, addition.source, *values])
    return bool(np.array_equal(there[:, np.lexsort(there)], back[:, np.lexsort(back)]))


def _tell(
    graph: Graph,
    addition: Addition,
    clusters: np.ndarray,
    cut: tuple[float, float],
    added: int,
    repeated: int,
) -> None:
    logger.info(
        "%s: %d new nodes in %d clusters and %d new edges; %.4f of the edges join two clusters, "
        "%.4f before",
        graph.name,
        addition.num_nodes,
        np.unique(clusters).size,
        addition.source.size,
        cut[1],
        cut[0],
    )
    if repeated:
        logger.warning("%s: %d of the new edges were there already", graph.name, repeated)
    nodes = graph.num_nodes + addition.num_nodes
    if added > _PAYS * nodes or cut[1] > (1 + _PAYS) * cut[0] + 0.01:
        logger.warning(
            "%s: %d of %d nodes came since it was partitioned, and %.1f %% of the edges are cut: "
            "a new partition pays: gnnscale.cluster(g, gnnscale.partition(g, …), path=…) with "
            "g = clustered.original()",
            graph.name,
            added,
            nodes,
            100 * cut[1],
        )


def _columns(graph: Graph, role: str, nodes: object) -> list[str]:
    """The columns that were this in the graph's own tables, where new nodes have a table."""
    has_table = nodes is not None and not isinstance(nodes, np.ndarray | torch.Tensor)
    return graph.schema.columns_of(role) if graph.schema is not None and has_table else []

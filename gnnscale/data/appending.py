"""``gnnscale.append``: new nodes and edges for a clustered graph, without a new partition."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from gnnscale.choices import choices_checked
from gnnscale.data.additions import read_addition
from gnnscale.data.kept import scratch_in
from gnnscale.data.new_features import read_sparse
from gnnscale.data.tables.given import Tables
from gnnscale.data.tables.said import Told, listed
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, open_graph
from gnnscale.graph.store.cluster_folder import FORMAT, checked_store_path, store_meta
from gnnscale.graph.store.growth import Addition, check_growable, write_grown
from gnnscale.storage.array_folder import read_meta
from gnnscale.storage.files import check_writable
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
    drop: str | int | Sequence[str | int] | Mapping[str, Any] = (),
    sep: str | Mapping[str, str] | None = None,
    comment: str | Mapping[str, str] | None = None,
    header: bool | Sequence[str] | Mapping[str, bool | Sequence[str]] | None = None,
    encoding: str | Mapping[str, str] | None = None,
    decimal: str | Mapping[str, str] | None = None,
    edge_attr: Any = None,
    edge_type: Any = None,
    node_type: Any = None,
    parallel: bool = False,
    memory: int | str = "512MB",
    after: Callable[[Growth], None] | None = None,
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
            features where the graph's were an array, or a sparse matrix of SciPy or torch (an
            `.npz` of SciPy's too). Without it, the graph has no features, and the new nodes are
            those that the edges name.
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
        decimal: see there.
        edge_attr: of a graph that has them: `[edges]` or `[edges, width]`, a row for each of
            `edges`, in an array or an `.npy`. The reverse of an edge has the same.
        edge_type: likewise, integers `[edges]`.
        node_type: of a graph that has them: integers, one a row of `nodes`.
        parallel: add edges that are all there already, with the same values, beside those. Without
            it, such a call is taken for a second run of the first, and refused.
        memory: what reading the tables may take. Beside it: the new nodes and edges, 40 bytes for
            each old node, and names that are text.
        after: is told how the graph has grown, which is logged without it.

    Returns:
        The graph that has grown, memory-mapped.

    Raises:
        InputError: an id is there already, or of no node; columns differ from those of the recipe;
            a class is new; all edges are there already; or nothing can come to this graph.
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
        time=listed([] if time is None else time),
        times_before=[] if schema is None else schema.columns_of("time"),
        drop=drop if isinstance(drop, Mapping) else listed(drop),
        recipe=schema if schema is not None and schema.recipe is not None else None,
    )
    if labels is None:
        labels = _columns(graph, "label", nodes) or None
    dialect = {
        "sep": sep,
        "comment": comment,
        "header": header,
        "encoding": encoding,
        "decimal": decimal,
    }
    root = clustered.path if path is None else checked_store_path(path)
    assert root is not None
    check_writable(root, f"the store {root}")
    matrix = read_sparse(nodes)
    if matrix is not None:
        nodes = np.empty((matrix.shape[0], 0), np.float32)  # a row for each, to be numbered
    own = {"edge_attr": edge_attr, "edge_type": edge_type, "node_type": node_type}
    with scratch_in(Path(root).resolve().parent) as scratch:
        tables = Tables(edges, nodes, labels, told=told, dialect=dialect, num_nodes=None)
        addition = read_addition(
            clustered, tables, matrix, own, joins, undirected, memory_bytes(memory), scratch
        )
        tables.log()
    grown, growth = _written(clustered, addition, Path(root), parallel)
    (after or functools.partial(_log, graph.name))(growth)
    return grown


@dataclass(frozen=True)
class Growth:
    """How a graph has grown.

    Attributes:
        nodes: that have come.
        edges: likewise, each way of an undirected one.
        clusters: that new nodes have joined.
        cut_before: the share of the old edges that join two clusters.
        cut: that of all edges.
        repeated: new edges that were there already, with all their values.
        since: the nodes that have come since the partition was made.
        num_nodes: of the graph now.
    """

    nodes: int
    edges: int
    clusters: int
    cut_before: float
    cut: float
    repeated: int
    since: int
    num_nodes: int

    def words(self) -> list[str]:
        """What has come, and how good the clusters are."""
        nodes = f"{self.nodes:,} new node{'s' * (self.nodes != 1)}"
        where = f" in {self.clusters:,} cluster{'s' * (self.clusters != 1)}" if self.nodes else ""
        edges = f"{self.edges:,} new directed edge{'s' * (self.edges != 1)}"
        again = f", {self.repeated:,} of them there already" if self.repeated else ""
        return [
            f"{nodes}{where} and {edges}{again}",
            f"{self.cut:.4f} of the edges join two clusters, {self.cut_before:.4f} before",
        ]

    @property
    def hint(self) -> str | None:
        """Where a new partition pays; None where it does not yet."""
        cut_more = self.cut > (1 + _PAYS) * self.cut_before + 0.01
        if self.since <= _PAYS * self.num_nodes and not cut_more:
            return None
        return (
            f"{self.since:,} of {self.num_nodes:,} nodes came since it was partitioned, and "
            f"{self.cut:.1%} of the edges are cut: a new partition pays"
        )


def _log(name: str, growth: Growth) -> None:
    for text in growth.words():
        (logger.warning if growth.repeated else logger.info)("%s: %s", name, text)
    if growth.hint is not None:
        logger.warning(
            "%s: %s: gnnscale.cluster(g, gnnscale.partition(g, …), path=…), of "
            "g = clustered.original()",
            name,
            growth.hint,
        )


def _written(
    clustered: ClusteredGraph, addition: Addition, root: Path, parallel: bool
) -> tuple[ClusteredGraph, Growth]:
    graph = clustered.graph
    own = {name: getattr(clustered, name) for name in ("node_id", "offsets", "train_ends")}
    about = (clustered.num_parts, clustered.split, clustered.method, clustered.seed)
    meta = store_meta(graph, *about)
    before: Mapping[str, Any] = {}
    if clustered.path is not None:
        before = read_meta(clustered.path, FORMAT).get("grown") or {}
    symmetric = graph.adj.symmetric and _both_ways(addition)
    since = before.get("nodes", 0) + addition.num_nodes
    meta |= {"symmetric": symmetric, "grown": {"nodes": since}}
    grown = write_grown(graph, own, clustered.split, addition, root, meta, again=parallel)
    growth = Growth(
        addition.num_nodes,
        addition.source.size,
        np.unique(grown.clusters).size,
        grown.cut_before,
        grown.cut,
        grown.repeated,
        since,
        graph.num_nodes + addition.num_nodes,
    )
    return open_graph(root), growth


def _both_ways(addition: Addition) -> bool:
    """Whether every new edge has its reverse, of the same weight."""
    weight = addition.of_edges.get("edge_weight")
    values = [] if weight is None else [weight]
    there = np.stack([addition.source, addition.target, *values])
    back = np.stack([addition.target, addition.source, *values])
    return bool(np.array_equal(there[:, np.lexsort(there)], back[:, np.lexsort(back)]))


def _columns(graph: Graph, role: str, nodes: object) -> list[str]:
    """The columns that were this in the graph's own tables, where new nodes have a table."""
    has_table = nodes is not None and not isinstance(nodes, np.ndarray | torch.Tensor)
    return graph.schema.columns_of(role) if graph.schema is not None and has_table else []

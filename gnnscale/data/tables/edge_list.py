"""``gnnscale.from_edge_list``: a graph from a user's own files, of any size and with any ids.

The files are read in a stream, the edges once to see which nodes there are (unless something else
says so) and once to build the graph. What nodes are called decides how they are numbered:

=============================  ====================================================================
features in a table with ids   in the order of that table; every node has a row in it
``num_nodes``, or features or  ids are numbers from 0 to ``num_nodes`` − 1, also of nodes without
labels in order                edges, and kept as they are
integers without gaps from 0   kept as they are
other integers                 ascending
text                           ascending by its bytes
=============================  ====================================================================

Text that looks like whole numbers is taken for integers (``007`` is 7), unless there is other text
among it; a Parquet file has types of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.choices import choices_checked
from gnnscale.data.kept import open_kept, scratch_in, told_apart
from gnnscale.data.tables.edge_table import EdgeTable
from gnnscale.data.tables.node_ids import Integers, NodeIds, Numbers, Texts, all_integers, all_texts
from gnnscale.data.tables.node_table import NodeTable
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph, build_graph, open_stored_graph
from gnnscale.graph.adjacency import Adjacency
from gnnscale.graph.reading.nodes import read_parts
from gnnscale.kernels import CSR
from gnnscale.storage.files import cache_root, checked_path, expanded
from gnnscale.storage.mapped import loaded
from gnnscale.storage.memory import memory_bytes

logger = logging.getLogger(__name__)

IN_MEMORY = 1 << 30
"""Bytes of a graph, as it is stored, above which it stays on disk where no path is given."""
VERSION = 2
"""Raised when the same files give another graph: what is kept is then built anew."""


@choices_checked
def from_edge_list(
    edges: str | Path,
    *,
    source: str | None = None,
    target: str | None = None,
    weight: str | None = None,
    features: Any = None,
    labels: Any = None,
    splits: Mapping[str, Mapping[str, Any]] | None = None,
    id_column: str | None = None,
    num_nodes: int | None = None,
    path: str | Path | None = None,
    undirected: bool = True,
    coalesce: bool = False,
    memory: int | str = "512MB",
    task: str | None = None,
    metric: str | None = None,
    num_classes: int | None = None,
    name: str | None = None,
) -> Graph:
    r"""Build a graph from a file of edges, which may be larger than memory.

    Args:
        edges: an `.npy` of integers `[2, num_edges]` or `[num_edges, 2]`; or a table, `.parquet`,
            `.csv`, `.tsv` or `.txt` (separated by white space; lines that begin with "#" are
            comments), the last three also `.gz`, `.zst`, `.bz2` or `.lz4`. Whether a text has a
            header is seen by its first rows, or said by naming columns.
        source: the column of sources; without it one called source, src, from, … or the first.
        target: the column of targets; without it one called target, dst, to, … or the second.
        weight: the column of weights; without it one called weight, or the third of a text without
            a header.
        features: an array `[num_nodes, num_features]`, an `.npy`, or a table whose other columns
            are features: numbers, or one column of lists.
        labels: an array with a row a node, an `.npy`, a table with ids, or the name of a column in
            the table of features. Nodes that a table leaves out are unlabelled.
        splits: `{"default": {"train": …, "val": …, "test": …}}`, each a mask in the order of
            the nodes, or ids as the file of edges has them.
        id_column: what the column of ids is called in tables of features and labels; without it one
            called id, node_id, node or name. Tables without one are in the order of the nodes.
        num_nodes: says that ids are numbers below it.
        path: the folder to store the graph in. Without it, the graph is in memory, or, where it
            takes more than a GB (`IN_MEMORY`), in `$GNNSCALE_CACHE/graphs`, where the same call
            opens it again until a file changes.
        undirected: each edge is given once; the reverse of every edge but self-loops is added.
        coalesce: merge parallel edges, adding their weights.
        memory: what sorting edges and integer ids may take, as "512MB" or a number of bytes. Beside
            it: 24 bytes a node, labels and masks; names that are text, three times for a moment,
            and 16 bytes for each;
            and what is read ahead of a file, dozens of blocks of 4 MB of a text.
        task: as for `Graph.from_arrays`.
        metric: as for `Graph.from_arrays`.
        num_classes: as for `Graph.from_arrays`.
        name: what to call it in reports; the file's name without it.

    Returns:
        The graph. Where ids are not kept, its `names` tells what nodes are called: `names[nodes]`,
        `names.find(ids)`; it is stored with the graph.

    Raises:
        InputError: a column is missing, ids do not fit, an id has no features, ….
        StoreError: a file is missing or damaged, or the disk is full.

    Example:
        >>> from pathlib import Path
        >>> written = Path("people.csv").write_text("from,to\nann,bob\nbob,cid\n")
        >>> graph = from_edge_list("people.csv")
        >>> graph.names[[0, 2]].tolist(), graph.names.find(["bob"]).tolist()
        (['ann', 'cid'], [1])
        >>> Path("people.csv").unlink()
    """
    arguments = {**locals(), "memory": None, "path": None}  # what the graph depends on
    budget = memory_bytes(memory)
    edges = expanded(edges)
    table = EdgeTable(edges, source, target, weight)
    rows = NodeTable.of(features, "features", id_column)
    apart = None
    if isinstance(labels, str) and rows is not None and labels in rows.columns:
        rows = rows.without(labels)
    elif labels is not None:
        apart = NodeTable.of(labels, "labels", id_column)
    kept = _kept(edges, arguments) if path is None else None
    if kept is not None and (graph := open_kept(kept)) is not None:
        return graph
    root = checked_path(path).resolve() if kept is None else kept
    with scratch_in(root.parent) as scratch:
        ids = _node_ids(table, rows, apart, num_nodes, budget, scratch)
        y = None
        if rows is not None and rows.label is not None:
            y = rows.labels(task)
        elif apart is not None:
            y = apart.labels_of(ids, task)
        graph = build_graph(
            root if kept is None else scratch / "graph",
            ids.num_nodes,
            _numbered(table, ids),
            x=None if rows is None else rows.features(),
            y=y,
            splits=_splits(splits, ids),
            undirected=undirected,
            coalesce=coalesce,
            memory=budget,
            task=task,
            metric=metric,
            num_classes=num_classes,
            name=edges.name.split(".")[0] if name is None else name,
            source=None if kept is None else str(kept),
            names=ids.names,
        )
        return graph if kept is None else _placed(graph, scratch / "graph", kept)


def _node_ids(
    table: EdgeTable,
    rows: NodeTable | None,
    labels: NodeTable | None,
    num_nodes: int | None,
    budget: int,
    scratch: Path,
) -> NodeIds:
    if rows is not None and rows.id_column is not None:
        if num_nodes is not None:
            raise InputError(f"num_nodes={num_nodes}: {rows.what} with ids say how many there are")
        return rows.node_ids(budget // 4)
    for given in (rows, labels):
        if given is None or given.id_column is not None:
            continue
        if num_nodes is not None and given.num_rows != num_nodes:
            raise InputError(f"{given.what} has {given.num_rows:,} rows for {num_nodes:,} nodes")
        return Numbers(given.num_rows, f"the order of {given.what}, without a column of ids,")
    if num_nodes is not None:
        return Numbers(num_nodes, f"num_nodes={num_nodes}")
    if not table.is_text():
        try:
            both = (np.concatenate(chunk[:2]) for chunk in table.chunks(text=False))
            found = all_integers(both, budget, scratch)
        except StoreError:
            if not table.may_be_text:
                raise
            logger.info("%s: not all ids are integers; they are read as text", table.path)
        else:
            plain = not found.size or (found[0] == 0 and found[-1] == found.size - 1)
            return Numbers(found.size, "the edges") if plain else Integers(found, budget // 4)
    return Texts(all_texts(ids for chunk in table.chunks(text=True) for ids in chunk[:2]))


def _numbered(table: EdgeTable, ids: NodeIds) -> Iterator[tuple[np.ndarray, ...]]:
    text = isinstance(ids, Texts)
    if not text and table.is_text():
        raise InputError(f"{table.path}: source and target are text, and nodes integers")
    for source, target, *weight in table.chunks(text=text):
        found = ids.find(source, f"{table.path}: source"), ids.find(target, f"{table.path}: target")
        yield (*found, *weight)


def _splits(
    splits: Mapping[str, Mapping[str, object]] | None, ids: NodeIds
) -> dict[str, dict[str, Any]] | None:
    if splits is None:
        return None
    return {
        name: dict(read_parts(parts, ids.num_nodes, f"split {name}/", find=ids.find))
        for name, parts in splits.items()
    }


def _kept(edges: Path, arguments: Mapping[str, object]) -> Path:
    """Where a large graph is kept: by its files, arrays and options."""
    digest = hashlib.sha256(json.dumps([VERSION, told_apart(arguments)]).encode()).hexdigest()[:32]
    return cache_root() / "graphs" / f"{edges.name.split('.')[0]}-{digest}"


def _placed(graph: Graph, built: Path, kept: Path) -> Graph:
    """The graph that was built in `built`: in memory, or, where it is large, at `kept`."""
    size = sum(file.stat().st_size for file in built.iterdir())
    if size <= IN_MEMORY:
        return _in_memory(graph)
    logger.info("the graph takes %d bytes and stays on disk, at %s", size, kept)
    with contextlib.suppress(OSError):  # another process has built the same meanwhile
        built.rename(kept)
    return open_stored_graph(kept)


def _in_memory(graph: Graph) -> Graph:
    adj, x = graph.adj, graph.x
    weight = None if adj.values is None else loaded(adj.values)
    return dataclasses.replace(
        graph,
        adj=Adjacency(loaded(adj.indptr), loaded(adj.indices), weight, symmetric=adj.symmetric),
        x=None if x is None or isinstance(x, CSR) else loaded(x),
        y=None if graph.y is None else loaded(graph.y),
        splits={name: split.each(loaded) for name, split in graph.splits.items()},
        names=None if graph.names is None else graph.names.loaded(),
        source=None,  # of this graph nothing is left but what is in memory
    )

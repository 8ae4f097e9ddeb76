"""Nodes, edges and graphs that tables call by their ids, numbered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from gnnscale.data.formats.dgl.rows import Rows
from gnnscale.data.formats.dgl.typed import Triple, Typed
from gnnscale.data.tables.column import kind_of
from gnnscale.errors import InputError
from gnnscale.graph.names import NodeNames
from gnnscale.storage.arrow import compute, pyarrow


def graph_ids(graphs: Rows | None, nodes: Mapping[str, Rows]) -> pyarrow.Array:
    """The ids of graphs: in the order of their file, else ascending; one where there are none."""
    if graphs is not None:
        ids = graphs.ids["graph_id"].combine_chunks()
        if len(ids.unique()) < len(ids):
            raise InputError(f"{graphs.what}: an id of a graph is there twice")
        return ids
    found = [rows.ids["graph_id"] for rows in nodes.values() if "graph_id" in rows.ids]
    if not found:
        return pyarrow.array([0])
    return _ascending(pyarrow.chunked_array([c for column in found for c in column.chunks]))


def _ascending(ids: pyarrow.ChunkedArray) -> pyarrow.Array:
    known = ids.unique()
    return known.take(compute.sort_indices(known))


def _graph_of(rows: Rows, order: pyarrow.Array) -> np.ndarray:
    """Which graph each row is of."""
    if "graph_id" not in rows.ids:
        return np.zeros(len(next(iter(rows.ids.values()))), np.int64)
    return _found(rows.ids["graph_id"], order, f"{rows.what}: graph_id", "no graph")


def _found(ids: pyarrow.ChunkedArray, known: pyarrow.Array, what: str, of: str) -> np.ndarray:
    """The places of ids among known ones."""
    try:
        found = compute.index_in(ids.cast(known.type), value_set=known)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{what} is {ids.type}, where ids are {known.type}: {error}") from error
    if found.null_count:
        first = ids.filter(found.is_null())[0].as_py()
        raise InputError(f"{what}: {found.null_count:,} ids are of {of}; the first: {first!r}")
    return np.array(found.to_numpy()).astype(np.int64)


@dataclass(frozen=True)
class Nodes:
    """The nodes of a type, graph by graph, in the order of their ids.

    Attributes:
        ids: all that there are, ascending.
        keys: of each node, ascending: its graph times the number of ids, and the place of its id.
        rows: where it is in the file.
    """

    ids: pyarrow.Array
    keys: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, nodes: Rows, order: pyarrow.Array) -> Nodes:
        """The nodes of a table.

        Args:
            nodes: the table.
            order: the ids of graphs.

        Raises:
            InputError: a node has no id, or one that another of its graph has.
        """
        column = nodes.ids["node_id"]
        if column.null_count:
            raise InputError(f"{nodes.what}: {column.null_count:,} nodes have no id")
        ids = _ascending(column)
        place = _found(column, ids, nodes.what, "no node")
        keys = _graph_of(nodes, order) * len(ids) + place
        rows = np.argsort(keys, kind="stable")
        if (np.diff(keys[rows]) == 0).any():
            at = int((np.diff(keys[rows]) == 0).argmax())
            again = ids[int(place[rows[at]])].as_py()
            raise InputError(f"{nodes.what}: node {again!r} is there twice in one graph")
        return cls(ids, keys[rows], rows)

    def bounds(self, graphs: int) -> np.ndarray:
        """Where the nodes of each graph begin, and where the last end."""
        return np.searchsorted(self.keys, np.arange(graphs + 1) * len(self.ids))

    def find(self, ids: pyarrow.ChunkedArray, graph: np.ndarray, what: str) -> np.ndarray:
        """The nodes of ids, numbered within their graphs."""
        keys = graph * len(self.ids) + _found(ids, self.ids, what, "no node")
        at = np.searchsorted(self.keys, keys).clip(max=max(len(self.keys) - 1, 0))
        wrong = self.keys[at] != keys
        if wrong.any():
            first = ids[int(wrong.argmax())].as_py()
            raise InputError(
                f"{what}: {int(wrong.sum()):,} ids are of no node of their graph; the first: "
                f"{first!r}"
            )
        return at - np.searchsorted(self.keys, graph * len(self.ids))

    def names(self) -> NodeNames | None:
        """What the nodes of a single graph are called; None where that is their numbers."""
        if kind_of(self.ids.type) != "integer":
            return NodeNames.from_arrow(self.ids)
        ids = np.array(self.ids.to_numpy()).astype(np.int64)
        return None if (ids == np.arange(ids.size)).all() else NodeNames(torch.from_numpy(ids))


def typed_by_id(
    order: pyarrow.Array,
    nodes: Mapping[str, Rows],
    numbered: Mapping[str, Nodes],
    edges: Mapping[Triple, Rows],
) -> list[Typed]:
    """The graphs of tables, one after the other.

    Args:
        order: the ids of graphs.
        nodes: the tables of nodes by type.
        numbered: the nodes of these.
        edges: the tables of edges by type.

    Raises:
        InputError: an edge is of a node or graph that there is not.
    """
    count = len(order)
    node_bounds = {kind: found.bounds(count) for kind, found in numbered.items()}
    node_arrays = {
        kind: {name: array[found.rows] for name, array in nodes[kind].arrays.items()}
        for kind, found in numbered.items()
    }
    edge_bounds, ends, edge_arrays = {}, {}, {}
    for triple, rows in edges.items():
        graph = _graph_of(rows, order)
        both = [
            numbered[kind].find(rows.ids[key], graph, f"{rows.what}: {key}")
            for kind, key in ((triple[0], "src_id"), (triple[2], "dst_id"))
        ]
        place = np.argsort(graph, kind="stable")
        edge_bounds[triple] = np.searchsorted(graph[place], np.arange(count + 1))
        ends[triple] = np.stack(both)[:, place]
        edge_arrays[triple] = {name: array[place] for name, array in rows.arrays.items()}

    def graph_at(i: int) -> Typed:
        n = {kind: slice(*bounds[i : i + 2]) for kind, bounds in node_bounds.items()}
        e = {triple: slice(*bounds[i : i + 2]) for triple, bounds in edge_bounds.items()}
        return Typed(
            {kind: int(rows.stop - rows.start) for kind, rows in n.items()},
            {triple: ends[triple][:, rows] for triple, rows in e.items()},
            {k: {name: a[n[k]] for name, a in own.items()} for k, own in node_arrays.items()},
            {t: {name: a[e[t]] for name, a in own.items()} for t, own in edge_arrays.items()},
        )

    return [graph_at(i) for i in range(count)]

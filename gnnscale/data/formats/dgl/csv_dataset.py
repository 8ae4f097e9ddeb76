"""Folders of ``dgl.data.CSVDataset``: ``meta.yaml``, which names CSV files of nodes, edges, graphs.

As DGL reads them: nodes are numbered in ascending order of their ids within a graph, lists of
numbers stand in quotes ("0.1, 0.2"), and columns without a name are row numbers. Beyond it, ids
stay as `Graph.names`, and labels may be text, whose classes keep their names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.description import entries, read_description, wanted
from gnnscale.data.formats.dgl.roles import roles_of
from gnnscale.data.formats.dgl.typed import DGL_OPTIONS, Triple, Typed, arrays_of
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.classes import read_label_columns
from gnnscale.data.tables.column import kind_of
from gnnscale.data.tables.table import open_table
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import compute, pyarrow

logger = logging.getLogger(__name__)

_FILE = "meta.yaml"
_NODE, _EDGE = "_V", ("_V", "_E", "_V")  # what DGL calls types without a name


def _recognises(path: Path) -> bool:
    return _FILE in seen.files(path)


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    about = read_description(path / _FILE)
    if str(about.get("version", "1.0.0")) != "1.0.0":
        raise InputError(f"{path / _FILE} is of version {about['version']}; 1.0.0 is read")
    options = {"name": str(about.get("dataset_name") or path.name), **given}
    folder = _Folder(path, str(about.get("separator") or ","), options.get("labels"))
    nodes = {
        str(entry.get("ntype") or _NODE): folder.file(entry, {"graph_id": False, "node_id": True})
        for entry in entries(about, "node_data", path / _FILE)
    }
    edges = {
        _triple(entry): folder.file(entry, {"graph_id": False, "src_id": True, "dst_id": True})
        for entry in entries(about, "edge_data", path / _FILE)
    }
    graphs = [
        folder.file(entry, {"graph_id": True})
        for entry in entries(about, "graph_data", path / _FILE)
    ]
    if not nodes:
        raise InputError(f"{path / _FILE} names no node_data")
    if unknown := [t for t in edges for kind in (t[0], t[2]) if kind not in nodes]:
        raise InputError(f"{path / _FILE}: edges {unknown[0]} are between nodes that are not there")
    order = _graph_ids(graphs[0] if graphs else None, nodes)
    numbered = {kind: _Nodes.of(rows, order, kind) for kind, rows in sorted(nodes.items())}
    typed = _typed(order, nodes, numbered, dict(sorted(edges.items())))
    try:
        arrays = arrays_of(typed, options, graphs[0].arrays if graphs else None)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    names = None
    if len(order) == len(nodes) == 1:
        names = next(iter(numbered.values())).names()
    graph = graph_of(arrays, path, options, names=names)
    if folder.classes is not None and graph.task == "classification":
        graph.schema = Schema(classes=folder.classes)
    return graph


def _triple(entry: dict[str, Any]) -> Triple:
    found = entry.get("etype") or _EDGE
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise InputError(f"{entry!r}: etype must be [source, edge, target]")
    return str(found[0]), str(found[1]), str(found[2])


class _Rows(NamedTuple):
    """A file: its ids, as columns of Arrow's, and the others as arrays."""

    what: str
    ids: dict[str, pyarrow.ChunkedArray]
    arrays: dict[str, np.ndarray]


class _Folder:
    """The files of a folder; what text labels are called is kept.

    Attributes:
        classes: the names of classes, where the labels were text.
    """

    def __init__(self, path: Path, separator: str, labels: str | None) -> None:
        self._path, self._separator, self._labels = path, separator, labels
        self.classes: tuple[str, ...] | None = None

    def file(self, entry: dict[str, Any], ids: Mapping[str, bool]) -> _Rows:
        """Read a file that `meta.yaml` names.

        Args:
            entry: what it says of it.
            ids: columns of ids as DGL calls them by default, and whether they must be there.
        """
        file = self._path / wanted(entry, "file_name", self._path / _FILE)
        table = open_table(file, str(file), sep=self._separator, header=True)
        columns = [c for c in table.columns if not c.row_number and "Unnamed" not in c.name]
        names = {c.name for c in columns}
        called = {key: str(entry.get(f"{key}_field") or key) for key in ids}
        if missing := [
            called[key] for key, must in ids.items() if must and called[key] not in names
        ]:
            raise InputError(
                f"{file} has no column {', '.join(missing)}; there are {', '.join(sorted(names))}. "
                f"Another name is said in {_FILE}, as {next(iter(ids))}_field"
            )
        batches = [*table.batches([c.name for c in columns])]
        read = pyarrow.Table.from_batches(batches) if batches else table.sample(0)
        others = [c.name for c in columns if c.name not in called.values()]
        label = self._labels if self._labels in others else None
        label = roles_of(others, "graphs", labels=label).label
        arrays = {
            name: self._array(read[name], f"{file}: {name}", name == label) for name in others
        }
        if texts := [name for name, array in arrays.items() if array is None]:
            logger.warning("%s: left out, being text: %s", file, ", ".join(texts))
        return _Rows(
            str(file),
            {key: read[name] for key, name in called.items() if name in names},
            {name: array for name, array in arrays.items() if array is not None},
        )

    def _array(self, column: pyarrow.ChunkedArray, what: str, is_label: bool) -> np.ndarray | None:
        """Numbers, lists of them or labels; None of other text."""
        if kind_of(column.type) == "text":
            lists = _lists(column)
            if lists is not None or not is_label:
                return lists
        if is_label:
            read = read_label_columns({"label": column}, None, None, what)
            if read.names is not None:
                self.classes = read.names
            return read.labels()
        return _numbers(column, what)


def _numbers(column: pyarrow.ChunkedArray, what: str) -> np.ndarray:
    if kind_of(column.type) not in ("integer", "float", "bool", "empty"):
        raise InputError(f"{what} is {column.type}; numbers are read, or lists of them in quotes")
    if column.null_count or kind_of(column.type) == "empty":
        column = column.cast(pyarrow.float64())
    return np.array(column.to_numpy())


def _lists(column: pyarrow.ChunkedArray) -> np.ndarray | None:
    """Text as lists of numbers, `[rows, numbers]`; None where it is none."""
    text = compute.utf8_trim(column.cast(pyarrow.large_string()), " \t[](),")
    parts = compute.split_pattern(text, ",")
    lengths = compute.list_value_length(parts).unique()
    if column.null_count or len(lengths) != 1:
        return None
    try:
        numbers = compute.utf8_trim_whitespace(compute.list_flatten(parts)).cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return np.array(numbers.to_numpy()).reshape(len(column), -1)


# --- nodes and graphs by their ids ------------------------------------------------------------


def _graph_ids(graphs: _Rows | None, nodes: Mapping[str, _Rows]) -> pyarrow.Array:
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


def _graph_of(rows: _Rows, order: pyarrow.Array) -> np.ndarray:
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
class _Nodes:
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
    def of(cls, nodes: _Rows, order: pyarrow.Array, kind: str) -> _Nodes:
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


def _typed(
    order: pyarrow.Array,
    nodes: Mapping[str, _Rows],
    numbered: Mapping[str, _Nodes],
    edges: Mapping[Triple, _Rows],
) -> list[Typed]:
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


FORMATS = (
    Format(
        "dgl-csv",
        "a folder of dgl.data.CSVDataset",
        "a folder with meta.yaml and *.csv",
        _recognises,
        _read,
        options=DGL_OPTIONS,
        needs="dgl",
        documented="DGL user guide 4.6: Loading datasets from CSV files",
    ),
)

"""Tables as GraphStorm constructs graphs of: a JSON that names Parquet or CSV files and columns.

Its nodes have ids, features and labels, its edges go between ids (GraphStorm's user guide, "Graph
construction", version gconstruct-v0.1). Features are read as they are in the tables: GraphStorm's
own transforms are not applied, which is said; ``preprocessing=`` has some. Labels of edges are left
out. A random split has the percentages that stand there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.by_id import Nodes, graph_ids, typed_by_id
from gnnscale.data.formats.dgl.description import entries, names, within
from gnnscale.data.formats.dgl.rows import Rows, RowsReader
from gnnscale.data.formats.dgl.typed import DGL_OPTIONS, Triple, arrays_of
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.table import Table, open_table
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import pyarrow
from gnnscale.storage.files import read_json

logger = logging.getLogger(__name__)

Entry = dict[str, Any]

_PERCENTAGES = (0.8, 0.1, 0.1)  # GraphStorm's own where none stand there


def _description(path: Path) -> Path | None:
    """The JSON that a path is, or the only one of its kind in a folder."""
    if path.is_file():
        head = seen.head(path) if path.suffix.lower() == ".json" else b""
        return path if b'"node_type"' in head and b'"files"' in head else None
    files = [path / name for name in sorted(seen.files(path)) if name.endswith(".json")]
    found = [file for file in files[:20] if _description(file) is not None]
    return found[0] if len(found) == 1 else None


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    file = _description(path)
    assert file is not None, path  # it was recognised
    about = read_json(file)
    options = dict(given)
    labels = _labels(file, about, options)
    reader = RowsReader(None if labels is None else str(labels["label_col"]))
    nodes: dict[str, Rows] = {}
    edges: dict[Triple, Rows] = {}
    columns: dict[str, list[str]] = {"features": [], "edge_features": []}
    for entry in _listed(file, about, "nodes"):
        used = _columns(file, entry, columns["features"])
        if labels is not None and labels in entries(entry, "labels", file):
            used += [str(labels["label_col"])]
        kind = str(entry.get("node_type"))
        nodes[kind] = _rows(file, entry, reader, {"node_id": entry.get("node_id_col")}, used)
    for entry in _listed(file, about, "edges"):
        relation = entry.get("relation")
        if not isinstance(relation, list) or len(relation) != 3:
            raise InputError(f"{file}: relation is {relation!r}; it is [source, edge, target]")
        used = _columns(file, entry, columns["edge_features"])
        ids = {"src_id": entry.get("source_id_col"), "dst_id": entry.get("dest_id_col")}
        edges[str(relation[0]), str(relation[1]), str(relation[2])] = _rows(
            file, entry, reader, ids, used
        )
    if unknown := [t for t in edges for kind in (t[0], t[2]) if kind not in nodes]:
        raise InputError(f"{file}: edges {unknown[0]} are between nodes that are not there")
    for option, listed in columns.items():
        options.setdefault(option, ",".join(dict.fromkeys(listed)) or "none")
    options.setdefault("labels", "none" if labels is None else str(labels["label_col"]))
    order = graph_ids(None, nodes)
    numbered = {kind: Nodes.of(rows, order) for kind, rows in sorted(nodes.items())}
    typed = typed_by_id(order, nodes, numbered, dict(sorted(edges.items())))
    try:
        arrays = arrays_of(typed, options)
    except InputError as error:
        raise InputError([f"{file}: {fault}" for fault in error.faults]) from error
    if labels is not None:
        _split(file, labels, options, numbered, nodes, arrays)
    called = next(iter(numbered.values())).names() if len(nodes) == 1 else None
    graph = graph_of(arrays, path, options, {"name": file.stem}, names=called)
    if reader.classes is not None and graph.task == "classification":
        graph.schema = Schema(classes=reader.classes)
    return graph


def _listed(file: Path, about: object, field: str) -> list[Entry]:
    found = entries(about, field, file)
    if not found:
        raise InputError(f"{file} has no list of {field}")
    return found


def _columns(file: Path, entry: Entry, listed: list[str]) -> list[str]:
    """The columns of an entry's features; put on a list."""
    columns: list[str] = []
    for feature in entries(entry, "features", file):
        own = names(feature.get("feature_col"), "feature_col", file)
        columns += own
        transform = within(feature, "transform", file).get("name", "no-op")
        if transform != "no-op":
            logger.warning("%s: transform %s is not applied", ", ".join(own), transform)
    listed += columns
    return columns


def _rows(
    file: Path, entry: Entry, reader: RowsReader, ids: Mapping[str, Any], columns: list[str]
) -> Rows:
    called = {key: str(name) for key, name in ids.items() if name is not None}
    if called.keys() != ids.keys() and "node_id" not in ids:
        raise InputError(f"{file}: {entry.get('relation')} has no source_id_col and dest_id_col")
    table = _table(file, entry)
    rows = reader.read(table, called, [*called], columns)
    if not called:  # nodes without ids are called by the numbers of their rows
        rows = rows._replace(ids={"node_id": _numbers(table.num_rows)})
    return rows


def _numbers(count: int) -> pyarrow.ChunkedArray:
    return pyarrow.chunked_array([pyarrow.array(np.arange(count))])


def _table(file: Path, entry: Entry) -> Table:
    """The table of an entry, whose files may be many."""
    files = names(entry.get("files"), "files", file)
    if not files:
        raise InputError(f"{file}: an entry has no files: {entry.get('node_type') or entry}")
    about = within(entry, "format", file)
    kind = about.get("name")
    if kind not in ("parquet", "csv"):
        raise InputError(f"{file}: files of the format {kind!r}; parquet and csv are read")
    sep = about.get("separator") if kind == "csv" else None
    tables = [open_table(_place(file, name), name, sep=sep) for name in files]
    if len(tables) == 1:
        return tables[0]
    parts = [pyarrow.Table.from_batches([*table.batches()]) for table in tables]
    return open_table(pyarrow.concat_tables(parts, promote_options="permissive"), files[0])


def _place(file: Path, name: str) -> Path:
    """Where a file is: as it stands there, or beside the JSON where all were moved together."""
    given = Path(name)
    parts = given.parts
    for start in range(len(parts)):
        place = (
            given if start == 0 and given.is_absolute() else file.parent.joinpath(*parts[start:])
        )
        if place.exists() or any(place.parent.glob(place.name)):
            return place
    raise StoreError(f"{name}, which {file} names, is neither there nor beside it")


def _labels(file: Path, about: Any, options: Mapping[str, Any]) -> Entry | None:
    """The labels of nodes that are read: the only ones, or those of the column asked for."""
    found = [
        label
        for entry in _listed(file, about, "nodes")
        for label in entries(entry, "labels", file)
        if isinstance(label.get("label_col"), str)
    ]
    asked = options.get("labels")
    chosen = [label for label in found if asked in (None, label["label_col"])]
    if len(chosen) > 1:
        names = [str(label["label_col"]) for label in chosen]
        raise InputError(f"{file} has labels {', '.join(names)}: say which, as labels={names[0]!r}")
    if any(entries(entry, "labels", file) for entry in _listed(file, about, "edges")):
        logger.warning("%s: labels of edges are left out", file)
    return chosen[0] if chosen else None


def _split(
    file: Path,
    labels: Entry,
    options: dict[str, Any],
    numbered: Mapping[str, Nodes],
    nodes: Mapping[str, Rows],
    arrays: dict[str, np.ndarray],
) -> None:
    """The split that an entry's labels have: files of ids, or percentages of a random one."""
    custom = within(labels, "custom_split_filenames", file)
    if not custom:
        shares = labels.get("split_pct") or _PERCENTAGES
        numbers = isinstance(shares, list | tuple) and all(
            isinstance(share, int | float) for share in shares
        )
        if not numbers:
            raise InputError(f"{file}: split_pct is {shares!r}; three shares are expected")
        options.setdefault("split", "/".join(f"{100 * share:g}" for share in shares))
        return
    kind = next(k for k, rows in nodes.items() if labels["label_col"] in rows.arrays)
    first = sum(len(n.keys) for k, n in numbered.items() if k < kind)
    column = custom.get("column")
    for part in ("train", "valid", "test"):
        chosen = np.zeros(int(arrays["num_nodes"]), dtype=bool)
        for name in names(custom.get(part), part, file):
            table = open_table(_place(file, name), name)
            called = table.column(0 if column is None else str(column)).name
            ids = pyarrow.Table.from_batches([*table.batches([called])])[called]
            graph = np.zeros(len(ids), np.int64)
            chosen[first + numbered[kind].find(ids, graph, str(name))] = True
        arrays[f"{part}_mask"] = chosen


FORMATS = (
    Format(
        "graphstorm",
        "the JSON of GraphStorm's graph construction, with the tables that it names",
        "*.json that names files, node_type and relation",
        lambda path: _description(path) is not None,
        _read,
        options=DGL_OPTIONS,
        needs="tables",
        documented="https://graphstorm.readthedocs.io, Graph construction: input configuration",
    ),
)

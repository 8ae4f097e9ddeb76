"""Folders of ``dgl.data.CSVDataset``: ``meta.yaml``, which names CSV files of nodes, edges, graphs.

As DGL reads them: nodes are numbered in ascending order of their ids within a graph, lists of
numbers stand in quotes ("0.1, 0.2"), and columns without a name are row numbers. Beyond it, ids
stay as `Graph.names`, and labels may be text, whose classes keep their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.by_id import Nodes, graph_ids, typed_by_id
from gnnscale.data.formats.dgl.description import entries, read_description, wanted
from gnnscale.data.formats.dgl.rows import Rows, RowsReader
from gnnscale.data.formats.dgl.typed import DGL_OPTIONS, Triple, arrays_of
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import Format
from gnnscale.data.tables.table import open_table
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema

_FILE = "meta.yaml"
_NODE, _EDGE = "_V", ("_V", "_E", "_V")  # what DGL calls types without a name


def _recognises(path: Path) -> bool:
    return _FILE in seen.files(path)


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    about = read_description(path / _FILE)
    if str(about.get("version", "1.0.0")) != "1.0.0":
        raise InputError(f"{path / _FILE} is of version {about['version']}; 1.0.0 is read")
    options = {"name": str(about.get("dataset_name") or path.name), **given}
    separator = str(about.get("separator") or ",")
    reader = RowsReader(options.get("labels"))

    def tables(field: str, *ids: str) -> Iterator[tuple[dict[str, Any], Rows]]:
        for entry in entries(about, field, path / _FILE):
            file = path / wanted(entry, "file_name", path / _FILE)
            called = {key: str(entry.get(f"{key}_field") or key) for key in ("graph_id", *ids)}
            table = open_table(file, str(file), sep=separator, header=True)
            yield entry, reader.read(table, called, ids or ("graph_id",))

    nodes = {str(e.get("ntype") or _NODE): rows for e, rows in tables("node_data", "node_id")}
    edges = {_triple(e): rows for e, rows in tables("edge_data", "src_id", "dst_id")}
    graphs = [rows for _, rows in tables("graph_data")]
    if not nodes:
        raise InputError(f"{path / _FILE} names no node_data")
    if unknown := [t for t in edges for kind in (t[0], t[2]) if kind not in nodes]:
        raise InputError(f"{path / _FILE}: edges {unknown[0]} are between nodes that are not there")
    order = graph_ids(graphs[0] if graphs else None, nodes)
    numbered = {kind: Nodes.of(rows, order) for kind, rows in sorted(nodes.items())}
    typed = typed_by_id(order, nodes, numbered, dict(sorted(edges.items())))
    try:
        arrays = arrays_of(typed, options, graphs[0].arrays if graphs else None)
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    names = None
    if len(order) == len(nodes) == 1:
        names = next(iter(numbered.values())).names()
    graph = graph_of(arrays, path, options, names=names)
    if reader.classes is not None and graph.task == "classification":
        graph.schema = Schema(classes=reader.classes)
    return graph


def _triple(entry: dict[str, Any]) -> Triple:
    found = entry.get("etype") or _EDGE
    if not isinstance(found, list | tuple) or len(found) != 3:
        raise InputError(f"{entry!r}: etype must be [source, edge, target]")
    return str(found[0]), str(found[1]), str(found[2])


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

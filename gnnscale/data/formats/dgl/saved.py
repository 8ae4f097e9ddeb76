"""Graphs out of the files of ``dgl.save_graphs``; large ones are built on disk in a stream."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import seen
from gnnscale.data.formats.dgl.binary import FILE, Array, Saved, read_saved
from gnnscale.data.formats.dgl.roles import roles_of
from gnnscale.data.formats.dgl.typed import DGL_OPTIONS, Typed, arrays_of
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import OPTIONS, Format
from gnnscale.data.formats.streamed import LARGE, row_blocks, streamed
from gnnscale.errors import InputError
from gnnscale.graph import Graph


def _recognises(path: Path) -> bool:
    return seen.head(path).startswith(struct.pack("<Q", FILE))


def _read(path: Path, given: Mapping[str, Any]) -> Graph:
    graphs, labels = read_saved(path)
    if len(graphs) == 1:
        graphs, labels = _with_labels_of_nodes(graphs[0], labels)
    options = dict(given)
    try:
        if path.stat().st_size > LARGE and _is_plain(graphs):
            graph = _built(path, graphs[0], options)
            if graph is not None:
                return graph
        typed = [_typed(graph) for graph in graphs]
        arrays = arrays_of(typed, options, _loaded(labels))
    except InputError as error:
        raise InputError([f"{path}: {fault}" for fault in error.faults]) from error
    return graph_of(arrays, path, options)


def _with_labels_of_nodes(
    graph: Saved, labels: Mapping[str, Array]
) -> tuple[list[Saved], dict[str, Array]]:
    """What was given as labels of the only graph, and has a row a node, as arrays of its nodes."""
    if len(graph.nodes) != 1:
        return [graph], dict(labels)
    ((kind, count),) = graph.nodes.items()
    own = graph.node_arrays[kind]
    of_nodes = {k: v for k, v in labels.items() if v.shape[:1] == (count,) and k not in own}
    graph = dataclasses.replace(graph, node_arrays={kind: {**own, **of_nodes}})
    return [graph], {k: v for k, v in labels.items() if k not in of_nodes}


def _typed(graph: Saved) -> Typed:
    return Typed(
        graph.nodes,
        {triple: edges.in_order() for triple, edges in graph.edges.items()},
        {kind: _loaded(arrays) for kind, arrays in graph.node_arrays.items()},
        {triple: _loaded(arrays) for triple, arrays in graph.edge_arrays.items()},
    )


def _loaded(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    return {name: array.read() for name, array in arrays.items()}


# --- what is too large for memory -------------------------------------------------------------


def _is_plain(graphs: list[Saved]) -> bool:
    return len(graphs) == 1 and len(graphs[0].nodes) == len(graphs[0].edges) == 1


def _built(path: Path, graph: Saved, given: Mapping[str, Any]) -> Graph | None:
    """The graph in a store; None where it has what a store is not built with: values of edges."""
    ((kind, num_nodes),) = graph.nodes.items()
    ((triple, structure),) = graph.edges.items()
    own, carried = graph.node_arrays[kind], graph.edge_arrays[triple]
    options = {k: v for k, v in given.items() if k in OPTIONS}
    nodes = roles_of(own, "nodes", features=given.get("features"), labels=given.get("labels"))
    edges = roles_of(carried, "edges", features=given.get("edge_features"), labels="none")
    if edges.features or edges.types or nodes.types:
        return None
    nodes.log("nodes")
    edges.log("edges")
    weight = carried[edges.weight].read().reshape(-1) if edges.weight else None

    def chunks() -> Iterator[tuple[np.ndarray, ...]]:
        for source, target, edge in structure.chunks():
            yield (source, target) if weight is None else (source, target, weight[edge])

    def features() -> Iterator[np.ndarray]:
        columns = [own[name] for name in nodes.features]
        wide = sum(int(np.prod(column.shape[1:])) for column in columns)
        for start, stop in row_blocks(num_nodes, 8 * wide):
            parts = [c.read(start, stop).reshape(stop - start, -1) for c in columns]
            yield np.concatenate(parts, axis=1).astype(np.float32)

    kept = {"num_nodes": np.array(num_nodes)}
    kept |= {name: own[name].read() for name in nodes.splits}
    if nodes.label:
        kept["y"] = own[nodes.label].read()
    return streamed(path, options, kept, chunks(), features() if nodes.features else None)


FORMATS = (
    Format(
        "dgl",
        "graphs that dgl.save_graphs has written (DGL 0.5 to 2.x)",
        "*.bin, *.dgl",
        _recognises,
        _read,
        options=DGL_OPTIONS,
        streams=True,
        documented="DGL 1.1.3, src/graph/serialize/heterograph_serialize.cc",
    ),
)

"""gnnscale's own formats: what ``cluster`` and ``build_graph`` write, and arrays by their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gnnscale.data.formats import seen
from gnnscale.data.formats.array_graphs import read_arrays
from gnnscale.data.formats.finishing import graph_of
from gnnscale.data.formats.registry import OPTIONS, Format
from gnnscale.data.splits import random_split
from gnnscale.errors import InputError
from gnnscale.graph import Graph, is_store, is_stored_graph, open_graph, open_stored_graph
from gnnscale.graph.reading.nodes import PARTS, Split


def _clusters(path: Path, given: Mapping[str, object]) -> Graph:
    return open_graph(path).original()  # predictions are in the order that the user knows


def _stored(path: Path, given: Mapping[str, Any]) -> Graph:
    graph = open_stored_graph(path)
    if (shares := given.get("split")) is None:
        if "seed" in given:
            raise InputError(f"{path}: seed= is of a random split: give split='60/20/20' with it")
        return graph
    if graph.y is None or graph.y_level != "node":
        raise InputError(f"{path}: split {shares!r} is of nodes with labels, and there are none")
    known = graph.y.isfinite() if graph.y.is_floating_point() else graph.y >= 0
    labelled = known.reshape(graph.num_nodes, -1).any(dim=1).numpy()
    drawn = random_split(labelled, shares, given.get("seed", 0))
    splits = {"default": Split(*(torch.from_numpy(drawn[part]) for part in PARTS))}
    for name, split in graph.splits.items():
        splits["stored" if name == "default" else name] = split
    return dataclasses.replace(graph, splits=splits)


def _arrays(path: Path, given: Mapping[str, object]) -> Graph:
    return graph_of(read_arrays(path), path, given, {"name": path.stem})


def _is_arrays(path: Path) -> bool:
    if path.is_dir():
        return any(name.endswith(".npy") for name in seen.files(path))
    if path.suffix.lower() == ".npy":
        shape, what = seen.shape(path)
        return not (len(shape) == 2 and 2 in shape and what in "iu")  # which are edges
    return path.suffix.lower() == ".npz"


FORMATS = (
    Format(
        "store",
        "a graph in clusters, as gnnscale.cluster and `gnnscale partition --out` write it",
        "a folder",
        is_store,
        _clusters,
        options={},
        streams=True,
        documented="docs/reference/format.md",
    ),
    Format(
        "graph",
        "a graph on disk, as gnnscale.build_graph and from_edge_list(path=) write it",
        "a folder",
        is_stored_graph,
        _stored,
        options={name: OPTIONS[name] for name in ("split", "seed")},
        streams=True,
        documented="docs/reference/format.md",
    ),
    Format(
        "arrays",
        "arrays by their names: edge_index, x, y, train_mask, …",
        "*.npz, a folder of *.npy",
        _is_arrays,
        _arrays,
        general=True,
        documented="docs/guide/data.md",
    ),
)

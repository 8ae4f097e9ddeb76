"""Graphs whose nodes and edges have attributes by name: which are features, labels, weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import registry
from gnnscale.data.formats.finishing import graph_of, names_of
from gnnscale.data.options import Option
from gnnscale.data.tables.classes import read_label_columns
from gnnscale.data.tables.recipe import make_recipe
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import pyarrow, types

logger = logging.getLogger(__name__)


def read_names(text: str) -> list[str]:
    """Read names of attributes, as in "age,city"."""
    return text.split(",") if text else []


OPTIONS: Mapping[str, Option] = {
    **registry.OPTIONS,
    "labels": Option(str),
    "weight": Option(str, "weight"),
    "drop": Option(read_names),
}
"""What may be said of attributes, beside what may be said of arrays."""
_LABELS = ("label", "labels")
_MAY_BE_LABELS = ("y", "class", "target", "category")


@dataclass
class Attributed:
    """A graph as files of attributes have it.

    Attributes:
        names: of the nodes, in their order.
        edge_index: int64 `[2, num_edges]`.
        directed: whether an edge has one direction.
        nodes: columns of nodes by name; None in a cell says that a node has no such attribute.
        edges: likewise of edges.
        name: what the graph is called; "" where it has no name.
    """

    names: list[str]
    edge_index: np.ndarray
    directed: bool
    nodes: dict[str, list[Any]] = field(default_factory=dict)
    edges: dict[str, list[Any]] = field(default_factory=dict)
    name: str = ""


def graph_of_attributes(found: Attributed, path: Path, given: Mapping[str, Any]) -> Graph:
    """Make the graph: attributes of nodes become features and labels, those of edges weights.

    Raises:
        InputError: there is no such attribute, or it may be labels or a feature.
    """
    said = {key: given.get(key, OPTIONS[key].default) for key in ("labels", "weight", "drop")}
    rest = {key: value for key, value in given.items() if key not in said}
    columns = {
        name: column
        for name, cells in found.nodes.items()
        if (column := _column(name, cells, path)) is not None
    }
    label = _label(columns, said["labels"], said["drop"] or [], path)
    words = [] if label is None else [f"`{label}`: label"]
    arrays: dict[str, np.ndarray] = {
        "edge_index": found.edge_index,
        "num_nodes": np.array(len(found.names)),
    }
    classes = None
    if label is not None:
        labels = read_label_columns({label: columns[label]}, given.get("task"), what=str(path))
        arrays["y"], classes = labels.labels(), labels.names
        rest |= {} if labels.task is None else {"task": labels.task}
    features = {name: columns[name] for name in columns if name != label}
    features = _without(features, said["drop"] or [], path, words)
    recipe = None
    if features:
        table = pyarrow.table(features)
        recipe = make_recipe(table.to_batches(), None, str(path))
        arrays["x"] = np.concatenate(list(recipe.apply(table.to_batches(), str(path))))
        kinds = recipe.words
        words += [f"`{c}`: feature" + (f" ({kinds[c]})" if c in kinds else "") for c in features]
    arrays |= _edge_values(found, said["weight"], path, words)
    for line in words:
        logger.info("%s: %s", path, line)
    schema = Schema(
        classes=classes,
        features=None if recipe is None else recipe.names,
        recipe=None if recipe is None else recipe.to_json(),
        columns=tuple(words),
    )
    defaults: dict[str, Any] = {"undirected": not found.directed}
    defaults |= {"name": found.name} if found.name else {}
    names = names_of(found.names)
    return graph_of(arrays, path, rest, defaults, names=names, schema=schema if words else None)


def _column(name: str, cells: Sequence[Any], path: Path) -> pyarrow.ChunkedArray | None:
    """Cells as a column; what is of several types as text; None of what is no cell."""
    if any(isinstance(cell, dict) for cell in cells):
        logger.info("%s: `%s`: left out, it has parts", path, name)
        return None
    try:
        column = pyarrow.array(cells)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        column = pyarrow.array([None if cell is None else str(cell) for cell in cells])
    return pyarrow.chunked_array([column])


def _label(
    columns: Mapping[str, object], said: str | None, drop: Sequence[str], path: Path
) -> str | None:
    listed = ", ".join(columns) or "none"
    if said is not None and said not in columns:
        raise InputError(f"{path}: no attribute of nodes is called {said!r}; there are {listed}")
    if unknown := [name for name in drop if name not in columns]:
        raise InputError(f"{path}: drop={','.join(unknown)}: attributes of nodes are {listed}")
    if said is not None:
        return said
    left = {name.lower(): name for name in columns if name not in drop}
    for name in _LABELS:
        if name in left:
            return left[name]
    for name in _MAY_BE_LABELS:
        if name in left and not (name == "y" and "x" in left):
            raise InputError(
                f"{path}: the attribute {left[name]!r} of nodes may be labels or a feature: say "
                f"labels={left[name]!r}, or drop={left[name]!r}, or labels= another"
            )
    return None


def _without(
    features: dict[str, Any], drop: Sequence[str], path: Path, words: list[str]
) -> dict[str, Any]:
    """Features but those to leave out, and text that is another at every node."""
    kept = {}
    for name, column in features.items():
        text = types.is_string(column.type) or types.is_large_string(column.type)
        if name in drop:
            words.append(f"`{name}`: left out")
        elif column.null_count == len(column):
            words.append(f"`{name}`: no cells, left out")
        elif text and len(column) > 2 and len(column.unique()) == len(column):
            words.append(f"`{name}`: text that differs at every node, left out")
        else:
            kept[name] = column
    return kept


def _edge_values(
    found: Attributed, weight: str, path: Path, words: list[str]
) -> dict[str, np.ndarray]:
    """The weights, and other numbers of edges as `edge_attr`, by the order of their names."""
    values = {}
    for name, cells in found.edges.items():
        numbers = [cell for cell in cells if isinstance(cell, bool | int | float)]
        if len(numbers) == len(cells):
            values[name] = np.array(numbers, np.float32)
        elif name == weight:
            have = sum(cell is not None for cell in cells)
            raise InputError(
                f"{path}: {len(numbers)} of {len(cells)} edges have a number as {weight!r}, and "
                f"{have} have any; give all or none, or another weight="
            )
        else:
            words.append(f"edges' `{name}`: left out, it is not a number of every edge")
    arrays = {}
    if weight in values:
        arrays["edge_weight"] = values.pop(weight)
        words.append(f"edges' `{weight}`: weight")
    elif weight != OPTIONS["weight"].default:
        listed = ", ".join(values) or "none"
        raise InputError(f"{path}: no number of edges is called {weight!r}; there are {listed}")
    if values:
        arrays["edge_attr"] = np.stack(list(values.values()), axis=1)
        words += [f"edges' `{name}`: edge feature" for name in values]
    return arrays

"""Graphs whose nodes and edges have attributes by name: which are features, labels, weights."""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnnscale.data.formats import registry
from gnnscale.data.formats.finishing import graph_of, names_of
from gnnscale.data.options import Option
from gnnscale.data.tables.node_splits import read_splits_given
from gnnscale.data.tables.node_table import NodeTable
from gnnscale.data.tables.roles.nodes import node_roles
from gnnscale.data.tables.table import open_table
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.schema import Schema
from gnnscale.storage.arrow import pyarrow, types

logger = logging.getLogger(__name__)


def read_names(text: str) -> list[str]:
    """Read names of attributes, as in "age,city"."""
    return text.split(",") if text else []


def read_recipe(text: str) -> Any:
    """Read what becomes of features: a word for all, or a mapping as Python writes one."""
    if not text.startswith("{"):
        return text
    try:
        return ast.literal_eval(text)
    except SyntaxError as error:
        raise ValueError(text) from error


OPTIONS: Mapping[str, Option] = {
    **registry.OPTIONS,
    "labels": Option(read_names),
    "weight": Option(str, "weight"),
    "drop": Option(read_names),
    "recipe": Option(read_recipe),
}
"""What may be said of attributes, beside what may be said of arrays."""
_ROW = "number of the node"  # the column that says whose a row is, beside the attributes


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
    """Make the graph: attributes of nodes become features, labels and splits, of edges weights.

    Raises:
        InputError: there is no such attribute, or it may be labels or a feature.
    """
    said = {key: given.get(key) for key in ("labels", "weight", "drop", "recipe")}
    rest = {key: value for key, value in given.items() if key not in said}
    arrays: dict[str, np.ndarray] = {
        "edge_index": found.edge_index,
        "num_nodes": np.array(len(found.names)),
    }
    weight = said["weight"] or OPTIONS["weight"].default
    lines, edge_values = _edge_values(found, weight, path)
    nodes = _node_table(found, said, path)
    labels = nodes.labels(rest.get("task"))
    if labels is not None:
        arrays["y"] = labels.labels()
        rest |= {} if labels.task is None else {"task": labels.task}
    recipe = nodes.recipe(said["recipe"])
    if recipe is not None and recipe.names:
        arrays["x"] = np.concatenate(list(nodes.features(recipe, path.parent)))
    splits = read_splits_given(None, nodes.node_ids(False, 0), [nodes], np.ones(0, bool), 0)
    for part, mask in (splits or {}).get("default", {}).items():
        arrays[f"{part.removesuffix('_mask')}_mask"] = np.asarray(mask)
    lines = [*(str(role) for role in nodes.roles if role.column != _ROW), *lines]
    for line in lines:
        logger.info("%s: %s", path, line)
    schema = Schema(
        classes=None if labels is None else labels.names,
        features=None if recipe is None else recipe.names,
        recipe=None if recipe is None else recipe.to_json(),
        columns=tuple(lines),
    )
    defaults: dict[str, Any] = {"undirected": not found.directed}
    defaults |= {"name": found.name} if found.name else {}
    return graph_of(
        *(arrays | edge_values, path, rest, defaults),
        names=names_of(found.names),
        schema=schema if lines else None,
    )


def _node_table(found: Attributed, said: Mapping[str, Any], path: Path) -> NodeTable:
    """The attributes of nodes as a table of nodes, and what each is."""
    columns = {_ROW: pyarrow.array(np.arange(len(found.names)))}
    why: dict[str, str] = {}
    for name, cells in found.nodes.items():
        columns[name], why[name] = _column(cells, name in (said["labels"] or []))
    own = {name: reason for name, reason in why.items() if reason}
    drop = [*own, *(said["drop"] or [])]
    table = open_table(pyarrow.table(columns), f"nodes of {path}")
    recipe = said["recipe"]
    if unknown := [name for name in said["drop"] or [] if name not in columns]:
        table.column(unknown[0])  # which says what there is
    roles = node_roles(
        table,
        lambda looks: {look.name: float(look.name == _ROW) for look in looks},
        id=_ROW,
        labels=said["labels"] or (),
        drop=drop,
        features=[] if recipe is None or isinstance(recipe, str) else {*recipe} - {"*"},
    )
    told = [replace(role, why=own.get(role.column, role.why)) for role in roles]
    return NodeTable(table, told)


def _column(cells: Sequence[Any], named: bool) -> tuple[pyarrow.Array, str]:
    """Cells as a column, text where they are of several types; and why to leave it out, or ""."""
    if any(isinstance(cell, dict) for cell in cells):
        return pyarrow.nulls(len(cells)), "it has parts"
    try:
        column = pyarrow.array(cells)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        column = pyarrow.array([None if cell is None else str(cell) for cell in cells])
    if types.is_null(column.type):
        return column, "no cells"
    text = types.is_string(column.type) or types.is_large_string(column.type)
    once = text and len(column) > 2 and len(column.unique()) == len(column)
    return column, "text that differs at every node" if once and not named else ""


def _edge_values(
    found: Attributed, weight: str, path: Path
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The weights, and other numbers of edges as `edge_attr`; and a line for each."""
    values, words = {}, []
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
    return words, arrays

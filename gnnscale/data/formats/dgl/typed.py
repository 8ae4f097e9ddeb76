"""Graphs with nodes and edges of types, as DGL has them, brought into arrays by our names.

One type of nodes and one of edges is a graph as it is. Of several, `homogeneous=True` makes one
node space, as ``dgl.to_homogeneous`` does: types one after the other, told by ``node_type`` and
``edge_type``; without it they are refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gnnscale.data.formats.dgl.roles import Roles, roles_of
from gnnscale.data.formats.registry import OPTIONS
from gnnscale.data.options import Option, read_bool
from gnnscale.data.splits import to_nodes
from gnnscale.errors import InputError

logger = logging.getLogger(__name__)

Triple = tuple[str, str, str]  # type of sources, of edges, of targets
Kind = TypeVar("Kind", str, Triple)

DGL_OPTIONS: Mapping[str, Option] = {
    **OPTIONS,
    "features": Option(str),
    "labels": Option(str),
    "edge_features": Option(str),
    "homogeneous": Option(read_bool, False),
}
"""What may be said of what DGL has left: names of arrays, where known names do not tell."""


@dataclass(frozen=True)
class Typed:
    """A graph whose nodes and edges have types.

    Attributes:
        nodes: how many there are of each type.
        edges: `[2, num_edges]` of each type, source and target numbered within their types.
        node_arrays: by type and name, a row a node.
        edge_arrays: by type and name, a row an edge.
    """

    nodes: Mapping[str, int]
    edges: Mapping[Triple, np.ndarray]
    node_arrays: Mapping[str, Mapping[str, np.ndarray]]
    edge_arrays: Mapping[Triple, Mapping[str, np.ndarray]]


def arrays_of(
    graphs: Sequence[Typed],
    given: dict[str, Any],
    labels: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Bring graphs into arrays, as `graph_from_arrays` takes them.

    Args:
        graphs: one; or several, which are numbered through.
        given: options; those of `DGL_OPTIONS` that are not for every format are taken out.
        labels: arrays of the graphs by name, a row a graph.

    Raises:
        InputError: several types without `homogeneous`, arrays whose names do not say what they
            are, or that not all graphs have; with the words that work.
    """
    features, wanted = given.pop("features", None), given.pop("labels", None)
    edge_features = given.pop("edge_features", None)
    if not graphs:
        raise InputError("there is no graph in it")
    _check_types(graphs, given.pop("homogeneous", False))
    of_graphs = {k: v for k, v in (labels or {}).items() if v.shape[:1] == (len(graphs),)}
    if others := [name for name in labels or {} if name not in of_graphs]:
        logger.warning("left out, having no row a graph: %s", ", ".join(others))
    of_nodes = _names([g.node_arrays for g in graphs])
    whole = wanted if wanted is None or wanted in (*of_nodes, "none") else "none"
    nodes = roles_of(of_nodes, "nodes", features=features, labels=whole)
    edges = roles_of(
        _names([g.edge_arrays for g in graphs]), "edges", features=edge_features, labels="none"
    )
    single = len(graphs) == 1
    graph_labels = wanted if wanted is None or wanted in of_graphs else "none"
    chosen = roles_of(of_graphs, "graphs", labels="none" if single else graph_labels)
    if wanted not in (None, "none", *of_nodes, *of_graphs):
        have = ", ".join(dict.fromkeys([*of_nodes, *of_graphs])) or "none"
        raise InputError(f"labels={wanted!r}: there is no such array; there are {have}")
    if not single and nodes.label and chosen.label:
        level = given.get("y_level")
        if level not in ("node", "graph"):
            raise InputError(
                f"labels are there of nodes, `{nodes.label}`, and of graphs, `{chosen.label}`: say "
                "y_level='node' or y_level='graph'"
            )
        if level == "graph":
            nodes = nodes.without_label()
        else:
            chosen = chosen.without_label()
    for roles, of in ((nodes, "nodes"), (edges, "edges"), (chosen, "graphs")):
        roles.log(of)
    return _joined(graphs, nodes, edges, chosen, of_graphs)


def _check_types(graphs: Sequence[Typed], homogeneous: bool) -> None:
    kinds = [*dict.fromkeys(kind for graph in graphs for kind in graph.nodes)]
    triples = [*dict.fromkeys(triple for graph in graphs for triple in graph.edges)]
    if not homogeneous and (len(kinds) > 1 or len(triples) > 1):
        edges = ", ".join(":".join(triple) for triple in triples)
        raise InputError(
            f"it has {len(kinds)} types of nodes ({', '.join(kinds)}) and {len(triples)} of edges "
            f"({edges}); gnnscale trains on one node space. homogeneous=True makes one of them, as "
            "dgl.to_homogeneous does, with node_type and edge_type"
        )
    if homogeneous and any([*g.nodes] != kinds or [*g.edges] != triples for g in graphs):
        raise InputError(
            "its graphs have other types of nodes or edges than each other, so that numbers do not "
            "stand for the same types"
        )


def _names(of: Sequence[Mapping[Any, Mapping[str, object]]]) -> list[str]:
    return [*dict.fromkeys(name for graph in of for arrays in graph.values() for name in arrays)]


def _joined(
    graphs: Sequence[Typed],
    nodes: Roles,
    edges: Roles,
    chosen: Roles,
    of_graphs: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    sizes = np.array([sum(graph.nodes.values()) for graph in graphs], np.int64)
    node_ptr = np.concatenate([[0], np.cumsum(sizes)])
    arrays = {
        "num_nodes": node_ptr[-1],
        "edge_index": np.concatenate(
            [_edges(graph) + start for graph, start in zip(graphs, node_ptr, strict=False)], axis=1
        ),
    }
    if len(graphs) > 1:
        arrays["node_ptr"] = node_ptr

    def of_node(name: str, missing: float | None = None) -> np.ndarray:
        return _rows([_columns(g.nodes, g.node_arrays, name, missing) for g in graphs], name)

    def of_edge(name: str) -> np.ndarray:
        counts = [{triple: e.shape[1] for triple, e in g.edges.items()} for g in graphs]
        each = zip(counts, graphs, strict=True)
        return _rows([_columns(c, g.edge_arrays, name, None) for c, g in each], name)

    if nodes.features:
        arrays["x"] = _beside([of_node(name) for name in nodes.features])
    if edges.features:
        arrays["edge_attr"] = _beside([of_edge(name) for name in edges.features])
    for name in nodes.splits:
        arrays[name] = of_node(name, 0)
    for name in chosen.splits:
        arrays[name] = to_nodes(of_graphs[name].reshape(-1), node_ptr)
    if nodes.label:
        arrays["y"] = of_node(nodes.label, np.nan)
    elif chosen.label:
        arrays["y"], arrays["y_level"] = of_graphs[chosen.label], np.array("graph")
    if edges.weight:
        arrays["edge_weight"] = _flat(of_edge(edges.weight), edges.weight)
    for key, role, kinds, read in (
        ("node_type", nodes, graphs[0].nodes, of_node),
        ("edge_type", edges, graphs[0].edges, of_edge),
    ):
        if len(kinds) > 1:
            counts = [
                [*graph.nodes.values()]
                if key == "node_type"
                else [each.shape[1] for each in graph.edges.values()]
                for graph in graphs
            ]
            arrays[key] = np.concatenate([np.repeat(np.arange(len(c)), c) for c in counts])
        elif role.types:
            arrays[key] = _flat(read(role.types), role.types)
    return arrays


def _edges(graph: Typed) -> np.ndarray:
    first = dict(zip(graph.nodes, np.cumsum([0, *graph.nodes.values()]), strict=False))
    parts = [
        edges + np.array([[first[source]], [first[target]]])
        for (source, _, target), edges in graph.edges.items()
    ]
    return np.concatenate([np.empty((2, 0), np.int64), *parts], axis=1)


def _columns(
    counts: Mapping[Kind, int],
    arrays: Mapping[Kind, Mapping[str, np.ndarray]],
    name: str,
    missing: float | None,
) -> list[np.ndarray]:
    """An array of every type, those that lack it filled up where they may."""
    there = [arrays[kind][name] for kind in counts if name in arrays.get(kind, {})]
    if len(there) < len(counts) and missing is None:
        lacking = [kind for kind in counts if name not in arrays.get(kind, {})]
        called = ", ".join(kind if isinstance(kind, str) else ":".join(kind) for kind in lacking)
        if not all(counts[kind] == 0 for kind in lacking):
            raise InputError(
                f"`{name}` is there of some types and not of {called}: give every type one of the "
                "same width, or leave it out: features='none', edge_features='none'"
            )
        return there
    like = there[0] if there else np.empty((0,), np.int64)
    return [
        arrays[kind][name]
        if name in arrays.get(kind, {})
        else _filled(counts[kind], like, missing or 0)
        for kind in counts
    ]


def _filled(rows: int, like: np.ndarray, missing: float) -> np.ndarray:
    """Rows without a value: no masks; NaN, or -1 where integers are meant."""
    if missing == 0:
        return np.zeros((rows, *like.shape[1:]), like.dtype)
    value, kind = (missing, like.dtype) if like.dtype.kind == "f" else (-1, np.dtype(np.int64))
    return np.full((rows, *like.shape[1:]), value, kind)


def _rows(graphs: list[list[np.ndarray]], name: str) -> np.ndarray:
    parts = [part for graph in graphs for part in graph]
    if len(shapes := {part.shape[1:] for part in parts}) > 1:
        raise InputError(
            f"`{name}` has rows of shapes {', '.join(map(str, sorted(shapes)))}: graphs and types "
            "want the same width. Leave it out: features='none', edge_features='none'"
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _beside(columns: list[np.ndarray]) -> np.ndarray:
    wide = [column[:, None] if column.ndim == 1 else column for column in columns]
    if deep := [column.shape for column in wide if column.ndim > 2]:
        raise InputError(f"features of shape {deep[0]}: give one vector a row, [rows, features]")
    return wide[0] if len(wide) == 1 else np.concatenate(wide, axis=1)


def _flat(column: np.ndarray, name: str) -> np.ndarray:
    if column.ndim == 2 and column.shape[1] == 1:
        return column[:, 0]
    if column.ndim != 1:
        raise InputError(f"`{name}` has shape {column.shape}; it must be one number a row")
    return column

"""What a file holds, as its own reader says, and whether gnnscale has read the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gnnscale as gs
from gnnscale.kernels import CSR

NO_ANSWERS: Mapping[str, Any] = {}


@dataclass
class Content:
    """A graph as another reader gives it.

    Attributes:
        edges: `[2, num_edges]`, numbers of nodes in this reader's order.
        num_nodes: nodes.
        undirected: each edge stands for both directions.
        nodes: what nodes are called, in this order; None where by their numbers.
        carried: values of edges: ``edge_weight``, ``edge_attr``, ``edge_type``.
        x: features, or None.
        y: labels, numbers or text; -1, NaN or "" where there is none; or None.
        splits: by part of the default split.
        node_ptr: of several graphs.
    """

    edges: np.ndarray
    num_nodes: int
    undirected: bool = False
    nodes: Sequence[object] | None = None
    carried: Mapping[str, np.ndarray] = field(default_factory=dict)
    x: Any = None
    y: Any = None
    splits: Mapping[str, Any] = field(default_factory=dict)
    node_ptr: Any = None


@dataclass(frozen=True)
class Layout:
    """A file or folder that is made, read by its own reader and by gnnscale.

    Attributes:
        name: what it is.
        reader: what reads it beside gnnscale.
        make: writes it in a folder, and gives the call of gnnscale and what the reader reads.
        answers: what is said where gnnscale asks; None where it is to be refused by name.
    """

    name: str
    reader: str
    make: Callable[[Path], tuple[Callable[..., gs.Graph], Content | None]]
    answers: Mapping[str, Any] | None = field(default_factory=dict)


class Layouts:
    """A list of layouts that functions are put on by ``@layouts(name, reader)``."""

    def __init__(self) -> None:
        self._listed: list[Layout] = []

    def __iter__(self) -> Iterator[Layout]:
        return iter(self._listed)

    def __call__(
        self, name: str, reader: str, answers: Mapping[str, Any] | None = NO_ANSWERS
    ) -> Callable[[Any], Any]:
        """Put a function on the list."""

        def put(make: Any) -> Any:
            self.add(name, reader, make, answers)
            return make

        return put

    def add(
        self, name: str, reader: str, make: Any, answers: Mapping[str, Any] | None = NO_ANSWERS
    ) -> None:
        """Put a layout on the list."""
        self._listed.append(Layout(name, reader, make, answers))


def differences(graph: gs.Graph, content: Content) -> list[str]:
    """What gnnscale has read otherwise, in words; nothing where it is the same."""
    found = []
    ours = range(graph.num_nodes) if graph.names is None else graph.names[:].tolist()
    theirs = range(content.num_nodes) if content.nodes is None else content.nodes
    place = {str(name): i for i, name in enumerate(theirs)}
    if len(ours) != len(theirs) or {str(name) for name in ours} != place.keys():
        lacking = [name for name in place if name not in set(map(str, ours))]
        return [f"nodes: {len(ours)}, not {len(theirs)}; lacking {lacking[:3]}"]
    order = np.array([place[str(name)] for name in ours], dtype=np.int64)
    found += _edges(graph, content, order)
    found += _rows("x", graph.x, content.x, order)
    found += _labels(graph, content.y, order)
    for part, mask in content.splits.items():
        split = graph.split()
        got = None if split is None else np.asarray(split[part])
        if got is None or not np.array_equal(got, np.asarray(mask).astype(bool)[order]):
            found.append(f"split {part}")
    if (graph.node_ptr is None) != (content.node_ptr is None) or (
        graph.node_ptr is not None and graph.node_ptr.tolist() != list(content.node_ptr)
    ):
        found.append("graphs")
    return found


def _edges(graph: gs.Graph, content: Content, order: np.ndarray) -> list[str]:
    edges, carried = content.edges, dict(content.carried)
    if content.undirected:
        back = edges[0] != edges[1]
        edges = np.concatenate([edges, edges[::-1, back]], axis=1)
        carried = {k: np.concatenate([v, np.asarray(v)[back]]) for k, v in carried.items()}
    found = [
        f"{name} out of nowhere"
        for name in ("edge_weight", "edge_attr", "edge_type")
        if name not in carried and getattr(graph, name) is not None
    ]
    lacking = [name for name in carried if getattr(graph, name) is None]
    found += [f"{name} is lost" for name in lacking]
    shared = [name for name in carried if name not in lacking]
    index = order[graph.edge_index.numpy()] if graph.num_edges else np.empty((2, 0))
    ours = _table(index, [getattr(graph, name) for name in shared])
    theirs = _table(edges, [carried[name] for name in shared])
    if ours.shape != theirs.shape:
        found.append(f"edges: {ours.shape[0]} of {ours.shape[1]}, not {theirs.shape}")
    elif not np.array_equal(ours, theirs):
        found.append(f"edges: {int((ours != theirs).any(1).sum())} are others")
    return found


def _table(edges: np.ndarray, carried: list[Any]) -> np.ndarray:
    """Edges and what they carry as rows, sorted."""
    count = edges.shape[1]
    columns = [np.asarray(edges, np.float64).T]
    for value in carried:
        values = np.asarray(value, np.float32).astype(np.float64)
        columns.append(values.reshape(count, -1 if values.size else 0))
    table = np.concatenate(columns, axis=1)
    return table[np.lexsort(table.T[::-1])]


def _rows(what: str, ours: Any, theirs: Any, order: np.ndarray | None) -> list[str]:
    if (ours is None) != (theirs is None):
        return [f"{what} is lost" if ours is None else f"{what} out of nowhere"]
    if ours is None:
        return []
    got = np.asarray(ours.to_dense() if isinstance(ours, CSR) else ours, np.float64)
    expected = np.asarray(theirs, np.float64)
    expected = expected if order is None else expected[order]
    expected = expected.reshape(len(got), -1) if got.ndim == 2 else expected
    if got.shape != expected.shape:
        return [f"{what} is {got.shape}, not {expected.shape}"]
    if not np.allclose(got, expected, rtol=1e-6, atol=1e-7, equal_nan=True):
        return [f"{what} has other values"]
    return []


def _labels(graph: gs.Graph, theirs: Any, order: np.ndarray) -> list[str]:
    if theirs is None or graph.y is None or np.asarray(theirs).dtype.kind not in "OU":
        rows = order if graph.y_level == "node" else None
        return _rows("y", graph.y, theirs, rows)
    if graph.class_names is None:
        return ["names of classes are lost"]
    ours = [graph.class_names[int(y)] if y >= 0 else "" for y in graph.y]
    expected = np.asarray(theirs)
    if graph.y_level == "node":
        expected = expected[order]
    return [] if ours == [str(label) for label in expected] else ["y has other classes"]

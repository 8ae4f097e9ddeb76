"""Whether a graph holds what arrays say, edge by edge, feature by feature, label by label."""

from __future__ import annotations

import numpy as np
import torch

from gnnscale import Graph
from gnnscale.kernels import CSR


def assert_edges(graph: Graph, edges: object, **values: object) -> None:
    """Compare edges, and what they carry (``edge_weight``, ``edge_attr``, …), in any order."""
    expected = np.asarray(edges)
    found = _rows(graph.edge_index.numpy(), {k: getattr(graph, k) for k in values})
    assert np.array_equal(found, _rows(expected, values))
    for name in {"edge_weight", "edge_attr", "edge_type"} - set(values):
        assert getattr(graph, name) is None, f"{name} out of nowhere"


def assert_nodes(graph: Graph, x: object = None, y: object = None) -> None:
    """Compare features and labels."""
    for name, value in (("x", x), ("y", y)):
        found = getattr(graph, name)
        assert (found is None) == (value is None), name
        if value is not None:
            found = found.to_dense() if isinstance(found, CSR) else found
            expected = torch.as_tensor(np.asarray(value))
            assert found.shape == expected.shape
            assert torch.allclose(found.double(), expected.double(), equal_nan=True), name


def assert_split(graph: Graph, name: str = "default", **parts: object) -> None:
    """Compare masks of a split: ``train=mask, …``."""
    split = graph.split(name)
    assert split is not None
    for part, mask in parts.items():
        assert torch.equal(split[part], torch.as_tensor(np.asarray(mask)).bool()), part


def _rows(edges: np.ndarray, values: dict[str, object]) -> np.ndarray:
    """Edges and what they carry as rows, sorted."""
    columns = [edges.astype(np.float64).T]
    for value in values.values():
        array = np.asarray(value, dtype=np.float32).astype(np.float64)
        columns.append(array.reshape(edges.shape[1], -1 if array.size else 0))
    table = np.concatenate(columns, axis=1)
    return table[np.lexsort(table.T[::-1])]

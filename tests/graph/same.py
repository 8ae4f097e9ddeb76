"""Comparing graphs tensor by tensor."""

from __future__ import annotations

import torch

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.kernels import CSR


def tensors(graph: Graph) -> dict[str, torch.Tensor]:
    """Every tensor of a graph, by name."""
    found = {
        "indptr": graph.adj.indptr,
        "indices": graph.adj.indices,
        **graph.carried,
        "y": graph.y,
        "node_ptr": graph.node_ptr,
    }
    if isinstance(graph.x, CSR):
        found |= {"x_indptr": graph.x.indptr, "x_indices": graph.x.indices, "x": graph.x.values}
    else:
        found["x"] = graph.x
    for name, split in graph.splits.items():
        found |= {f"{name}/{part}": split[part] for part in ("train", "val", "test")}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def assert_same_graph(one: Graph, other: Graph) -> None:
    """All tensors equal, with their types, and all that describes them."""
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        assert torch.equal(tensor, b[name]), name
    for field in ("y_level", "task", "metric", "num_classes", "name", "source", "num_features"):
        assert getattr(one, field) == getattr(other, field), field
    assert list(one.splits) == list(other.splits)


def assert_same_clustered(one: ClusteredGraph, other: ClusteredGraph) -> None:
    """As `assert_same_graph`, with the layout."""
    assert_same_graph(one.graph, other.graph)
    for field in ("node_id", "offsets", "train_ends"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field
    for field in ("split", "method", "seed", "num_parts"):
        assert getattr(one, field) == getattr(other, field), field
    assert one.graph.adj.symmetric == other.graph.adj.symmetric

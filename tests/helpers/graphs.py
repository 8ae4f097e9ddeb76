"""Small graphs that tests of several rooms take, and the comparison of graphs, tensor by tensor."""

from __future__ import annotations

import torch

from gnnscale.graph import ClusteredGraph, Graph, Partition
from gnnscale.kernels import CSR
from tests.helpers.small_runs import CLASSES, small_graph


def ring(nodes: int = 12, value: float = 1.0) -> Graph:
    """A directed ring with everything a graph may hold."""
    ids = torch.arange(nodes)
    return Graph.from_arrays(
        torch.stack([ids, ids.roll(-1)]),
        torch.full((nodes, 3), value),
        ids % 3,
        edge_weight=1.0 + ids,
        edge_attr=torch.stack([ids, -ids], dim=1),
        splits={"default": {"train": ids % 2 == 0}, "other": {"test": [3]}},
        metric="f1_macro",
        name="ring",
        source="synthetic:ring",
    )


def parts(graph: Graph, count: int = 4) -> Partition:
    return Partition(torch.arange(graph.num_nodes) % count, count, "metis", 3)


def several_graphs(trained: str, sizes=(30, 24, 18), sparse: bool = False) -> Graph:
    """Three graphs in one, float64.

    Args:
        trained: "first": one graph a set, as in twitch7; "masks": half of the nodes of each;
            "one": a single node; "all": every node trains.
        sizes: nodes of each.
        sparse: whether features are sparse.
    """
    pieces = [small_graph(n, seed) for seed, n in enumerate(sizes)]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    of = torch.repeat_interleave(torch.arange(len(sizes)), ptr.diff())
    ids = torch.arange(len(of))
    sets = {
        "first": (of == 0, of == 1, of == 2),
        "masks": (ids % 2 == 0, ids % 4 == 1, ids % 4 == 3),
        "one": (ids == 3, ids == 4, ids > 4),
        "all": (ids >= 0, ids < 0, ids < 0),
    }[trained]
    edges = torch.cat([g.edge_index + a for g, a in zip(pieces, ptr, strict=False)], dim=1)
    x = torch.cat([piece.x for piece in pieces]).double()
    x = x * (x > 0.3) if sparse else x
    return Graph.from_arrays(
        edges,
        x.to_sparse_csr() if sparse else x,
        torch.cat([piece.y for piece in pieces]),
        **dict(zip(("train_mask", "val_mask", "test_mask"), sets, strict=True)),
        node_ptr=ptr,
        num_classes=CLASSES,
        num_nodes=len(of),
    )


def tensors(graph: Graph) -> dict[str, torch.Tensor]:
    """Every tensor of a graph, by name."""
    found = {
        "indptr": graph.adj.indptr,
        "indices": graph.adj.indices,
        **graph.carried,
        "edge_time": graph.edge_time,
        "node_time": graph.node_time,
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
    assert one.cuts == other.cuts


def assert_same_clustered(one: ClusteredGraph, other: ClusteredGraph) -> None:
    """As `assert_same_graph`, with the layout."""
    assert_same_graph(one.graph, other.graph)
    for field in ("node_id", "offsets", "train_ends"):
        assert torch.equal(getattr(one, field), getattr(other, field)), field
    for field in ("split", "method", "seed", "num_parts"):
        assert getattr(one, field) == getattr(other, field), field
    assert one.graph.adj.symmetric == other.graph.adj.symmetric

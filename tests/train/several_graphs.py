"""Small data sets of several graphs."""

from __future__ import annotations

import torch
from small_runs import CLASSES, small_graph

from gnnscale.graph import Graph


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

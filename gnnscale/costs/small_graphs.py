"""The small graphs that costs are measured on: rings, which grow by nodes or by edges alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.loader import Batch

_OF_NODES = ("x", "first_hop", "node_type", "rows")  # the last of a layer trained by itself
_OF_EDGES = ("edge_attr", "edge_type")


def rings(sizes: Sequence[int], each: int = 1) -> Adjacency:
    """Graphs of such sizes, side by side, at every node of which as many edges arrive.

    They come from the nodes that follow it in its graph, from one several times where there are
    fewer.
    """
    size = torch.tensor(sizes)
    first = (size.cumsum(0) - size).repeat_interleave(size)
    size = size.repeat_interleave(size)
    node = torch.arange(size.numel())
    sources = (node - first)[:, None].add(torch.arange(1, each + 1)) % size[:, None]
    indices = (first[:, None] + sources).sort(1).values.reshape(-1).int()
    return Adjacency(torch.arange(size.numel() + 1) * each, indices, None)


def on_rings(sample: Batch, sizes: Sequence[int], each: int = 1) -> Batch:
    """A batch of such graphs, each a cluster, with rows and values of edges as a batch has them.

    Args:
        sample: the batch, of one node at least.
        sizes: nodes of every graph.
        each: edges that arrive at every node.
    """
    device, adj = sample.adj.device, rings(sizes, each)
    node = torch.arange(adj.num_nodes, device=device)
    values: dict[str, Any] = {
        name: repeated(getattr(sample, name, None), adj.num_nodes) for name in _OF_NODES
    } | {name: repeated(getattr(sample, name), adj.nnz) for name in _OF_EDGES}
    if hasattr(sample, "slots"):
        values["slots"] = {k: repeated(v, adj.num_nodes) for k, v in sample.slots.items()}
    else:
        del values["rows"]
    ptr = torch.tensor([0, *sizes], device=device).cumsum(0)
    indices = adj.indices.to(device, sample.adj.indices.dtype)
    weights = repeated(sample.adj.values, adj.nnz)
    return replace(
        sample,
        y=None,
        adj=Adjacency(adj.indptr.to(device), indices, weights),
        train_mask=torch.ones_like(node, dtype=torch.bool),
        train_index=node,
        node_id=node,
        clusters=torch.arange(len(sizes), device=device),
        ptr=ptr,
        graph_ptr=None if sample.graph_ptr is None else ptr,
        **values,
    )


@overload
def repeated(values: Tensor, count: int) -> Tensor: ...
@overload
def repeated(values: Tensor | None, count: int) -> Tensor | None: ...
@overload
def repeated(values: Tensor | CSR | None, count: int) -> Tensor | CSR | None: ...


def repeated(values: Tensor | CSR | None, count: int) -> Tensor | CSR | None:
    """As many rows as wanted, from the first on and over again; zeros where there is none."""
    if values is None:
        return None
    rows = values.shape[0]
    if not rows:
        assert isinstance(values, Tensor)
        return values.new_zeros(count, *values.shape[1:])
    at = torch.arange(count, device=values.device) % rows
    return values.select_rows(at) if isinstance(values, CSR) else values[at]

"""The induced subgraph in plain PyTorch, with O(num_nodes) memory."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.structure.reference import index_type, pointers_of, row_index


def induced_subgraph(
    indptr: Tensor,
    indices: Tensor,
    cluster_of: Tensor,
    starts: Tensor,
    ends: Tensor,
    clusters: Tensor,
    window: Tensor,
    with_positions: bool = False,
    row_base: Tensor | None = None,
    entry_base: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """See :func:`gnnscale.kernels.induced_subgraph`; clusters and window are not needed."""
    sizes = ends - starts
    cluster = row_index(pointers_of(sizes), int(sizes.sum()))
    within = torch.arange(cluster.numel(), device=cluster.device) - pointers_of(sizes)[cluster]
    nodes = starts[cluster] + within
    local = nodes.new_full((cluster_of.numel(),), -1)
    local[nodes] = torch.arange(nodes.numel(), device=nodes.device)
    rows = nodes if row_base is None else nodes - row_base[cluster]
    first = indptr[rows] if entry_base is None else indptr[rows] - entry_base[cluster]
    counts = indptr[rows + 1] - indptr[rows]
    pointers = pointers_of(counts)
    row = row_index(pointers, int(pointers[-1]))
    positions = (first - pointers[:-1])[row] + torch.arange(row.numel(), device=row.device)
    column = local[indices[positions].long()]
    kept = column >= 0
    degrees = torch.bincount(row[kept], minlength=nodes.numel())
    columns = column[kept].to(index_type(nodes.numel()))
    return pointers_of(degrees), columns, positions[kept] if with_positions else None

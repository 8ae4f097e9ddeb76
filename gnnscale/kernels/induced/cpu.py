"""The subgraph that a set of clusters induces, links between them included.

Storage is in cluster order, so a batch is a few row ranges and one pass over their entries that
drops the columns outside. Floor: every entry of the batch's rows is read with its column's cluster
(4 + 4 bytes, the second at random), and every kept one is written (4 bytes, 12 with positions).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels.threads import njit_serial

_INT32_MAX = 2**31 - 1


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
    """Return the adjacency among the nodes of ``clusters``, rows and columns in batch order.

    The batch's nodes are the ranges ``[starts[k], ends[k])`` one after the other. One serial pass
    without the GIL: it may run on a prefetch thread, each thread with its own scratch.

    Args:
        indptr: int64 ``[num_nodes + 1]``, rows in cluster order.
        indices: int32 or int64 ``[num_edges]``.
        cluster_of: int32 ``[num_nodes]``, the cluster of each node.
        starts: int64 ``[q]``, first node of each of the batch's clusters.
        ends: int64 ``[q]``, one past the last node taken from it (a view may take fewer than all).
        clusters: int64 ``[q]``, different from one another.
        window: int64 ``[num_parts, 2]``, scratch; zero on entry and left zero.
        with_positions: whether to return ``positions``.
        row_base: int64 ``[q]``. Where ``indptr`` holds only what was read for the batch, the row
            pointer of node ``i`` of cluster ``k`` stands at ``i - row_base[k]``; None for 0.
        entry_base: int64 ``[q]``, the same for ``indices``.

    Returns:
        ``(indptr, indices, positions)``: int64 ``[batch_nodes + 1]``; ``[batch_edges]``, int32
        where the batch has fewer than 2**31 nodes; int64 ``[batch_edges]``, where each kept edge
        stands in ``indices`` (None where not asked for).
    """
    row_base = torch.zeros_like(starts) if row_base is None else row_base
    entry_base = torch.zeros_like(starts) if entry_base is None else entry_base
    total, most = (
        int(value)
        for value in _sizes(indptr.numpy(), starts.numpy(), ends.numpy(), row_base.numpy())
    )
    local_indptr = torch.empty(total + 1, dtype=torch.int64)
    # Pages past the kept edges are never touched, so the view that is returned costs what it holds.
    local_indices = torch.empty(most, dtype=torch.int32 if total <= _INT32_MAX else torch.int64)
    positions = torch.empty(most if with_positions else 0, dtype=torch.int64)
    kept = _induced_kernel(
        indptr.numpy(),
        indices.numpy(),
        cluster_of.numpy(),
        starts.numpy(),
        ends.numpy(),
        clusters.numpy(),
        window.numpy(),
        row_base.numpy(),
        entry_base.numpy(),
        with_positions,
        local_indptr.numpy(),
        local_indices.numpy(),
        positions.numpy(),
    )
    return local_indptr, local_indices[:kept], positions[:kept] if with_positions else None


def induced_subgraph_reference(
    indptr: Tensor,
    indices: Tensor,
    starts: Tensor,
    ends: Tensor,
    with_positions: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return what :func:`induced_subgraph` returns, in plain PyTorch with O(num_nodes) memory."""
    num_nodes = indptr.numel() - 1
    ranges = [torch.arange(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
    nodes = torch.cat([torch.empty(0, dtype=torch.int64), *ranges])
    local = torch.full((num_nodes,), -1, dtype=torch.int64)
    local[nodes] = torch.arange(nodes.numel())
    counts = indptr[nodes + 1] - indptr[nodes]
    first = indptr[nodes] - (counts.cumsum(0) - counts)
    positions = torch.repeat_interleave(first, counts) + torch.arange(int(counts.sum()))
    row = torch.repeat_interleave(torch.arange(nodes.numel()), counts)
    column = local[indices[positions].long()]
    kept = column >= 0
    degrees = torch.bincount(row[kept], minlength=nodes.numel())
    local_indptr = torch.cat([torch.zeros(1, dtype=torch.int64), degrees.cumsum(0)])
    dtype = torch.int32 if nodes.numel() <= _INT32_MAX else torch.int64
    return local_indptr, column[kept].to(dtype), positions[kept] if with_positions else None


@njit_serial
def _sizes(indptr, starts, ends, row_base):  # type: ignore[no-untyped-def]
    nodes = 0
    edges = 0
    for k in range(starts.shape[0]):
        nodes += ends[k] - starts[k]
        edges += indptr[ends[k] - row_base[k]] - indptr[starts[k] - row_base[k]]
    return nodes, edges


@njit_serial
def _induced_kernel(  # type: ignore[no-untyped-def]
    indptr,
    indices,
    cluster_of,
    starts,
    ends,
    clusters,
    window,
    row_base,
    entry_base,
    with_positions,
    local_indptr,
    local_indices,
    positions,
):
    # Of every cluster one past its last node in the batch, and how far its nodes are shifted; side
    # by side, so that both come in one read. No node lies below the 0 of the clusters left out.
    offset = 0
    for k in range(clusters.shape[0]):
        window[clusters[k], 0] = ends[k]
        window[clusters[k], 1] = offset - starts[k]
        offset += ends[k] - starts[k]
    kept = 0
    row = 0
    local_indptr[0] = 0
    for k in range(clusters.shape[0]):
        rows = row_base[k]
        entries = entry_base[k]
        for i in range(starts[k] - rows, ends[k] - rows):
            for e in range(indptr[i] - entries, indptr[i + 1] - entries):
                j = np.int64(indices[e])
                cluster = cluster_of[j]
                # Written first and kept or not after: half of all edges leave a batch, and a
                # branch would be mispredicted as often.
                local_indices[kept] = j + window[cluster, 1]
                if with_positions:
                    positions[kept] = e
                kept += j < window[cluster, 0]
            row += 1
            local_indptr[row] = kept
    for k in range(clusters.shape[0]):
        window[clusters[k]] = 0
    return kept

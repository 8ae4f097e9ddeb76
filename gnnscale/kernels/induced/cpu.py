"""The induced subgraph in one serial pass without the GIL: it may run on a prefetch thread."""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels.structure.reference import index_type
from gnnscale.kernels.threads import njit_serial


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
    """See :func:`gnnscale.kernels.induced_subgraph`."""
    begins, columns, parts, low, high = (
        tensor.numpy() for tensor in (indptr, indices, cluster_of, starts, ends)
    )
    rows = np.zeros_like(low) if row_base is None else row_base.numpy()
    entries = np.zeros_like(low) if entry_base is None else entry_base.numpy()
    total, most = (int(value) for value in _sizes(begins, low, high, rows))
    local_indptr = torch.empty(total + 1, dtype=torch.int64)
    # Pages past the kept edges are never touched, so the view that is returned costs what it holds.
    local_indices = torch.empty(most, dtype=index_type(total))
    positions = torch.empty(most if with_positions else 0, dtype=torch.int64)
    batch = (low, high, clusters.numpy(), window.numpy(), rows, entries, with_positions)
    out = (tensor.numpy() for tensor in (local_indptr, local_indices, positions))
    kept = _induced(begins, columns, parts, *batch, *out)
    return local_indptr, local_indices[:kept], positions[:kept] if with_positions else None


@njit_serial
def _sizes(indptr, starts, ends, row_base):
    nodes = 0
    edges = 0
    for k in range(starts.shape[0]):
        nodes += ends[k] - starts[k]
        edges += indptr[ends[k] - row_base[k]] - indptr[starts[k] - row_base[k]]
    return nodes, edges


@njit_serial
def _induced(
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

"""The subgraph that a set of clusters induces, links between them included.

Storage is in cluster order, so a batch is a few row ranges and one pass over their entries that
drops the columns outside. Floor: every entry of the batch's rows is read with its column's cluster
(4 + 4 bytes, the second at random), and every kept one is written (4 bytes, 12 with positions).
"""

from __future__ import annotations

from torch import Tensor

from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.induced import reference


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

    The batch's nodes are the ranges ``[starts[k], ends[k])`` one after the other. On the CPU it may
    run on a prefetch thread, each thread with its own scratch.

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
    run, stored = dispatch(reference.induced_subgraph, indices.device), (indptr, indices)
    batch = (starts, ends, clusters)
    return run(*stored, cluster_of, *batch, window, with_positions, row_base, entry_base)

"""Rows and edges sorted, moved and renumbered in place, in a graph built piece by piece.

These are of NumPy arrays, which the host has: there is nothing to choose, and callers take the
kernels as they are.
"""

from gnnscale.kernels.rows.cpu import (
    copy_rows,
    merge_equal,
    order_by_part,
    renumber,
    sort_edges,
    sort_rows,
    sorting_order,
    spread_edges,
)

__all__ = [
    "copy_rows",
    "merge_equal",
    "order_by_part",
    "renumber",
    "sort_edges",
    "sort_rows",
    "sorting_order",
    "spread_edges",
]

"""Rows of a batch's clusters: copied out of memory, or read by range from files.

Each row is copied once. Nothing is ever touched through a map: its pages would stay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gnnscale.graph.adjacency import slice_rows
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped, read_ranges

Ranges = list[tuple[int, int]]
_HALF = (torch.float16, torch.bfloat16)


def take_features(x: Tensor | CSR | None, ranges: Ranges) -> Tensor | CSR | None:
    """The features of all ranges; those stored in half precision as float32."""
    if x is None:
        return None
    if isinstance(x, Tensor):
        rows = read_ranges(x, ranges)
        return rows.float() if rows.dtype in _HALF else rows
    if not is_mapped(x.indices):  # one pass, where slices cost as much as some hundred rows
        taken = x.select_rows(_ids_of(ranges))
        taken.t()  # the first layer's gradient reads the transpose: made here, off the main thread
        return taken
    parts = [slice_rows(x, start, stop) for start, stop in ranges]
    counts = torch.cat([part.indptr.diff() for part in parts])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    indices = torch.cat([part.indices for part in parts])
    values = [part.values for part in parts if part.values is not None]
    shape = (counts.numel(), x.shape[1])
    sparse = CSR(indptr, indices, torch.cat(values) if values else None, shape)
    sparse.t()  # as above
    return sparse


def _ids_of(ranges: Ranges) -> Tensor:
    """The rows `start` up to `stop` of all ranges, one after the other, int64."""
    bounds = np.array(ranges, dtype=np.int64).reshape(-1, 2)
    counts = bounds[:, 1] - bounds[:, 0]
    ends = counts.cumsum()
    return torch.from_numpy(np.arange(counts.sum()) + np.repeat(bounds[:, 1] - ends, counts))


class TakenRows:
    """Row pointers and entries of some ranges of an adjacency, as `induced_subgraph` takes them.

    Attributes:
        indptr: int64, those of the ranges one after the other; all of them in memory.
        indices: likewise.
        row_base: int64 `[ranges]`: the pointer of node i of range k is `indptr[i - row_base[k]]`.
        entry_base: int64 `[ranges]`, the same for `indices`.
    """

    def __init__(self, a: CSR, ranges: Ranges) -> None:
        self._entries: Ranges | None = None
        self.indptr, self.indices = a.indptr, a.indices
        self.row_base = self.entry_base = torch.zeros(len(ranges), dtype=torch.int64)
        if not is_mapped(a.indices):
            return
        # A range of n rows has n + 1 pointers.
        self.indptr = read_ranges(a.indptr, [(start, stop + 1) for start, stop in ranges])
        sizes = torch.tensor([stop - start for start, stop in ranges])
        last = (sizes + 1).cumsum(0) - 1
        self.row_base = torch.tensor([start for start, _ in ranges]) - (last - sizes)
        low, high = self.indptr[last - sizes], self.indptr[last]
        self._entries = list(zip(low.tolist(), high.tolist(), strict=True))
        self.indices = read_ranges(a.indices, self._entries)
        self.entry_base = low - ((high - low).cumsum(0) - (high - low))

    def carried(self, values: Tensor | None, positions: Tensor | None) -> Tensor | None:
        """What edges carry, at positions among the entries taken."""
        if values is None:
            return None
        return (values if self._entries is None else read_ranges(values, self._entries))[positions]

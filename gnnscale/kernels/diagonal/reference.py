"""Sums of diagonal entries and of others, in plain PyTorch: the host waits for no device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR


class RowSums(NamedTuple):
    """Of each row, `[rows]`.

    Attributes:
        diagonal: float64, the sum of its diagonal entries.
        others: float64, the sum of its other entries.
        last: float64, its last diagonal entry, or 0.
        has_diagonal: bool, whether a diagonal entry is stored, whatever its value.
    """

    diagonal: Tensor
    others: Tensor
    last: Tensor
    has_diagonal: Tensor


def row_sums(a: CSR, first: int = 0) -> RowSums:
    """See :func:`gnnscale.kernels.row_sums`."""
    own = a.indices == a.row_index + first
    weight = torch.ones(a.nnz, device=a.device) if a.values is None else a.values
    weight = weight.double()

    def summed(entries: Tensor) -> Tensor:
        zeros = torch.zeros(a.shape[0], dtype=torch.float64, device=a.device)
        return zeros.index_add_(0, a.row_index, entries)

    zero = torch.zeros_like(weight)
    place = torch.where(own, torch.arange(a.nnz, device=a.device), -1)
    place = place.new_full((a.shape[0],), -1).scatter_reduce_(0, a.row_index, place, "amax")
    found = place >= 0
    padded = torch.cat([weight, weight.new_zeros(1)])
    return RowSums(
        summed(torch.where(own, weight, zero)),
        summed(torch.where(own, zero, weight)),
        padded[place],  # the last place, -1, is the zero
        found,
    )

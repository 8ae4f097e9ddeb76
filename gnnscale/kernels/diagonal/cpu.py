"""The sums that normalisations are made of: of every row's diagonal entries, and of its others.

Floor: an entry's column is read once (4 bytes; 8 with its value), and 25 bytes a row are written.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.threads import njit_serial

_NATIVE = (torch.float32, torch.float64)


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
    """Sum the diagonal entries and the other entries of every row.

    On a GPU it does not make the host wait.

    Args:
        a: rows of a square matrix ``[rows, cols]``.
        first: which row of that matrix the first one is.
    """
    if a.device.type != "cpu" or (a.values is not None and a.values.dtype not in _NATIVE):
        return row_sums_reference(a, first)
    rows = a.shape[0]
    diagonal, others, last = torch.empty(3, rows, dtype=torch.float64)
    has_diagonal = torch.empty(rows, dtype=torch.bool)
    _kernel(
        *a.arrays(),
        np.empty(0, np.float32) if a.values is None else a.values.detach().numpy(),
        a.values is not None,
        first,
        diagonal.numpy(),
        others.numpy(),
        last.numpy(),
        has_diagonal.numpy(),
    )
    return RowSums(diagonal, others, last, has_diagonal)


def row_sums_reference(a: CSR, first: int = 0) -> RowSums:
    """Return what :func:`row_sums` returns, in plain PyTorch on any device."""
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


@njit_serial
def _kernel(  # type: ignore[no-untyped-def]
    indptr, indices, values, has_values, first, diagonal, others, last, has_diagonal
):
    for i in range(indptr.shape[0] - 1):
        own, rest, latest, found = 0.0, 0.0, 0.0, False
        for k in range(indptr[i], indptr[i + 1]):
            weight = np.float64(values[k]) if has_values else 1.0
            if indices[k] == i + first:
                own += weight
                latest = weight
                found = True
            else:
                rest += weight
        diagonal[i] = own
        others[i] = rest
        last[i] = latest
        has_diagonal[i] = found

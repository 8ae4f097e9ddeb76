"""Sums of diagonal entries and of others, in one pass."""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numpy as np
import torch

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.diagonal.reference import RowSums
from gnnscale.kernels.threads import njit_serial


def row_sums(a: CSR, first: int = 0) -> RowSums:
    """See the reference."""
    diagonal, others, last = torch.empty(3, a.shape[0], dtype=torch.float64)
    sums = RowSums(diagonal, others, last, torch.empty(a.shape[0], dtype=torch.bool))
    values = np.empty(0, np.float32) if a.values is None else a.values.detach().numpy()
    _row_sums(*a.arrays(), values, a.values is not None, first, *(part.numpy() for part in sums))
    return sums


@njit_serial
def _row_sums(indptr, indices, values, has_values, first, diagonal, others, last, has_diagonal):
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

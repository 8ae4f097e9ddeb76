"""The sums that normalisations are made of: of every row's diagonal entries, and of its others.

Floor: an entry's column is read once (4 bytes; 8 with its value), and 25 bytes a row are written.
"""

from __future__ import annotations

import torch

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.diagonal import reference
from gnnscale.kernels.diagonal.reference import RowSums
from gnnscale.kernels.dispatch import dispatch


def row_sums(a: CSR, first: int = 0) -> RowSums:
    """Sum the diagonal entries and the other entries of every row.

    Args:
        a: rows of a square matrix ``[rows, cols]``.
        first: which row of that matrix the first one is.
    """
    dtype = torch.float32 if a.values is None else a.values.dtype
    return dispatch(reference.row_sums, a.device, dtype)(a, first)

"""Sparse products in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR

Given = Tensor | None  # or left out


def spmm(
    a: CSR,
    x: Tensor,
    left: Given = None,
    right: Given = None,
    diag: Given = None,
    x_self: Given = None,
) -> Tensor:
    """See :func:`gnnscale.kernels.spmm`; half precision is summed in it."""
    values = a.scaled_values(x.dtype, left, right)
    out = torch.zeros(a.shape[0], x.shape[1], dtype=x.dtype, device=x.device)
    out.index_add_(0, a.row_index, x.index_select(0, a.indices) * values.unsqueeze(1))
    if diag is None:
        return out
    return out + diag.to(x.dtype).unsqueeze(1) * (x if x_self is None else x_self.to(x.dtype))


def transposed_product(x: CSR, grad: Tensor) -> Tensor:
    """Return ``x.t() @ grad``.

    Args:
        x: ``[rows, cols]``.
        grad: ``[rows, channels]``.
    """
    return spmm(x.t(), grad)

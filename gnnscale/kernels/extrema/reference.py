"""The extremum over neighbours, and its gradient, in plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR


def extremum(x: Tensor, a: CSR, sign: float) -> Tensor:
    """Return the maximum over the entries of every row, or with sign −1 the minimum.

    Autograd finds the gradient of this one by itself.

    Args:
        x: floating ``[cols, channels]``.
        a: ``[rows, cols]``.
        sign: 1 or −1.
    """
    index = a.row_index.unsqueeze(1).expand(-1, x.shape[1])
    # Not from zeros: torch gives them a share of the gradient where they equal the extremum, even
    # with include_self=False.
    start = x.new_full((a.shape[0], x.shape[1]), -sign * math.inf)
    kind = "amax" if sign > 0 else "amin"
    out = start.scatter_reduce(0, index, x.index_select(0, a.indices), kind, include_self=False)
    return out.masked_fill((a.indptr.diff() == 0).unsqueeze(1), 0)


def extremum_gradient(grad: Tensor, x: Tensor, out: Tensor, a: CSR, symmetric: bool) -> Tensor:
    """Return the gradient of ``x``: shared equally among the entries that attain the extremum.

    Args:
        grad: ``[rows, channels]``, the gradient of ``out``.
        x: that was given.
        out: that came out.
        a: that was given.
        symmetric: whether the structure of ``a`` equals its transpose.
    """
    row, wide = a.row_index, torch.promote_types(x.dtype, torch.float32)
    attains = x.index_select(0, a.indices) == out.index_select(0, row)
    count = torch.zeros_like(out, dtype=wide).index_add_(0, row, attains.to(wide))
    share = (grad / count.clamp(min=1)).index_select(0, row).masked_fill_(~attains, 0)
    return torch.zeros_like(x, dtype=wide).index_add_(0, a.indices, share).to(x.dtype)

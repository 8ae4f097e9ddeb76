"""Gradients of the two products with a sparse matrix: propagation, and sparse features times W.

Floor: one :func:`~gnnscale.kernels.spmm.spmm` forward and one backward; no edge-sized tensor is
made or kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.spmm import spmm


def propagate(
    x: Tensor,
    a: CSR,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diag: Tensor | None = None,
    symmetric: bool = False,
) -> Tensor:
    """Return ``(diag(left) @ a @ diag(right) + diag(diag)) @ x``, differentiable in ``x``.

    The gradient is ``(diag(right) @ a.t() @ diag(left) + diag(diag)) @ g``. Where structure and
    values of ``a`` are symmetric, ``a`` itself stands for its transpose, whatever left and right.

    Args:
        x: ``[num_nodes, channels]``.
        a: ``[num_nodes, num_nodes]`` (``[rows, num_nodes]`` where ``diag`` is None).
        left: ``[num_nodes]`` or None (ones); no gradient.
        right: ``[num_nodes]`` or None (ones); no gradient.
        diag: ``[num_nodes]`` or None (zeros); no gradient.
        symmetric: whether ``a`` equals its transpose.

    Raises:
        InputError: shapes do not fit together.
    """
    if x.requires_grad and torch.is_grad_enabled():
        return _Propagate.apply(x, a, left, right, diag, symmetric)
    return spmm(a, x, left, right, diag)


def sparse_linear(x: CSR, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` of sparse features, differentiable in weight and bias.

    Args:
        x: features ``[num_nodes, in_channels]``.
        weight: ``[out_channels, in_channels]``.
        bias: ``[out_channels]`` or None.

    Raises:
        InputError: ``weight`` has another number of input channels than ``x``.
    """
    out = _SparseLinear.apply(x, weight)
    return out if bias is None else out + bias


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: CSR,
        left: Tensor | None,
        right: Tensor | None,
        diag: Tensor | None,
        symmetric: bool,
    ) -> Tensor:
        ctx.operator = (a, left, right, diag, symmetric)
        return spmm(a, x, left, right, diag)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, left, right, diag, symmetric = ctx.operator
        back = a if symmetric else a.t()
        return spmm(back, grad, left=right, right=left, diag=diag), None, None, None, None, None


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: CSR, weight: Tensor) -> Tensor:
        ctx.x = x
        return spmm(x, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, spmm(ctx.x.t(), grad).t()

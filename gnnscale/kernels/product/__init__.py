"""Gradients of the two products with a sparse matrix: propagation, and sparse features times W.

Floor: one :func:`~gnnscale.kernels.spmm.spmm` forward and one backward; no edge-sized tensor is
made or kept.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.lanes import add_row, store_row, zero_lanes
from gnnscale.kernels.spmm import spmm
from gnnscale.kernels.threads import njit_parallel

_SLICE = 32  # channels that a thread takes at a time
_IN_CACHE = 4 << 20  # bytes of a gradient that is summed entry by entry, anywhere in it


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
    @override
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
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, left, right, diag, symmetric = ctx.operator
        back = a if symmetric else a.t()
        return spmm(back, grad, left=right, right=left, diag=diag), None, None, None, None, None


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: CSR, weight: Tensor) -> Tensor:
        ctx.x = x
        return spmm(x, weight.t())

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _transposed_product(ctx.x, grad).t()


def _transposed_product(x: CSR, grad: Tensor) -> Tensor:
    """Return ``x.t() @ grad``; of a batch, seen once, without making the transpose."""
    known = x.values is None or x.values.dtype == grad.dtype
    native = x.device.type == "cpu" and grad.dtype in (torch.float32, torch.float64)
    fits = x.shape[1] * grad.size(1) * grad.dtype.itemsize <= _IN_CACHE
    if not (known and native and fits) or x.is_reused:
        return spmm(x.t(), grad)
    x.is_reused = True
    out = grad.new_zeros(x.shape[1], grad.size(1))
    values = grad.new_empty(0) if x.values is None else x.values.detach()
    _add_rows(
        *x.arrays(),
        values.numpy(),
        x.values is not None,
        grad.detach().contiguous().numpy(),
        out.numpy(),
    )
    return out


@njit_parallel
def _add_rows(indptr, indices, values, has_values, grad, out):  # type: ignore[no-untyped-def]
    # Every thread goes through all entries, for channels of its own: no two write to one place, and
    # the sums are those of the transpose, in its order.
    width = grad.shape[1]
    matrix = (indptr, indices, values, has_values)
    for task in numba.prange((width + _SLICE - 1) // _SLICE):
        f = task * _SLICE
        if width - f >= _SLICE:
            _add_channels(zero_lanes(grad, _SLICE), f, matrix, grad, out)
            f = width
        while width - f >= 8:
            _add_channels(zero_lanes(grad, 8), f, matrix, grad, out)
            f += 8
        while f < width:
            _add_channels(zero_lanes(grad, 1), f, matrix, grad, out)
            f += 1


@numba.njit
def _add_channels(zeros, f, matrix, grad, out):  # type: ignore[no-untyped-def]
    indptr, indices, values, has_values = matrix
    one = grad.dtype.type(1)
    for i in range(indptr.shape[0] - 1):
        for k in range(indptr[i], indptr[i + 1]):
            j = np.uint64(indices[k])
            total = add_row(zeros, one, out, j, f)
            total = add_row(total, values[k] if has_values else one, grad, i, f)
            store_row(total, out, j, f)

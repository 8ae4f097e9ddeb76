"""Sparse matrix times dense matrix, the propagation of every convolution, and its gradients.

Floor: one row of ``x`` is read for every entry, ``nnz * width * itemsize`` bytes out of the cache
(64 MB at 40,000 entries of width 400 in float32), and ``rows * width`` values are written. A
gradient is one more such product; no edge-sized tensor is made or kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.product import reference
from gnnscale.kernels.product.reference import Given

_IN_CACHE = 4 << 20  # bytes of a gradient that is summed entry by entry, anywhere in it


def spmm(
    a: CSR,
    x: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diag: Tensor | None = None,
    x_self: Tensor | None = None,
) -> Tensor:
    """Return ``diag(left) @ a @ diag(right) @ x + diag(diag) @ x_self``, without a gradient.

    Numba on CPU, Triton or cuSPARSE on CUDA, plain PyTorch otherwise. Half precision is summed in
    float32 and rounded once.

    Args:
        a: matrix ``[rows, cols]``.
        x: ``[cols, channels]``.
        left: ``[rows]``, or None (ones).
        right: ``[cols]``, or None (ones).
        diag: ``[rows]``, or None (zeros).
        x_self: ``[rows, channels]``, what ``diag`` multiplies; ``x`` where it is not given.

    Returns:
        ``[rows, channels]`` in the dtype of ``x``.

    Raises:
        InputError: shapes do not fit together.
    """
    _check(a, x, left, right, diag, x_self)
    return dispatch(reference.spmm, x.device, x.dtype)(a, x, left, right, diag, x_self)


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
        ctx: Any, x: Tensor, a: CSR, left: Given, right: Given, diag: Given, symmetric: bool
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
    product = dispatch(reference.transposed_product, grad.device, grad.dtype)
    fits = x.shape[1] * grad.size(1) * grad.dtype.itemsize <= _IN_CACHE
    if x.is_reused or not fits or product is reference.transposed_product:
        return spmm(x.t(), grad)
    x.is_reused = True
    return product(x, grad)


def _check(a: CSR, x: Tensor, left: Given, right: Given, diag: Given, x_self: Given) -> None:
    """Raise for shapes that do not fit: the compiled kernel would read outside its arrays."""
    rows, cols = a.shape
    faults = []
    if x.dim() != 2 or x.shape[0] != cols:
        faults.append(f"x has shape {[*x.shape]}, expected [{cols}, channels] for {a}")
    vectors = (("left", left, rows), ("right", right, cols), ("diag", diag, rows))
    for name, vector, length in vectors:
        if vector is not None and (vector.dim() != 1 or vector.shape[0] != length):
            faults.append(f"{name} has shape {[*vector.shape]}, expected [{length}] for {a}")
    if diag is not None and x.dim() == 2:
        own = x if x_self is None else x_self
        if own.dim() != 2 or own.shape[0] != rows or own.shape[1] != x.shape[1]:
            faults.append(f"x_self has shape {[*own.shape]}, expected [{rows}, {x.shape[1]}]")
    if faults:
        raise InputError(faults)

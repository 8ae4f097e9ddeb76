"""The greatest or least value among the neighbours, channel by channel, and its gradient.

Floor: as :func:`~gnnscale.kernels.spmm.spmm`, one row of ``x`` is read for every entry. The
backward pass walks the entries twice more, rows first to count who attains the extremum, then
columns to gather: nothing is scattered, so no two threads write to one place, and no index of
``rows * channels`` entries is kept between the passes. torch-scatter reduces values that were first
gathered edge by edge, and is no backend here for that reason (``benchmarks/kernels.py``).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numba
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.cuda import has_triton
from gnnscale.kernels.threads import njit_parallel

_NATIVE = (torch.float32, torch.float64)


def extremum(
    x: Tensor, a: CSR, kind: Literal["max", "min"] = "max", symmetric: bool = False
) -> Tensor:
    """Return the extremum of ``x`` over the entries of every row of ``a``, differentiable in ``x``.

    Values of ``a`` are not read. The gradient is shared equally among the entries that attain the
    extremum.

    Args:
        x: floating ``[cols, channels]``.
        a: ``[rows, cols]``.
        kind: "max" or "min".
        symmetric: whether the structure of ``a`` equals its transpose.

    Returns:
        ``[rows, channels]``; 0 in rows without entries, NaN where an entry is.

    Raises:
        InputError: the shape of ``x`` does not fit, or there is no such kind.
    """
    if x.dim() != 2 or x.shape[0] != a.shape[1] or not x.is_floating_point():
        raise InputError(
            f"x is {x.dtype} {[*x.shape]}, expected floating [{a.shape[1]}, channels] for {a}"
        )
    if kind not in ("max", "min"):
        raise InputError(f"kind={kind!r}: 'max' or 'min'")
    sign = 1.0 if kind == "max" else -1.0
    if x.device.type == "cuda" and has_triton():
        from gnnscale.kernels import triton_extremum

        return triton_extremum.extremum(x, a, sign, symmetric)
    if x.device.type != "cpu":
        return extremum_reference(x, a, kind)
    if x.dtype not in _NATIVE:
        return extremum(x.float(), a, kind, symmetric).to(x.dtype)  # exact: nothing is summed
    return _Extremum.apply(x, a, sign, symmetric)


def extremum_reference(x: Tensor, a: CSR, kind: Literal["max", "min"] = "max") -> Tensor:
    """Return what :func:`extremum` returns, in plain PyTorch on any device."""
    index = a.row_index.unsqueeze(1).expand(-1, x.shape[1])
    # Not from zeros: torch gives them a share of the gradient where they equal the extremum, even
    # with include_self=False.
    start = x.new_full((a.shape[0], x.shape[1]), -math.inf if kind == "max" else math.inf)
    values = x.index_select(0, a.indices)
    out = start.scatter_reduce(0, index, values, f"a{kind}", include_self=False)
    return out.masked_fill((a.indptr.diff() == 0).unsqueeze(1), 0)


class _Extremum(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, a: CSR, sign: float, symmetric: bool) -> Tensor:
        rows = x.detach().contiguous()
        out = torch.empty(a.shape[0], x.shape[1], dtype=x.dtype)
        _extremum_kernel(*a.arrays(), rows.numpy(), sign, out.numpy())
        ctx.matrix = (a, symmetric)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        a, symmetric = ctx.matrix
        x, out = ctx.saved_tensors
        rows, extrema = x.detach().contiguous().numpy(), out.detach().numpy()
        share = torch.empty(out.shape, dtype=out.dtype)
        _share_kernel(
            *a.arrays(),
            rows,
            extrema,
            grad.detach().contiguous().numpy(),
            share.numpy(),
        )
        back = a if symmetric else a.t()
        result = torch.empty(x.shape, dtype=x.dtype)
        _gather_kernel(*back.arrays(), rows, extrema, share.numpy(), result.numpy())
        return result, None, None, None


# Rows are few microseconds each: numba's own chunks even out what hubs cost well enough.


@njit_parallel
def _extremum_kernel(indptr, indices, x, sign, out):  # type: ignore[no-untyped-def]
    for i in numba.prange(indptr.shape[0] - 1):
        first = indptr[i]
        target = out[i]
        if first == indptr[i + 1]:
            target[:] = 0
            continue
        target[:] = x[indices[first]]
        for k in range(first + 1, indptr[i + 1]):
            source = x[indices[k]]
            for f in range(x.shape[1]):
                value = source[f]
                better = value * sign > target[f] * sign or value != value
                target[f] = value if better else target[f]


@njit_parallel
def _share_kernel(indptr, indices, x, out, grad, share):  # type: ignore[no-untyped-def]
    one = share.dtype.type(1)
    for i in numba.prange(indptr.shape[0] - 1):
        count = share[i]
        count[:] = 0
        for k in range(indptr[i], indptr[i + 1]):
            source = x[indices[k]]
            for f in range(x.shape[1]):
                count[f] += one if source[f] == out[i, f] else 0
        for f in range(x.shape[1]):
            count[f] = grad[i, f] / count[f] if count[f] > 0 else 0


@njit_parallel
def _gather_kernel(indptr, indices, x, out, share, result):  # type: ignore[no-untyped-def]
    for j in numba.prange(indptr.shape[0] - 1):
        target = result[j]
        target[:] = 0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            for f in range(x.shape[1]):
                target[f] += share[i, f] if x[j, f] == out[i, f] else 0

"""The greatest or least value among the neighbours, channel by channel, and its gradient.

Floor: as of the sparse product, one row of ``x`` is read for every entry. The backward pass walks
the entries twice more, rows first to count who attains the extremum, then columns to gather:
nothing is scattered, so no two threads write to one place, and no index of ``rows * channels``
entries is kept between the passes. torch-scatter reduces values that were first gathered edge by
edge, and is no backend here for that reason (``benchmarks/kernels.py``).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.extrema import reference


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
    return _Extremum.apply(x, a, 1.0 if kind == "max" else -1.0, symmetric)


class _Extremum(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, a: CSR, sign: float, symmetric: bool) -> Tensor:
        out = dispatch(reference.extremum, x.device, x.dtype)(x, a, sign)
        ctx.matrix = (a, symmetric)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, out = ctx.saved_tensors
        gradient = dispatch(reference.extremum_gradient, x.device, x.dtype)
        return gradient(grad, x, out, *ctx.matrix), None, None, None

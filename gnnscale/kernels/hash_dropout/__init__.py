"""Activation and dropout together, with the masks of :mod:`gnnscale.kernels.dropout`.

ReLU and leaky ReLU are one pass each way. Floor: forward, every value is read and written once;
backward, two arrays are read and one is written. For ReLU the output alone tells where the gradient
passes; for leaky ReLU it tells the slope, and the hash is drawn again.

Any other activation is torch's own kernel, whose vectorised exponentials numba does not reach, and
the mask is multiplied into what it has just written: a pass more, but no array more, except where
the activation's own backward reads its output (tanh).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.kernels.cuda import runs_on_triton
from gnnscale.kernels.dropout import (
    _MASK32,
    _NATIVE,
    Key,
    _arguments,
    _bits,
    _check,
    _Dropout,
    _dropout,
    _dropout_native,
    _numpy_scalar,
    _row_bits,
    _rows,
    _scale,
    dropout,
    dropout_reference,
)
from gnnscale.kernels.threads import njit_parallel


def activation_dropout(
    x: Tensor, activation: Callable[[Tensor], Tensor], p: float, key: Key, node_id: Tensor
) -> Tensor:
    """Return ``dropout(activation(x), p, key, node_id)`` in as few passes and arrays as there are.

    Args:
        x: ``[rows, ...]``.
        activation: whose output is new memory that nobody else keeps: it may be written over.
        p: probability of a zero, 0 to 1.
        key: ``(seed, epoch, block)``.
        node_id: int64 ``[rows]``, the global node of each row.

    Raises:
        InputError: ``p`` is outside 0..1, or ``node_id`` does not have one entry a row.
    """
    if type(activation) is nn.ReLU:
        return relu_dropout(x, p, key, node_id)
    _check(p, x.shape[0], node_id)
    if p == 0:
        return activation(x)
    native = x.device.type == "cpu" and x.dtype in _NATIVE
    # The gradient reads the input's sign from the output: the slope must not turn it round.
    if native and type(activation) is nn.LeakyReLU and activation.negative_slope > 0:
        return _LeakyReluDropout.apply(x, activation.negative_slope, p, key, node_id)
    out = activation(x)
    if _may_write_over(out):
        return _DropoutInPlace.apply(out, p, key, node_id)
    return dropout(out, p, key, node_id)


def relu_dropout(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    """Return ``dropout(relu(x), p, key, node_id)`` in one pass; arguments as in :func:`dropout`."""
    _check(p, x.shape[0], node_id)
    if p == 0:
        return torch.relu(x)
    if x.requires_grad and torch.is_grad_enabled():
        return _ReluDropout.apply(x, p, key, node_id)
    return _dropout(x, p, key, node_id, True)


def relu_dropout_reference(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    """Return what :func:`relu_dropout` returns, bit for bit, in plain PyTorch on any device."""
    return dropout_reference(torch.relu(x), p, key, node_id)


def _may_write_over(out: Tensor) -> bool:
    """Whether a kernel can take it, and the activation's own backward does not read it (tanh)."""
    native = out.device.type == "cpu" and out.dtype in _NATIVE and out.is_contiguous()
    return native and not hasattr(type(out.grad_fn), "_saved_result")


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
        out = _dropout(x, p, key, node_id, True)
        ctx.save_for_backward(out)  # positive exactly where the gradient passes
        ctx.scale = _scale(p)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (out,) = ctx.saved_tensors
        if runs_on_triton(grad):
            from gnnscale.kernels import triton_dropout

            return triton_dropout.relu_backward(grad, out, ctx.scale), None, None, None
        if grad.device.type != "cpu" or grad.dtype not in _NATIVE:
            return torch.where(out > 0, grad * ctx.scale, 0), None, None, None
        result = torch.empty(grad.shape, dtype=grad.dtype)
        _relu_backward_kernel(
            grad.detach().contiguous().view(-1).numpy(),
            out.detach().contiguous().view(-1).numpy(),
            _numpy_scalar(ctx.scale, grad.dtype),
            result.view(-1).numpy(),
        )
        return result, None, None, None


class _LeakyReluDropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, slope: float, p: float, key: Key, node_id: Tensor) -> Tensor:
        out = _dropout_native(x, p, key, node_id, slope)
        ctx.save_for_backward(out)
        ctx.mask = (slope, p, key, node_id)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        slope, p, key, node_id = ctx.mask
        result = torch.empty(grad.shape, dtype=grad.dtype)
        _leaky_backward_kernel(
            _rows(grad.detach().contiguous()),
            _rows(out.detach()),
            _numpy_scalar(slope, grad.dtype),
            *_arguments(p, key, node_id, grad.dtype),
            _rows(result),
        )
        return result, None, None, None, None


class _DropoutInPlace(_Dropout):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
        ctx.mask = (p, key, node_id)
        ctx.mark_dirty(x)
        _mask_kernel(_rows(x.detach()), *_arguments(p, key, node_id, x.dtype))
        return x


@njit_parallel
def _relu_backward_kernel(grad, out, scale, result):  # type: ignore[no-untyped-def]
    zero = scale * 0
    for k in numba.prange(grad.shape[0]):
        result[k] = grad[k] * scale if out[k] > 0 else zero


@njit_parallel
def _leaky_backward_kernel(  # type: ignore[no-untyped-def]
    grad, out, slope, stream, nodes, threshold, scale, result
):
    zero = scale * 0
    for i in numba.prange(grad.shape[0]):
        row = _row_bits(stream, nodes[i])
        low = np.uint32(row & np.uint64(_MASK32))
        high = np.uint32(row >> np.uint64(32))
        source = grad[i]
        value = out[i]
        target = result[i]
        for c in range(grad.shape[1]):
            passed = source[c] * (scale if _bits(low, high, c) >= threshold else zero)
            target[c] = passed if value[c] > 0 else passed * slope


@njit_parallel
def _mask_kernel(x, stream, nodes, threshold, scale):  # type: ignore[no-untyped-def]
    # Not the kernel of dropout with one array given twice: where its two overlap, what the compiler
    # has put into vector registers does not run.
    zero = scale * 0
    for i in numba.prange(x.shape[0]):
        row = _row_bits(stream, nodes[i])
        low = np.uint32(row & np.uint64(_MASK32))
        high = np.uint32(row >> np.uint64(32))
        target = x[i]
        for c in range(x.shape[1]):
            target[c] *= scale if _bits(low, high, c) >= threshold else zero

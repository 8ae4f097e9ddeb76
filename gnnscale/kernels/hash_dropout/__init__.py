"""Dropout whose mask is a counter hash: a pure function of (seed, epoch, block, node, channel).

An element is therefore dropped or kept whatever the batch, the order of rows, the rank or the
number of threads, and the backward pass draws the mask again instead of keeping it.

Floor: every value is read once and written once, ``2 * rows * channels * itemsize`` bytes each way
(5.2 MB at 1,629 x 400 in float32). ReLU and leaky ReLU come in the same passes; backward, two
arrays are read and one is written: for ReLU the output alone tells where the gradient passes, for
leaky ReLU it tells the slope, and the hash is drawn again. Any other activation is torch's own
kernel, whose vectorised exponentials numba does not reach, and the mask is multiplied into what it
has just written: a pass more, but no array more, except where the activation's own backward reads
its output (tanh).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.hash_dropout import reference
from gnnscale.kernels.hash_dropout.hashing import SPLITMIX

Key = tuple[int, int, int]


def dropout(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    """Zero each element with probability ``p`` and scale the others by ``1 / (1 - p)``.

    Args:
        x: ``[rows, ...]``; what follows the first dimension is flattened into channels.
        p: probability of a zero, 0 to 1.
        key: ``(seed, epoch, block)``.
        node_id: int64 ``[rows]``, the global node of each row.

    Raises:
        InputError: ``p`` is outside 0..1, or ``node_id`` does not have one entry a row.
    """
    _check(p, x.shape[0], node_id)
    if p == 0:
        return x
    if x.requires_grad and torch.is_grad_enabled():
        return _Dropout.apply(x, p, stream_of(key), node_id)
    return dispatch(reference.dropout, x.device, x.dtype)(x, p, stream_of(key), node_id)


def dropout_csr(x: CSR, p: float, key: Key, node_id: Tensor) -> CSR:
    """Return :func:`dropout` of sparse features: the same mask, stored entries only, no gradient.

    Args:
        x: ``[rows, channels]``; the structure is shared with the result.
        p: probability of a zero, 0 to 1.
        key: ``(seed, epoch, block)``.
        node_id: int64 ``[rows]``, the global node of each row.

    Raises:
        InputError: ``p`` is outside 0..1, or ``node_id`` does not have one entry a row.
    """
    _check(p, x.shape[0], node_id)
    if p == 0:
        return x
    x.prove()
    values = x.scaled_values(torch.float32) if x.values is None else x.values
    of_entries = dispatch(reference.dropout_entries, x.device, values.dtype)
    kept = of_entries(values, x.indptr, x.indices, p, stream_of(key), node_id)
    return CSR(x.indptr, x.indices, kept, x.shape)


def relu_dropout(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    """Return ``dropout(relu(x), p, key, node_id)`` in one pass; arguments as in :func:`dropout`."""
    _check(p, x.shape[0], node_id)
    if p == 0:
        return torch.relu(x)
    if x.requires_grad and torch.is_grad_enabled():
        return _ReluDropout.apply(x, p, stream_of(key), node_id)
    return dispatch(reference.dropout, x.device, x.dtype)(x, p, stream_of(key), node_id, 0)


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
    # The gradient reads the input's sign from the output: the slope must not turn it round.
    if type(activation) is nn.LeakyReLU and activation.negative_slope > 0:
        gradient = dispatch(reference.leaky_gradient, x.device, x.dtype)
        if gradient is not reference.leaky_gradient:
            return _LeakyReluDropout.apply(x, activation.negative_slope, p, stream_of(key), node_id)
    out = activation(x)
    in_place = dispatch(reference.mask_in_place, out.device, out.dtype)
    # Not where the activation's own backward reads what it gave (tanh).
    if (
        in_place is not reference.mask_in_place
        and out.is_contiguous()
        and not hasattr(type(out.grad_fn), "_saved_result")
    ):
        return _DropoutInPlace.apply(out, p, stream_of(key), node_id)
    return dropout(out, p, key, node_id)


def stream_of(key: Key) -> int:
    """Return the 64-bit start of the stream of (seed, epoch, block)."""
    step, first, second = SPLITMIX
    z = 0
    for word in key:
        z = (z + int(word) + step) & (2**64 - 1)
        z = ((z ^ (z >> 30)) * first) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * second) & (2**64 - 1)
        z ^= z >> 31
    return z


def _check(p: float, rows: int, node_id: Tensor) -> None:
    faults = []
    if not 0 <= p <= 1:
        faults.append(f"dropout probability is {p}, expected 0 to 1")
    if node_id.dtype != torch.int64 or node_id.dim() != 1 or node_id.shape[0] != rows:
        faults.append(
            f"node_id is {node_id.dtype} {[*node_id.shape]}, expected torch.int64 [{rows}]"
        )
    if faults:
        raise InputError(faults)


class _Dropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, stream: int, node_id: Tensor) -> Tensor:
        ctx.mask = (p, stream, node_id)
        return dispatch(reference.dropout, x.device, x.dtype)(x, p, stream, node_id)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        out = dispatch(reference.dropout, grad.device, grad.dtype)(grad, *ctx.mask)
        return out, None, None, None


class _DropoutInPlace(_Dropout):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, stream: int, node_id: Tensor) -> Tensor:
        ctx.mask = (p, stream, node_id)
        ctx.mark_dirty(x)
        dispatch(reference.mask_in_place, x.device, x.dtype)(x, p, stream, node_id)
        return x


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, stream: int, node_id: Tensor) -> Tensor:
        out = dispatch(reference.dropout, x.device, x.dtype)(x, p, stream, node_id, 0)
        ctx.save_for_backward(out)
        ctx.p = p
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (out,) = ctx.saved_tensors
        gradient = dispatch(reference.relu_gradient, grad.device, grad.dtype)
        return gradient(grad, out, ctx.p), None, None, None


class _LeakyReluDropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(
        ctx: Any, x: Tensor, slope: float, p: float, stream: int, node_id: Tensor
    ) -> Tensor:
        out = dispatch(reference.dropout, x.device, x.dtype)(x, p, stream, node_id, slope)
        ctx.save_for_backward(out)
        ctx.mask = (slope, p, stream, node_id)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (out,) = ctx.saved_tensors
        gradient = dispatch(reference.leaky_gradient, grad.device, grad.dtype)
        return gradient(grad, out, *ctx.mask), None, None, None, None

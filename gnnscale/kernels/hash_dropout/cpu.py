"""Dropout whose mask is a counter hash: a pure function of (seed, epoch, block, node, channel).

An element is therefore dropped or kept whatever the batch, the order of rows, the rank or the
number of threads, and the backward pass draws the mask again instead of keeping it. A row's two
32-bit keys come from splitmix64 (Steele et al., OOPSLA 2014), an element's bits from the finaliser
of MurmurHash3 over its channel, cheap enough for the inner loop to run in vector registers.

Floor: every value is read once and written once, ``2 * rows * channels * itemsize`` bytes each way
(5.2 MB at 1,629 x 400 in float32).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.cuda import runs_on_triton
from gnnscale.kernels.threads import njit_parallel, njit_serial

Key = tuple[int, int, int]

_NATIVE = (torch.float32, torch.float64)
_MASK64 = 2**64 - 1
_MASK32 = 2**32 - 1
# splitmix64's increment and multipliers, then the golden ratio and MurmurHash3's in 32 bits.
_GOLDEN64 = 0x9E3779B97F4A7C15
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GOLDEN32 = 0x9E3779B1
_MURMUR1, _MURMUR2 = 0x85EBCA6B, 0xC2B2AE35


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
        return _Dropout.apply(x, p, key, node_id)
    return _dropout(x, p, key, node_id, False)


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
    values = x.values
    if values is None:
        values = torch.ones(x.nnz, dtype=torch.float32, device=x.device)
    if x.device.type == "cpu" and values.dtype in _NATIVE:
        kept = torch.empty_like(values)
        _dropout_csr_kernel(
            *x.arrays(),
            values.detach().contiguous().numpy(),
            *_arguments(p, key, node_id, values.dtype),
            kept.numpy(),
        )
    else:
        bits = _element_bits(row_keys(key, node_id)[x.row_index], x.indices.long())
        kept = _times_factor(values, bits, p)
    return CSR(x.indptr, x.indices, kept, x.shape)


def dropout_reference(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    """Return what :func:`dropout` returns, bit for bit, in plain PyTorch on any device."""
    _check(p, x.shape[0], node_id)
    return x if p == 0 else _reference(x, p, key, node_id)


def mask_rows(x: Tensor, p: float, keys: Tensor) -> Tensor:
    """Return what :func:`dropout` returns, in operations that ``torch.compile`` fuses.

    Args:
        x: ``[rows, channels]``.
        p: probability of a zero, 0 to 1.
        keys: :func:`row_keys` of the mask.
    """
    channel = torch.arange(x.shape[1], device=x.device)
    bits = _element_bits(keys.unsqueeze(1), channel)
    return _times_factor(x, bits, p)


class _Dropout(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
        ctx.mask = (p, key, node_id)
        return _dropout(x, p, key, node_id, False)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        p, key, node_id = ctx.mask
        return _dropout(grad, p, key, node_id, False), None, None, None


# -------------------------------------------------------------------- the mask


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


def _scale(p: float) -> float:
    return 0.0 if p == 1 else 1.0 / (1.0 - p)


def _threshold(p: float) -> int:
    """Return the least 32-bit hash that is kept (at p = 1 the scale is zero anyway)."""
    return min(round(p * 2**32), _MASK32)


def _splitmix64(z: int) -> int:
    z &= _MASK64
    z = ((z ^ (z >> 30)) * _MIX1) & _MASK64
    z = ((z ^ (z >> 27)) * _MIX2) & _MASK64
    return z ^ (z >> 31)


def _stream(key: Key) -> int:
    """Return the 64-bit start of the stream of (seed, epoch, block)."""
    state = 0
    for word in key:
        state = _splitmix64(state + int(word) + _GOLDEN64)
    return state


def _dropout(x: Tensor, p: float, key: Key, node_id: Tensor, relu: bool) -> Tensor:
    if runs_on_triton(x):
        from gnnscale.kernels import triton_dropout

        return triton_dropout.dropout(x, p, key, node_id, relu)
    if x.device.type != "cpu" or not x.is_floating_point():
        return _reference(torch.relu(x) if relu else x, p, key, node_id)
    if x.dtype not in _NATIVE:
        return _dropout(x.float(), p, key, node_id, relu).to(x.dtype)
    return _dropout_native(x, p, key, node_id, 0.0 if relu else 1.0)


def _dropout_native(x: Tensor, p: float, key: Key, node_id: Tensor, slope: float) -> Tensor:
    """Return dropout of ``x``, its values below zero multiplied by ``slope``; CPU, no gradient."""
    out = torch.empty(x.shape, dtype=x.dtype)
    _dropout_kernel(
        _rows(x.detach().contiguous()),
        _numpy_scalar(slope, x.dtype),
        *_arguments(p, key, node_id, x.dtype),
        _rows(out),
    )
    return out


def _rows(x: Tensor) -> np.ndarray:
    return x.view(x.shape[0], x[0].numel() if x.shape[0] else 0).numpy()


def _arguments(p: float, key: Key, node_id: Tensor, dtype: torch.dtype) -> tuple[Any, ...]:
    """Return ``(stream, nodes, threshold, scale)`` as the kernels take them."""
    # NumPy scalars fix the types: numba types a Python integer by its size.
    return (
        np.uint64(_stream(key)),
        node_id.contiguous().numpy(),
        np.uint32(_threshold(p)),
        _numpy_scalar(_scale(p), dtype),
    )


def _numpy_scalar(value: float, dtype: torch.dtype) -> np.floating[Any]:
    return np.float32(value) if dtype == torch.float32 else np.float64(value)


def _signed(word: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit word."""
    return word - 2**64 if word >= 2**63 else word


def row_keys(key: Key, node_id: Tensor) -> Tensor:
    """Return what a mask knows of its rows, int64 of the shape of ``node_id``.

    int64 multiplication wraps, and its low bits are those of the unsigned product.
    """
    row = node_id * _signed(_GOLDEN64) + _signed(_stream(key))
    row = (row ^ _shifted(row, 30)) * _signed(_MIX1)
    row = (row ^ _shifted(row, 27)) * _signed(_MIX2)
    return row ^ _shifted(row, 31)


def _shifted(word: Tensor, by: int) -> Tensor:
    return (word >> by) & (2 ** (64 - by) - 1)


def _element_bits(row: Tensor, channel: Tensor) -> Tensor:
    """Return the 32-bit hash, as int64, of row keys and channels broadcast together."""
    bits = ((row & _MASK32) + channel * _GOLDEN32) & _MASK32
    bits = ((bits ^ (bits >> 16)) * _MURMUR1) & _MASK32
    bits = ((bits ^ (bits >> 13) ^ _shifted(row, 32)) * _MURMUR2) & _MASK32
    return bits ^ (bits >> 16)


def _times_factor(x: Tensor, bits: Tensor, p: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)  # half precision would round the scale
    kept = torch.full((), _scale(p), dtype=wide, device=bits.device)
    return (x * torch.where(bits >= _threshold(p), kept, torch.zeros_like(kept))).to(x.dtype)


def _reference(x: Tensor, p: float, key: Key, node_id: Tensor) -> Tensor:
    rows = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
    return mask_rows(rows, p, row_keys(key, node_id)).view(x.shape)


# -------------------------------------------------------------------- kernels


@numba.njit(inline="always")
def _row_bits(stream, node):  # type: ignore[no-untyped-def]
    row = np.uint64(node) * np.uint64(_GOLDEN64) + stream
    row = (row ^ (row >> np.uint64(30))) * np.uint64(_MIX1)
    row = (row ^ (row >> np.uint64(27))) * np.uint64(_MIX2)
    return row ^ (row >> np.uint64(31))


@numba.njit(inline="always")
def _bits(low, high, channel):  # type: ignore[no-untyped-def]
    # Every step is cut back to 32 bits: numba widens uint32 arithmetic to uint64.
    bits = np.uint32(low + np.uint32(channel) * np.uint32(_GOLDEN32))
    bits = np.uint32(np.uint32(bits ^ np.uint32(bits >> np.uint32(16))) * np.uint32(_MURMUR1))
    bits = np.uint32(bits ^ np.uint32(bits >> np.uint32(13)) ^ high)
    bits = np.uint32(bits * np.uint32(_MURMUR2))
    return np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))


@njit_parallel
def _dropout_kernel(x, slope, stream, nodes, threshold, scale, out):  # type: ignore[no-untyped-def]
    zero = scale * 0
    for i in numba.prange(x.shape[0]):
        row = _row_bits(stream, nodes[i])
        low = np.uint32(row & np.uint64(_MASK32))
        high = np.uint32(row >> np.uint64(32))
        source = x[i]
        target = out[i]
        for c in range(x.shape[1]):
            value = source[c]
            # Written so that NaN is kept and ReLU takes −∞ to 0, and multiplied by the factor so
            # that a dropped NaN or infinity shows, as in torch.
            below = zero if slope == 0 else value * slope
            value = below if value <= 0 else value
            target[c] = value * (scale if _bits(low, high, c) >= threshold else zero)


@njit_serial
def _dropout_csr_kernel(  # type: ignore[no-untyped-def]
    indptr, indices, values, stream, nodes, threshold, scale, out
):
    zero = scale * 0
    for i in range(indptr.shape[0] - 1):
        row = _row_bits(stream, nodes[i])
        low = np.uint32(row & np.uint64(_MASK32))
        high = np.uint32(row >> np.uint64(32))
        for k in range(indptr[i], indptr[i + 1]):
            keep = _bits(low, high, indices[k]) >= threshold
            out[k] = values[k] * (scale if keep else zero)

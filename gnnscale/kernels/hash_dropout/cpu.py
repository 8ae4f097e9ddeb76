"""Dropout and activations on the CPU: the hash is cheap enough for vector registers."""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels.hash_dropout import hashing
from gnnscale.kernels.hash_dropout.hashing import MASK32, scale_of, threshold_of
from gnnscale.kernels.threads import njit_parallel, njit_serial

_GOLDEN64, _MIX1, _MIX2 = hashing.SPLITMIX
_GOLDEN32, _MURMUR1, _MURMUR2 = hashing.MURMUR


def dropout(x: Tensor, p: float, stream: int, node_id: Tensor, slope: float = 1) -> Tensor:
    """See the reference."""
    if x.dtype not in (torch.float32, torch.float64):
        return dropout(x.float(), p, stream, node_id, slope).to(x.dtype)
    out = torch.empty(x.shape, dtype=x.dtype)
    rows, mask = _rows(x.detach().contiguous()), _mask_of(p, stream, node_id, x.dtype)
    _dropout(rows, _scalar(slope, x.dtype), *mask, _rows(out))
    return out


def dropout_entries(
    values: Tensor, indptr: Tensor, indices: Tensor, p: float, stream: int, node_id: Tensor
) -> Tensor:
    """See the reference."""
    out, given = torch.empty_like(values), values.detach().contiguous().numpy()
    mask = _mask_of(p, stream, node_id, values.dtype)
    _dropout_entries(indptr.numpy(), indices.numpy(), given, *mask, out.numpy())
    return out


def mask_in_place(x: Tensor, p: float, stream: int, node_id: Tensor) -> None:
    """See the reference."""
    _mask(_rows(x.detach()), *_mask_of(p, stream, node_id, x.dtype))


def relu_gradient(grad: Tensor, out: Tensor, p: float) -> Tensor:
    """See the reference."""
    result = torch.empty(grad.shape, dtype=grad.dtype)
    given, came = (tensor.detach().contiguous().view(-1).numpy() for tensor in (grad, out))
    _relu_gradient(given, came, _scalar(scale_of(p), grad.dtype), result.view(-1).numpy())
    return result


def leaky_gradient(
    grad: Tensor, out: Tensor, slope: float, p: float, stream: int, node_id: Tensor
) -> Tensor:
    """See the reference."""
    result = torch.empty(grad.shape, dtype=grad.dtype)
    given, came = (_rows(tensor.detach().contiguous()) for tensor in (grad, out))
    mask = _mask_of(p, stream, node_id, grad.dtype)
    _leaky_gradient(given, came, _scalar(slope, grad.dtype), *mask, _rows(result))
    return result


def _rows(x: Tensor) -> np.ndarray:
    return x.view(x.shape[0], x[0].numel() if x.shape[0] else 0).numpy()


def _mask_of(p: float, stream: int, node_id: Tensor, dtype: torch.dtype) -> tuple[Any, ...]:
    """Return ``(stream, nodes, threshold, scale)`` as the kernels take them."""
    # NumPy scalars fix the types: numba types a Python integer by its size.
    begin, threshold = np.uint64(stream), np.uint32(threshold_of(p))
    return begin, node_id.contiguous().numpy(), threshold, _scalar(scale_of(p), dtype)


def _scalar(value: float, dtype: torch.dtype) -> np.floating[Any]:
    return np.float32(value) if dtype == torch.float32 else np.float64(value)


@numba.njit(inline="always")
def _row_keys(stream, node):
    row = np.uint64(node) * np.uint64(_GOLDEN64) + stream
    row = (row ^ (row >> np.uint64(30))) * np.uint64(_MIX1)
    row = (row ^ (row >> np.uint64(27))) * np.uint64(_MIX2)
    row ^= row >> np.uint64(31)
    return np.uint32(row & np.uint64(MASK32)), np.uint32(row >> np.uint64(32))


@numba.njit(inline="always")
def _bits(low, high, channel):
    # Every step is cut back to 32 bits: numba widens uint32 arithmetic to uint64.
    bits = np.uint32(low + np.uint32(channel) * np.uint32(_GOLDEN32))
    bits = np.uint32(np.uint32(bits ^ np.uint32(bits >> np.uint32(16))) * np.uint32(_MURMUR1))
    bits = np.uint32(bits ^ np.uint32(bits >> np.uint32(13)) ^ high)
    bits = np.uint32(bits * np.uint32(_MURMUR2))
    return np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))


@njit_parallel
def _dropout(x, slope, stream, nodes, threshold, scale, out):
    zero = scale * 0
    for i in numba.prange(x.shape[0]):
        low, high = _row_keys(stream, nodes[i])
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
def _dropout_entries(indptr, indices, values, stream, nodes, threshold, scale, out):
    zero = scale * 0
    for i in range(indptr.shape[0] - 1):
        low, high = _row_keys(stream, nodes[i])
        for k in range(indptr[i], indptr[i + 1]):
            keep = _bits(low, high, indices[k]) >= threshold
            out[k] = values[k] * (scale if keep else zero)


@njit_parallel
def _relu_gradient(grad, out, scale, result):
    zero = scale * 0
    for k in numba.prange(grad.shape[0]):
        result[k] = grad[k] * scale if out[k] > 0 else zero


@njit_parallel
def _leaky_gradient(grad, out, slope, stream, nodes, threshold, scale, result):
    zero = scale * 0
    for i in numba.prange(grad.shape[0]):
        low, high = _row_keys(stream, nodes[i])
        source = grad[i]
        value = out[i]
        target = result[i]
        for c in range(grad.shape[1]):
            passed = source[c] * (scale if _bits(low, high, c) >= threshold else zero)
            target[c] = passed if value[c] > 0 else passed * slope


@njit_parallel
def _mask(x, stream, nodes, threshold, scale):
    # Not the kernel of dropout with one array given twice: where its two overlap, what the compiler
    # has put into vector registers does not run.
    zero = scale * 0
    for i in numba.prange(x.shape[0]):
        low, high = _row_keys(stream, nodes[i])
        target = x[i]
        for c in range(x.shape[1]):
            target[c] *= scale if _bits(low, high, c) >= threshold else zero

"""Dropout by the counter hash, and its gradients after an activation, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.hash_dropout import hashing
from gnnscale.kernels.hash_dropout.hashing import MASK32, scale_of, threshold_of
from gnnscale.kernels.structure.reference import row_index
from gnnscale.kernels.words import shifted, signed

_GOLDEN64, _MIX1, _MIX2 = (signed(word) for word in hashing.SPLITMIX)
_GOLDEN32, _MURMUR1, _MURMUR2 = hashing.MURMUR


def dropout(x: Tensor, p: float, stream: int, node_id: Tensor, slope: float = 1) -> Tensor:
    """Return dropout of ``x``, its values below zero multiplied by ``slope`` before.

    Args:
        x: ``[rows, ...]``; what follows the first dimension is flattened into channels.
        p: probability of a zero, 0 to 1.
        stream: where the hash begins, see ``stream_of``.
        node_id: int64 ``[rows]``, the global node of each row.
        slope: 1 for dropout alone, 0 for that of ReLU, another for that of leaky ReLU.
    """
    if slope != 1:
        x = torch.relu(x) if slope == 0 else torch.nn.functional.leaky_relu(x, slope)
    rows = x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)
    return mask_rows(rows, p, row_keys(stream, node_id)).view(x.shape)


def dropout_entries(
    values: Tensor, indptr: Tensor, indices: Tensor, p: float, stream: int, node_id: Tensor
) -> Tensor:
    """Return dropout of the entries ``[nnz]`` of a sparse matrix, by the mask of its dense twin."""
    row = row_index(indptr, indices.numel())
    return _masked(values, _element_bits(row_keys(stream, node_id)[row], indices.long()), p)


def mask_in_place(x: Tensor, p: float, stream: int, node_id: Tensor) -> None:
    """Write dropout of ``x``, contiguous, over it."""
    x.detach().copy_(dropout(x.detach(), p, stream, node_id))


def relu_gradient(grad: Tensor, out: Tensor, p: float) -> Tensor:
    """Return the gradient before ReLU and dropout: it passes exactly where ``out`` is positive."""
    return torch.where(out > 0, grad * scale_of(p), 0)


def leaky_gradient(
    grad: Tensor, out: Tensor, slope: float, p: float, stream: int, node_id: Tensor
) -> Tensor:
    """Return the gradient before leaky ReLU and dropout: ``out`` tells the slope."""
    passed = dropout(grad, p, stream, node_id)
    return torch.where(out > 0, passed, passed * slope)


def row_keys(stream: int, node_id: Tensor) -> Tensor:
    """Return what a mask knows of its rows, int64 of the shape of ``node_id``."""
    row = node_id * _GOLDEN64 + signed(stream)
    row = (row ^ shifted(row, 30)) * _MIX1
    row = (row ^ shifted(row, 27)) * _MIX2
    return row ^ shifted(row, 31)


def mask_rows(x: Tensor, p: float, keys: Tensor) -> Tensor:
    """Return dropout of rows, in operations that ``torch.compile`` fuses.

    Args:
        x: ``[rows, channels]``.
        p: probability of a zero, 0 to 1.
        keys: :func:`row_keys` of the mask.
    """
    channel = torch.arange(x.shape[1], device=x.device)
    return _masked(x, _element_bits(keys.unsqueeze(1), channel), p)


def _element_bits(row: Tensor, channel: Tensor) -> Tensor:
    """Return the 32-bit hash, as int64, of row keys and channels broadcast together."""
    bits = ((row & MASK32) + channel * _GOLDEN32) & MASK32
    bits = ((bits ^ (bits >> 16)) * _MURMUR1) & MASK32
    bits = ((bits ^ (bits >> 13) ^ shifted(row, 32)) * _MURMUR2) & MASK32
    return bits ^ (bits >> 16)


def _masked(x: Tensor, bits: Tensor, p: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)  # half precision would round the scale
    kept = torch.full((), scale_of(p), dtype=wide, device=bits.device)
    return (x * torch.where(bits >= threshold_of(p), kept, torch.zeros_like(kept))).to(x.dtype)

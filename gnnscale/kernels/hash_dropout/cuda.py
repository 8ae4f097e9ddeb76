"""The counter-hash dropout on CUDA: one pass over the values, ReLU fused, no mask kept.

In these types the results are those of the other kernels bit for bit. In plain PyTorch the hash
alone takes some twenty passes over 64-bit integers. ``TRITON_INTERPRET=1`` runs it on the CPU.
"""

# Compiled by Triton, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

from gnnscale.kernels.hash_dropout import hashing
from gnnscale.kernels.hash_dropout.hashing import scale_of, threshold_of
from gnnscale.kernels.words import signed

_TILE = 2048  # values that a program has in hand: 16 a thread in four warps
_MAX_CHANNELS = 512

# What a kernel reads of its module must be of Triton's own type.
_GOLDEN64, _MIX1, _MIX2 = (constexpr(word) for word in hashing.SPLITMIX)
_GOLDEN32, _MURMUR1, _MURMUR2 = (constexpr(word) for word in hashing.MURMUR)


def dropout(x: Tensor, p: float, stream: int, node_id: Tensor, slope: float = 1) -> Tensor:
    """See the reference; a slope is 0 or 1."""
    x = x.detach().contiguous()
    out = torch.empty_like(x)
    if not x.numel():
        return out
    rows = x.shape[0]
    width = x.numel() // rows
    channels = min(_MAX_CHANNELS, triton.next_power_of_2(width))
    _dropout[(triton.cdiv(rows, _TILE // channels), triton.cdiv(width, channels))](
        x,
        out,
        node_id.contiguous(),
        rows,
        width,
        signed(stream),
        threshold_of(p),
        scale_of(p),
        RELU=slope == 0,
        ROWS=_TILE // channels,
        CHANNELS=channels,
        enable_fp_fusion=True,  # asked for, or Triton 3.9 warns; nothing is added here
    )
    return out


def relu_gradient(grad: Tensor, out: Tensor, p: float) -> Tensor:
    """See the reference."""
    grad, out = grad.detach().contiguous(), out.detach().contiguous()
    result = torch.empty_like(grad)
    if grad.numel():
        blocks = triton.cdiv(grad.numel(), _TILE)
        _relu_gradient[(blocks,)](
            grad, out, result, grad.numel(), scale_of(p), SIZE=_TILE, enable_fp_fusion=True
        )
    return result


@triton.jit(do_not_specialize=["stream", "threshold"])
def _dropout(
    x,
    out,
    nodes,
    rows,
    width,
    stream,
    threshold,
    scale,
    RELU: constexpr,
    ROWS: constexpr,
    CHANNELS: constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    node = tl.load(nodes + row, mask=row < rows, other=0).to(tl.uint64)
    # splitmix64 of the node, MurmurHash3's finaliser over the channel.
    word = node * _GOLDEN64 + stream.to(tl.uint64)
    word = (word ^ (word >> 30)) * _MIX1
    word = (word ^ (word >> 27)) * _MIX2
    word = word ^ (word >> 31)
    low = (word & 0xFFFFFFFF).to(tl.uint32)[:, None]
    high = (word >> 32).to(tl.uint32)[:, None]
    bits = low + channel.to(tl.uint32)[None, :] * _GOLDEN32
    bits = (bits ^ (bits >> 16)) * _MURMUR1
    bits = (bits ^ (bits >> 13) ^ high) * _MURMUR2
    bits = bits ^ (bits >> 16)
    at = row[:, None] * width + channel[None, :]
    inside = (row < rows)[:, None] & (channel < width)[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        value = tl.where(value <= 0, 0.0, value)  # NaN is kept
    # Multiplied, so that a dropped NaN or infinity shows, as in torch.
    value *= tl.where(bits >= threshold.to(tl.uint32), scale, 0.0)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _relu_gradient(grad, out, result, count, scale, SIZE: constexpr):
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < count
    above = tl.load(out + at, mask=inside, other=0.0).to(tl.float32) > 0
    value = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32) * scale
    tl.store(result + at, tl.where(above, value, 0.0).to(result.dtype.element_ty), mask=inside)

"""The greatest or least value among the neighbours on CUDA, and its gradient.

The passes of the CPU, one Triton program a row and channel block: nothing is scattered, so the
result does not vary between runs, and no value of edge size is made. Floor: one row of ``x`` is
read for every entry, in the backward pass two and one of what it shares out.
``TRITON_INTERPRET=1`` runs it on the CPU.
"""

# Compiled by Triton, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.product.cuda import row_tiles


def extremum(x: Tensor, a: CSR, sign: float) -> Tensor:
    """See the reference."""
    x = x.detach().contiguous()
    out = torch.empty(a.shape[0], x.shape[1], dtype=x.dtype, device=x.device)
    if out.numel():
        grid, tile = row_tiles(*out.shape)
        _extremum[grid](a.indptr, a.indices, x, out, x.shape[1], sign, WIDE=_wide(x), **tile)
    return out


def extremum_gradient(grad: Tensor, x: Tensor, out: Tensor, a: CSR, symmetric: bool) -> Tensor:
    """See the reference."""
    x, grad = x.detach().contiguous(), grad.contiguous()
    wide = torch.promote_types(x.dtype, torch.float32)
    share, result = torch.empty_like(out, dtype=wide), torch.empty_like(x)
    options = {"width": x.shape[1], "WIDE": _wide(x)}
    if out.numel():
        grid, tile = row_tiles(*out.shape)
        _share[grid](a.indptr, a.indices, x, out, grad, share, **options, **tile)
    if result.numel():
        back = a if symmetric else a.t()
        grid, tile = row_tiles(*x.shape)
        _gather[grid](back.indptr, back.indices, x, out, share, result, **options, **tile)
    return result


def _wide(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


@triton.jit
def _extremum(
    indptr, indices, x, out, width, sign, WIDE: constexpr, ENTRIES: constexpr, CHANNELS: constexpr
):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < width
    start = tl.load(indptr + row)
    stop = tl.load(indptr + row + 1)
    best = tl.full([ENTRIES, CHANNELS], float("-inf"), dtype=WIDE)
    undefined = tl.zeros([ENTRIES, CHANNELS], dtype=tl.int32)
    for first in range(start, stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        present = entry < stop
        column = tl.load(indices + entry, mask=present, other=0).to(tl.int64)
        mask = present[:, None] & inside[None, :]
        value = tl.load(x + column[:, None] * width + channel[None, :], mask=mask, other=0.0)
        value = value.to(WIDE) * sign
        undefined |= (mask & (value != value)).to(tl.int32)  # NaN, which a maximum may pass over
        best = tl.where(mask & (value > best), value, best)
    extreme = tl.max(best, axis=0) * sign
    extreme = tl.where(tl.max(undefined, axis=0) > 0, float("nan"), extreme)
    extreme = tl.where(stop > start, extreme, 0.0)
    tl.store(out + row * width + channel, extreme.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _share(
    indptr,
    indices,
    x,
    out,
    grad,
    share,
    width,
    WIDE: constexpr,
    ENTRIES: constexpr,
    CHANNELS: constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < width
    here = row * width + channel
    stop = tl.load(indptr + row + 1)
    extreme = tl.load(out + here, mask=inside, other=0.0)
    attained = tl.zeros([ENTRIES, CHANNELS], dtype=WIDE)
    for first in range(tl.load(indptr + row), stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        present = entry < stop
        column = tl.load(indices + entry, mask=present, other=0).to(tl.int64)
        mask = present[:, None] & inside[None, :]
        value = tl.load(x + column[:, None] * width + channel[None, :], mask=mask, other=0.0)
        attained += (mask & (value == extreme[None, :])).to(WIDE)
    count = tl.sum(attained, axis=0)
    part = tl.load(grad + here, mask=inside, other=0.0).to(WIDE) / tl.maximum(count, 1.0)
    tl.store(share + here, tl.where(count > 0, part, 0.0), mask=inside)


@triton.jit
def _gather(
    indptr,
    indices,
    x,
    out,
    share,
    result,
    width,
    WIDE: constexpr,
    ENTRIES: constexpr,
    CHANNELS: constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < width
    here = row * width + channel
    stop = tl.load(indptr + row + 1)
    value = tl.load(x + here, mask=inside, other=0.0)
    partial = tl.zeros([ENTRIES, CHANNELS], dtype=WIDE)
    for first in range(tl.load(indptr + row), stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        present = entry < stop
        target = tl.load(indices + entry, mask=present, other=0).to(tl.int64)
        mask = present[:, None] & inside[None, :]
        there = target[:, None] * width + channel[None, :]
        attains = mask & (tl.load(out + there, mask=mask, other=0.0) == value[None, :])
        partial += tl.load(share + there, mask=attains, other=0.0)
    total = tl.sum(partial, axis=0).to(result.dtype.element_ty)
    tl.store(result + here, total, mask=inside)

"""The sparse–dense product on CUDA, its factors fused: one Triton program a row and channel block.

cuSPARSE takes neither diagonal factors nor a matrix of ones, so they would have to be multiplied
into ``[nnz]`` values for every pair of factors first. Here they are read where they are used.

Floor: one row of ``x`` is read for every entry, ``nnz * width * itemsize`` bytes out of the second
level cache or the memory, and ``rows * width`` values are written. All rows of one block of
channels are run before the next block: the slice of ``x`` that they share stays in the cache.

A row is summed by one program in a fixed order, so the result does not vary between runs.
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
from gnnscale.kernels.product.reference import Given

_TILE = 2048  # entries times channels that a program holds: 16 sums a thread in four warps
_WARP_TILE = 512  # of it a warp


def spmm(a: CSR, x: Tensor, left: Given, right: Given, diag: Given, x_self: Given) -> Tensor:
    """See :func:`gnnscale.kernels.spmm`; float64 is summed in it, others in float32."""
    rows, width = a.shape[0], x.shape[1]
    out = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    x = x.detach().contiguous()
    grid, tile = row_tiles(rows, width)
    _spmm[grid](
        a.indptr,
        a.indices,
        a.values,
        left,
        right,
        diag,
        x,
        x if x_self is None else x_self.detach().contiguous(),
        out,
        width,
        WIDE=tl.float64 if x.dtype == torch.float64 else tl.float32,
        **tile,
    )
    return out


def row_tiles(rows: int, width: int) -> tuple[tuple[int, int], dict[str, Any]]:
    """Return the grid and the options of a kernel that walks rows of entries by channel blocks."""
    channels = min(128, max(16, triton.next_power_of_2(width)))
    entries = min(32, _TILE // channels)
    warps = max(1, entries * channels // _WARP_TILE)
    # Fusion is asked for: the default of Triton 3.10 is off.
    options = {"ENTRIES": entries, "CHANNELS": channels, "enable_fp_fusion": True}
    return (rows, triton.cdiv(width, channels)), {**options, "num_warps": warps}


@triton.jit
def _spmm(
    indptr,
    indices,
    values,
    left,
    right,
    diag,
    x,
    x_self,
    out,
    width,
    WIDE: constexpr,
    ENTRIES: constexpr,
    CHANNELS: constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < width
    start = tl.load(indptr + row)
    stop = tl.load(indptr + row + 1)
    # Several entries at once, to have as many reads under way; summed over them at the end alone.
    partial = tl.zeros([ENTRIES, CHANNELS], dtype=WIDE)
    for first in range(start, stop, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        present = entry < stop
        column = tl.load(indices + entry, mask=present, other=0).to(tl.int64)
        term = tl.load(
            x + column[:, None] * width + channel[None, :],
            mask=present[:, None] & inside[None, :],
            other=0.0,
        ).to(WIDE)
        if values is not None:
            term *= tl.load(values + entry, mask=present, other=0.0).to(WIDE)[:, None]
        if right is not None:
            term *= tl.load(right + column, mask=present, other=0.0).to(WIDE)[:, None]
        partial += term
    total = tl.sum(partial, axis=0)
    if left is not None:
        total *= tl.load(left + row).to(WIDE)
    here = row * width + channel
    if diag is not None:
        own = tl.load(x_self + here, mask=inside, other=0.0).to(WIDE)
        total += tl.load(diag + row).to(WIDE) * own
    tl.store(out + here, total.to(out.dtype.element_ty), mask=inside)

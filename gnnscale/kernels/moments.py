"""Means and squared deviations of segments: contiguous ranges of rows, channel by channel.

Floor: every value is read once from memory, ``rows * channels * itemsize`` bytes. Rows are taken in
blocks of 4096 that never span two segments: a block's mean, then its deviations while it is still
in the cache. Blocks are merged in order (Chan et al., 1983), so that the result does not depend on
the number of threads. In plain float64 PyTorch makes and reads three arrays of twice the size, and
so does torch-scatter, which is no backend here for that reason (``benchmarks/kernels.py``).
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.kernels.threads import njit_parallel, njit_serial

_NATIVE = (torch.float32, torch.float64)
_BLOCK = 4096


def segment_moments(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squared deviations of every segment, without a gradient.

    Args:
        x: floating ``[rows, channels]``.
        ptr: int64 ``[segments + 1]``, ascending from 0 to ``rows``: where each segment starts.

    Returns:
        ``(mean, deviation)``, float64 ``[segments, channels]``; both 0 for an empty segment.

    Raises:
        InputError: ``x`` is no matrix, or ``ptr`` does not cut its rows into segments.
    """
    _check(x, ptr)
    if x.device.type != "cpu":
        return _reference(x, ptr)
    rows = x.detach().contiguous() if x.dtype in _NATIVE else x.detach().float()
    counts = (ptr.diff() + _BLOCK - 1) // _BLOCK
    segment = torch.repeat_interleave(counts)
    start = (torch.arange(segment.numel()) - (counts.cumsum(0) - counts)[segment]) * _BLOCK
    start += ptr[segment]
    end = torch.minimum(start + _BLOCK, ptr[segment + 1])
    means, deviations = torch.empty(2, segment.numel(), x.shape[1], dtype=torch.float64)
    _block_kernel(rows.numpy(), start.numpy(), end.numpy(), means.numpy(), deviations.numpy())
    mean, deviation = torch.zeros(2, ptr.numel() - 1, x.shape[1], dtype=torch.float64)
    _merge_kernel(
        segment.numpy(),
        (end - start).numpy(),
        means.numpy(),
        deviations.numpy(),
        np.zeros(ptr.numel() - 1, np.int64),
        mean.numpy(),
        deviation.numpy(),
    )
    return mean, deviation


def segment_moments_reference(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Return what :func:`segment_moments` returns, in plain PyTorch on any device."""
    _check(x, ptr)
    return _reference(x, ptr)


def _check(x: Tensor, ptr: Tensor) -> None:
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError(f"x is {x.dtype} {[*x.shape]}, expected floating [rows, channels]")
    sound = ptr.dtype == torch.int64 and ptr.dim() == 1 and ptr.numel() > 0
    # The values are looked at on the CPU alone, where the kernel would read outside its arrays.
    if sound and ptr.device.type == "cpu":
        sound = int(ptr[0]) == 0 and int(ptr[-1]) == x.shape[0] and bool((ptr.diff() >= 0).all())
    if not sound:
        raise InputError(
            f"ptr is {ptr.dtype} {[*ptr.shape]}: expected torch.int64, ascending from 0 to "
            f"{x.shape[0]}"
        )


def _reference(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    wide, counts = x.detach().double(), ptr.diff()
    segment = torch.repeat_interleave(counts, output_size=x.shape[0])
    size = counts.clamp(min=1).unsqueeze(1)
    mean = wide.new_zeros(counts.numel(), x.shape[1]).index_add_(0, segment, wide) / size
    squares = (wide - mean[segment]).square_()
    return mean, torch.zeros_like(mean).index_add_(0, segment, squares)


@njit_parallel
def _block_kernel(x, start, end, means, deviations):  # type: ignore[no-untyped-def]
    for block in numba.prange(start.shape[0]):
        mean = means[block]
        mean[:] = 0
        for i in range(start[block], end[block]):
            for f in range(x.shape[1]):
                mean[f] += x[i, f]
        mean /= end[block] - start[block]
        deviation = deviations[block]
        deviation[:] = 0
        for i in range(start[block], end[block]):
            for f in range(x.shape[1]):
                apart = x[i, f] - mean[f]
                deviation[f] += apart * apart


@njit_serial
def _merge_kernel(  # type: ignore[no-untyped-def]
    segment, rows, means, deviations, done, mean, deviation
):
    for block in range(segment.shape[0]):
        s = segment[block]
        total = done[s] + rows[block]
        part = rows[block] / total
        for f in range(mean.shape[1]):
            delta = means[block, f] - mean[s, f]
            mean[s, f] += delta * part
            deviation[s, f] += deviations[block, f] + delta * delta * done[s] * part
        done[s] = total

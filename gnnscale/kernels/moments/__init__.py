"""Sums, means and squared deviations of segments: contiguous ranges of rows, by channel.

Floor: every value is read once from memory, ``rows * channels * itemsize`` bytes. In plain float64
PyTorch makes and reads three arrays of twice the size, and so does torch-scatter, which is no
backend here for that reason (``benchmarks/kernels.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.moments import reference


def segment_moments(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the sum of squared deviations of every segment, without a gradient.

    Args:
        x: floating ``[rows, channels]``.
        ptr: int64 ``[segments + 1]``, ascending from 0 to ``rows``: where each segment starts.

    Returns:
        ``(mean, deviation)``, float64 ``[segments, channels]``; both 0 for an empty segment.

    Raises:
        InputError: ``x`` is no matrix, or ``ptr`` does not cut its rows into segments (looked at on
            the CPU, where nothing waits for it).
    """
    check_matrix(x)
    check_pointers(x, ptr)
    return dispatch(reference.segment_moments, x.device, x.dtype)(x, ptr)


def segment_sum(x: Tensor, ptr: Tensor) -> Tensor:
    """Return the sum of every segment, differentiable; the same bits in every run.

    Args:
        x: floating ``[rows, channels]``.
        ptr: int64 ``[segments + 1]``, ascending from 0 to ``rows``: where each segment starts.

    Returns:
        ``[segments, channels]``.
    """
    return dispatch(reference.segment_sum, x.device, x.dtype)(x, ptr)


def check_matrix(x: Tensor) -> None:
    """Raise InputError where ``x`` is no floating matrix."""
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError(f"x is {x.dtype} {[*x.shape]}, expected floating [rows, channels]")


def check_pointers(x: Tensor, ptr: Tensor) -> None:
    """Raise InputError where ``ptr`` is no vector of pointers."""
    if ptr.dtype != torch.int64 or ptr.dim() != 1 or not ptr.numel():
        raise segments_error(x, ptr)


def segments_error(x: Tensor, ptr: Tensor) -> InputError:
    """What to raise where ``ptr`` does not cut the rows of ``x`` into segments."""
    return InputError(
        f"ptr is {ptr.dtype} {[*ptr.shape]}: expected torch.int64, ascending from 0 to {x.shape[0]}"
    )

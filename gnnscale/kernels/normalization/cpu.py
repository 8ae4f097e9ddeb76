"""GraphNorm of segments on the CPU: moments and rows of a block while it is in the cache.

Sums are float64 of float32 tiles, and α μ is subtracted in two parts, so that a mean which is large
beside the deviations costs no digits.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from gnnscale.kernels.moments.cpu import (
    block_moments,
    blocks_of,
    check_bounds,
    merge_kernel,
    moments_kernel,
)
from gnnscale.kernels.threads import njit_parallel, njit_serial

_TILE = 64


def graph_norm(
    x: Tensor, ptr: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See the reference."""
    check_bounds(x, ptr)
    segments, channels = ptr.numel() - 1, x.shape[1]
    blocks = blocks_of(ptr, channels)
    mean, inverse = np.zeros((2, segments, channels))
    out = torch.empty_like(x)
    rows, scale = x.detach().numpy(), alpha.detach().numpy()
    long = blocks.of_long_segments
    if long.start.size:
        means, deviations = np.empty((2, long.start.size, channels))
        moments_kernel(rows, *long.ranges, means, deviations)
        merge_kernel(*long.ranges[:3], means, deviations, mean, inverse)
        # Their deviations become inverses here, those of short segments in the kernel.
        at = np.unique(long.segment)
        off = (1 - scale.astype(np.float64)) * mean[at]
        inverse[at] = 1 / np.sqrt(inverse[at] / blocks.sizes[at, None] + off**2 + eps)
    parameters = (scale, weight.detach().numpy(), bias.detach().numpy(), eps)
    _forward(rows, *blocks.ranges, blocks.sizes, *parameters, mean, inverse, out.numpy())
    return out, torch.from_numpy(mean), torch.from_numpy(inverse)


def graph_norm_gradient(
    grad: Tensor,
    x: Tensor,
    ptr: Tensor,
    weight: Tensor,
    alpha: Tensor,
    mean: Tensor,
    inverse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See the reference."""
    blocks = blocks_of(ptr, x.shape[1])
    of_bias, of_scale, total = sums = np.zeros((3, *mean.shape))
    out = torch.empty_like(x, requires_grad=False)
    given = (grad.contiguous().numpy(), x.detach().numpy())
    scale, moments = alpha.detach().numpy(), (mean.numpy(), inverse.numpy())
    long = blocks.of_long_segments
    if long.start.size:
        parts = np.empty((2, long.start.size, x.shape[1]))
        _sums(*given, *long.ranges, scale, moments[0], *parts)
        np.add.at(of_bias, long.segment, parts[0])
        np.add.at(of_scale, long.segment, parts[1])
    parameters = (scale, weight.detach().numpy(), *moments)
    _backward(*given, *blocks.ranges, blocks.sizes, *parameters, *sums, out.numpy())
    return out, torch.from_numpy(of_bias), torch.from_numpy(of_scale), torch.from_numpy(total)


@njit_parallel
def _forward(x, segment, start, end, groups, sizes, alpha, weight, bias, eps, mean, inverse, out):
    channels = x.shape[1]
    for group in numba.prange(groups.shape[0] - 1):
        scratch = np.empty((3, channels), x.dtype)
        high, low, scale = scratch[0], scratch[1], scratch[2]
        for block in range(groups[group], groups[group + 1]):
            s, rows = segment[block], end[block] - start[block]
            if rows == sizes[s]:
                block_moments(x, start[block], end[block], scratch, mean[s], inverse[s])
                for f in range(channels):
                    off = (1 - np.float64(alpha[f])) * mean[s, f]
                    inverse[s, f] = 1 / np.sqrt(inverse[s, f] / rows + off * off + eps)
            for f in range(channels):
                shift = np.float64(alpha[f]) * mean[s, f]
                high[f] = shift
                low[f] = shift - np.float64(high[f])
                scale[f] = weight[f] * inverse[s, f]
            for i in range(start[block], end[block]):
                for f in range(channels):
                    out[i, f] = ((x[i, f] - high[f]) - low[f]) * scale[f] + bias[f]


@njit_serial
def _block_sums(grad, x, start, end, alpha, mean, scratch, of_bias, of_scale):
    """Sums over a block of the gradient, alone and times the centred rows, float64."""
    high, low, first, second = scratch[0], scratch[1], scratch[2], scratch[3]
    channels = x.shape[1]
    for f in range(channels):
        shift = np.float64(alpha[f]) * mean[f]
        high[f] = shift
        low[f] = shift - np.float64(high[f])
        of_bias[f] = 0
        of_scale[f] = 0
    for tile in range(start, end, _TILE):
        first[:] = 0
        second[:] = 0
        for i in range(tile, min(tile + _TILE, end)):
            for f in range(channels):
                first[f] += grad[i, f]
                second[f] += grad[i, f] * ((x[i, f] - high[f]) - low[f])
        for f in range(channels):
            of_bias[f] += first[f]
            of_scale[f] += second[f]


@njit_parallel
def _sums(grad, x, segment, start, end, groups, alpha, mean, of_bias, of_scale):
    for group in numba.prange(groups.shape[0] - 1):
        scratch = np.empty((4, x.shape[1]), x.dtype)
        for block in range(groups[group], groups[group + 1]):
            a, b, own = start[block], end[block], mean[segment[block]]
            _block_sums(grad, x, a, b, alpha, own, scratch, of_bias[block], of_scale[block])


@njit_parallel
def _backward(
    grad,
    x,
    segment,
    start,
    end,
    groups,
    sizes,
    alpha,
    weight,
    mean,
    inverse,
    of_bias,
    of_scale,
    of_centred,
    out,
):
    channels = x.shape[1]
    for group in numba.prange(groups.shape[0] - 1):
        scratch = np.empty((5, channels), x.dtype)
        high, low, scale, owed, less = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
        for block in range(groups[group], groups[group + 1]):
            s, first, last = segment[block], start[block], end[block]
            rows, sums = sizes[s], scratch[:4]
            if last - first == rows:
                _block_sums(grad, x, first, last, alpha, mean[s], sums, of_bias[s], of_scale[s])
            for f in range(channels):
                a, inv = np.float64(alpha[f]), inverse[s, f]
                shift = a * mean[s, f]
                high[f] = shift
                low[f] = shift - np.float64(high[f])
                by = weight[f] * inv
                due = of_scale[s, f] * by * inv * inv / rows
                total = by * of_bias[s, f] - due * rows * (1 - a) * mean[s, f]
                scale[f] = by
                owed[f] = due
                less[f] = a * total / rows
                of_centred[s, f] = total
            for i in range(first, last):
                for f in range(channels):
                    centred = (x[i, f] - high[f]) - low[f]
                    out[i, f] = grad[i, f] * scale[f] - centred * owed[f] - less[f]

"""GraphNorm on segments, contiguous ranges of rows that are a graph each: one pass and a half.

For every segment and channel, with the mean μ over its rows (Cai et al., ICML 2021, section 3):

    y = γ (x − α μ) / sqrt(mean((x − α μ)²) + ε) + β

Floor, in arrays of the size of x: x is read and y written; backward, x and the gradient of y are
read and that of x written: 5. A segment that fits a core's cache takes 5, since its second reading
comes from there, and a longer one 8. In PyTorch's operations each step is a pass of its own, and
several arrays are kept for the gradient where this keeps x (``benchmarks/graphnorm.py speed``).

Sums are float64 of float32 tiles, and α μ is subtracted in two parts, so that a mean which is large
beside the deviations costs no digits.
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
from gnnscale.kernels.moments import (
    NATIVE,
    block_moments,
    blocks_of,
    check_matrix,
    check_segments,
    merge_kernel,
    moments_kernel,
)
from gnnscale.kernels.threads import njit_parallel, njit_serial

_TILE = 64


def graph_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean_scale: Tensor,
    eps: float,
    ptr: Tensor | None = None,
) -> Tensor:
    """GraphNorm of every segment, differentiable in all but ``eps`` and ``ptr``.

    Args:
        x: floating ``[rows, channels]``; half precision is computed in float32.
        weight: γ ``[channels]``.
        bias: β ``[channels]``.
        mean_scale: α ``[channels]``; ones make this instance normalization.
        eps: ε.
        ptr: int64 ``[segments + 1]``, ascending from 0 to ``rows``; None for one segment.

    Returns:
        ``[rows, channels]``, of the type of ``x``.

    Raises:
        InputError: ``x`` is no matrix, has other channels than the parameters, or ``ptr`` does not
            cut its rows into segments.
    """
    check_matrix(x)
    # The kernel would read outside their arrays.
    if any(parameter.shape != x.shape[1:] for parameter in (weight, bias, mean_scale)):
        raise InputError(f"the norm is for {weight.numel()} channels, x has {x.shape[1]}")
    if ptr is not None:
        check_segments(x, ptr)
    if x.dtype not in NATIVE:
        return graph_norm(x.float(), weight, bias, mean_scale, eps, ptr).to(x.dtype)
    parameters = (p.to(x.dtype) for p in (weight, bias, mean_scale))
    return _GraphNorm.apply(x, *parameters, eps, ptr)


def graph_norm_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean_scale: Tensor,
    eps: float,
    ptr: Tensor | None = None,
) -> Tensor:
    """Return what :func:`graph_norm` returns, in operations that autograd and compilers see."""
    rows = x.shape[0]
    if ptr is None:
        if rows == 0:
            return x * weight
        centred = x - mean_scale * x.mean(0)
        scale = weight * (centred.square().mean(0) + eps).rsqrt()
        return torch.addcmul(bias, centred, scale)
    counts = ptr.diff()
    segment = torch.repeat_interleave(counts, output_size=rows)
    size = counts.clamp(min=1).unsqueeze(1).to(x.dtype)
    zeros = x.new_zeros(counts.numel(), x.shape[1])
    centred = x - mean_scale * (zeros.index_add(0, segment, x) / size)[segment]
    second = zeros.index_add(0, segment, centred.square()) / size
    return torch.addcmul(bias, centred, weight * (second + eps).rsqrt()[segment])


class _GraphNorm(torch.autograd.Function):
    """Keeps its input alone, and two numbers for every segment and channel."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean_scale: Tensor,
        eps: float,
        ptr: Tensor | None,
    ) -> Tensor:
        x = x.contiguous()
        if ptr is None:
            ptr = torch.tensor([0, x.shape[0]], device=x.device)
        forward = _forward if x.device.type == "cpu" else _plain_forward
        out, mean, inverse = forward(x, ptr, weight, bias, mean_scale, eps)
        ctx.save_for_backward(x, ptr, weight, mean_scale, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, ptr, weight, mean_scale, mean, inverse = ctx.saved_tensors
        backward = _backward if x.device.type == "cpu" else _plain_backward
        of_x, of_bias, of_scale, total = backward(grad, x, ptr, weight, mean_scale, mean, inverse)
        of_weight, of_alpha = (of_scale * inverse).sum(0), -(mean * total).sum(0)
        grads = (g.to(x.dtype) for g in (of_weight, of_bias.sum(0), of_alpha))
        return of_x, *grads, None, None


def _owed(
    of_bias: Tensor,
    of_scale: Tensor,
    weight: Tensor,
    mean_scale: Tensor,
    mean: Tensor,
    inverse: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """What makes the gradient of x: scale · grad − owed · centred − α · total / rows.

    `of_bias` and `of_scale` are a segment's sums of the gradient, alone and times the centred rows.
    The scale owes to the second moment: d inverse = −inverse³ mean(centred · d centred); the
    centred rows sum up to rows (1 − α) μ, and `total` is the sum of their gradients.
    """
    scale = weight * inverse
    owed = of_scale * weight * inverse.pow(3) / rows.clamp(min=1)
    return scale, owed, scale * of_bias - owed * rows * (1 - mean_scale) * mean


# --- any device -------------------------------------------------------------------------------


def _plain_forward(
    x: Tensor, ptr: Tensor, weight: Tensor, bias: Tensor, mean_scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    counts = ptr.diff()
    size = counts.clamp(min=1).unsqueeze(1).to(x.dtype)
    mean = _segment_sum(x, ptr) / size
    centred = x - _spread(mean_scale * mean, counts, x)
    inverse = (_segment_sum(centred.square(), ptr) / size + eps).rsqrt()
    return torch.addcmul(bias, centred, _spread(weight * inverse, counts, x)), mean, inverse


def _plain_backward(
    grad: Tensor,
    x: Tensor,
    ptr: Tensor,
    weight: Tensor,
    mean_scale: Tensor,
    mean: Tensor,
    inverse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    counts = ptr.diff()
    rows = counts.unsqueeze(1)
    centred = x - _spread(mean_scale * mean, counts, x)
    of_bias, of_scale = _segment_sum(grad, ptr), _segment_sum(grad * centred, ptr)
    scale, owed, total = _owed(of_bias, of_scale, weight, mean_scale, mean, inverse, rows)
    of_x = centred.mul_(-_spread(owed, counts, x)).addcmul_(grad, _spread(scale, counts, x))
    of_x -= _spread(mean_scale * total / rows.clamp(min=1), counts, x)
    return of_x, of_bias, of_scale, total


def _segment_sum(x: Tensor, ptr: Tensor) -> Tensor:
    if ptr.numel() == 2:
        return x.sum(0, keepdim=True)
    # In a fixed order on CUDA, where index_add is not.
    return torch.segment_reduce(x.contiguous(), "sum", offsets=ptr)


def _spread(values: Tensor, counts: Tensor, x: Tensor) -> Tensor:
    """One row a segment as one row a node."""
    if counts.numel() == 1:
        return values
    return torch.repeat_interleave(values, counts, dim=0, output_size=x.shape[0])


# --- the CPU ----------------------------------------------------------------------------------


def _forward(
    x: Tensor, ptr: Tensor, weight: Tensor, bias: Tensor, mean_scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    segments, channels = ptr.numel() - 1, x.shape[1]
    blocks = blocks_of(ptr, channels)
    mean, inverse = np.zeros((2, segments, channels))
    out = torch.empty_like(x)
    rows, alpha = x.detach().numpy(), mean_scale.detach().numpy()
    long = blocks.of_long_segments
    if long.start.size:
        means, deviations = np.empty((2, long.start.size, channels))
        moments_kernel(rows, *long.ranges, means, deviations)
        merge_kernel(*long.ranges[:3], means, deviations, mean, inverse)
        # Their deviations become inverses here, those of short segments in the kernel.
        at = np.unique(long.segment)
        off = (1 - alpha.astype(np.float64)) * mean[at]
        inverse[at] = 1 / np.sqrt(inverse[at] / blocks.sizes[at, None] + off**2 + eps)
    parameters = (alpha, weight.detach().numpy(), bias.detach().numpy(), eps)
    _forward_kernel(rows, *blocks.ranges, blocks.sizes, *parameters, mean, inverse, out.numpy())
    return out, torch.from_numpy(mean), torch.from_numpy(inverse)


def _backward(
    grad: Tensor,
    x: Tensor,
    ptr: Tensor,
    weight: Tensor,
    mean_scale: Tensor,
    mean: Tensor,
    inverse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    blocks = blocks_of(ptr, x.shape[1])
    of_bias, of_scale, total = sums = np.zeros((3, *mean.shape))
    out = torch.empty_like(x, requires_grad=False)
    given = (grad.contiguous().numpy(), x.detach().numpy())
    alpha, moments = mean_scale.detach().numpy(), (mean.numpy(), inverse.numpy())
    long = blocks.of_long_segments
    if long.start.size:
        parts = np.empty((2, long.start.size, x.shape[1]))
        _sums_kernel(*given, *long.ranges, alpha, moments[0], *parts)
        np.add.at(of_bias, long.segment, parts[0])
        np.add.at(of_scale, long.segment, parts[1])
    parameters = (alpha, weight.detach().numpy(), *moments)
    _backward_kernel(*given, *blocks.ranges, blocks.sizes, *parameters, *sums, out.numpy())
    return out, torch.from_numpy(of_bias), torch.from_numpy(of_scale), torch.from_numpy(total)


@njit_parallel
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, segment, start, end, groups, sizes, alpha, weight, bias, eps, mean, inverse, out
):
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
def _block_sums(grad, x, start, end, alpha, mean, scratch, of_bias, of_scale):  # type: ignore[no-untyped-def]
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
def _sums_kernel(  # type: ignore[no-untyped-def]
    grad, x, segment, start, end, groups, alpha, mean, of_bias, of_scale
):
    for group in numba.prange(groups.shape[0] - 1):
        scratch = np.empty((4, x.shape[1]), x.dtype)
        for block in range(groups[group], groups[group + 1]):
            _block_sums(
                grad,
                x,
                start[block],
                end[block],
                alpha,
                mean[segment[block]],
                scratch,
                of_bias[block],
                of_scale[block],
            )


@njit_parallel
def _backward_kernel(  # type: ignore[no-untyped-def]
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
            s, rows = segment[block], sizes[segment[block]]
            if end[block] - start[block] == rows:
                _block_sums(
                    grad,
                    x,
                    start[block],
                    end[block],
                    alpha,
                    mean[s],
                    scratch[:4],
                    of_bias[s],
                    of_scale[s],
                )
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
            for i in range(start[block], end[block]):
                for f in range(channels):
                    centred = (x[i, f] - high[f]) - low[f]
                    out[i, f] = grad[i, f] * scale[f] - centred * owed[f] - less[f]

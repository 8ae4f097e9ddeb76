"""GraphNorm of segments in plain PyTorch: as a formula, and with what its gradient needs."""

from __future__ import annotations

import torch
from torch import Tensor

from gnnscale.kernels.moments.reference import segment_sum


def graph_norm_formula(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean_scale: Tensor,
    eps: float,
    ptr: Tensor | None = None,
) -> Tensor:
    """See :func:`gnnscale.kernels.graph_norm`; in operations that autograd and compilers see."""
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


def graph_norm(
    x: Tensor, ptr: Tensor, weight: Tensor, bias: Tensor, alpha: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, and of every segment and channel what the gradient needs.

    Args:
        x: floating ``[rows, channels]``.
        ptr: int64 ``[segments + 1]``.
        weight: γ ``[channels]``, of the type of ``x``, as the next two.
        bias: β ``[channels]``.
        alpha: α ``[channels]``.
        eps: ε.

    Returns:
        ``(out, mean, inverse)``: μ and 1 / sqrt(mean((x − α μ)²) + ε), ``[segments, channels]``;
        nothing is promised of an empty segment's.
    """
    counts = ptr.diff()
    size = counts.clamp(min=1).unsqueeze(1).to(x.dtype)
    mean = segment_sum(x, ptr) / size
    centred = x - _spread(alpha * mean, counts, x)
    inverse = (segment_sum(centred.square(), ptr) / size + eps).rsqrt()
    return torch.addcmul(bias, centred, _spread(weight * inverse, counts, x)), mean, inverse


def graph_norm_gradient(
    grad: Tensor,
    x: Tensor,
    ptr: Tensor,
    weight: Tensor,
    alpha: Tensor,
    mean: Tensor,
    inverse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradient of x, and three sums over every segment ``[segments, channels]``.

    They are of the gradient that came in, of that times the centred rows, and of the gradients of
    the centred rows.
    """
    counts = ptr.diff()
    rows = counts.unsqueeze(1)
    centred = x - _spread(alpha * mean, counts, x)
    of_bias, of_scale = segment_sum(grad, ptr), segment_sum(grad * centred, ptr)
    # The scale owes to the second moment: d inverse = −inverse³ mean(centred · d centred); the
    # centred rows sum up to rows (1 − α) μ, and `total` is the sum of their gradients.
    scale, size = weight * inverse, rows.clamp(min=1)
    owed = of_scale * weight * inverse.pow(3) / size
    total = scale * of_bias - owed * rows * (1 - alpha) * mean
    of_x = centred.mul_(-_spread(owed, counts, x)).addcmul_(grad, _spread(scale, counts, x))
    of_x -= _spread(alpha * total / size, counts, x)
    return of_x, of_bias, of_scale, total


def _spread(values: Tensor, counts: Tensor, x: Tensor) -> Tensor:
    """One row a segment as one row a node."""
    if counts.numel() == 1:
        return values
    return torch.repeat_interleave(values, counts, dim=0, output_size=x.shape[0])

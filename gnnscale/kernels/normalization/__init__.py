"""GraphNorm on segments, contiguous ranges of rows that are a graph each: one pass and a half.

For every segment and channel, with the mean μ over its rows (Cai et al., ICML 2021, section 3):

    y = γ (x − α μ) / sqrt(mean((x − α μ)²) + ε) + β

Floor, in arrays of the size of x: x is read and y written; backward, x and the gradient of y are
read and that of x written: 5. A segment that fits a core's cache takes 5, since its second reading
comes from there, and a longer one 8. In PyTorch's operations each step is a pass of its own, and
several arrays are kept for the gradient where this keeps x (``benchmarks/graphnorm.py speed``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.moments import check_matrix, check_pointers
from gnnscale.kernels.normalization import reference


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
        check_pointers(x, ptr)
    if x.dtype not in (torch.float32, torch.float64):
        return graph_norm(x.float(), weight, bias, mean_scale, eps, ptr).to(x.dtype)
    parameters = (p.to(x.dtype) for p in (weight, bias, mean_scale))
    return _GraphNorm.apply(x, *parameters, eps, ptr)


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
        forward = dispatch(reference.graph_norm, x.device, x.dtype)
        out, mean, inverse = forward(x, ptr, weight, bias, mean_scale, eps)
        ctx.save_for_backward(x, ptr, weight, mean_scale, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, ptr, weight, mean_scale, mean, inverse = ctx.saved_tensors
        gradient = dispatch(reference.graph_norm_gradient, x.device, x.dtype)
        of_x, of_bias, of_scale, total = gradient(grad, x, ptr, weight, mean_scale, mean, inverse)
        of_weight, of_alpha = (of_scale * inverse).sum(0), -(mean * total).sum(0)
        grads = (g.to(x.dtype) for g in (of_weight, of_bias.sum(0), of_alpha))
        return of_x, *grads, None, None

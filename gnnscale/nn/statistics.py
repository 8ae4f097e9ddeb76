"""Norms as one reduction and one row-local map, so that they are exact however rows are cut up.

`partial` reduces some rows to `Moments`; `Moments.merge` joins those of disjoint rows (Chan et al.,
1983); `apply` normalises rows with the statistics of all. In training the same functions run on the
whole batch, in inference chunk by chunk. A norm without such a protocol is applied to a whole layer
at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.nn import norm as pyg

from gnnscale.errors import InputError
from gnnscale.kernels import segment_moments
from gnnscale.nn.propagation import is_intercepted

_ROW_LOCAL = (nn.LayerNorm, nn.RMSNorm, nn.Identity)


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of some rows, in float64 `[channels]` or `[1]`."""

    rows: int
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Moments per column of `x` `[rows, channels]`; no gradient."""
        rows = x.size(0)
        mean, deviation = segment_moments(x, torch.tensor([0, rows], device=x.device))
        return cls(rows, mean[0], deviation[0])

    def over_channels(self) -> Moments:
        """Moments of all values, whatever their channel."""
        mean = self.mean.mean(0, keepdim=True)
        between = self.rows * (self.mean - mean).square().sum(0, keepdim=True)
        values = self.rows * self.mean.numel()
        return Moments(values, mean, self.deviation.sum(0, keepdim=True) + between)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together."""
        rows = self.rows + other.rows
        if rows == 0:
            return self
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.rows / rows)
        correction = delta.square() * (self.rows * other.rows / rows)
        return Moments(rows, mean, self.deviation + other.deviation + correction)


def widened(x: Tensor) -> Tensor:
    """What a norm is given under autocast: half precision cannot sum many rows."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    return x.float() if half and torch.is_autocast_enabled(x.device.type) else x


def is_row_local(norm: Any) -> bool:
    """Whether a norm maps every row by itself, in training and in evaluation."""
    if type(norm) is pyg.LayerNorm:
        return norm.mode == "node"
    return type(norm) in _ROW_LOCAL


def uses_running_statistics(norm: nn.Module) -> bool:
    """Whether a norm is row-local in evaluation because it keeps running statistics."""
    inner = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    return isinstance(inner, nn.modules.batchnorm._BatchNorm) and inner.running_mean is not None


def mergeable(norm: nn.Module) -> bool:
    """Whether `partial` and `apply` know this norm."""
    if any(is_intercepted(module) for module in norm.modules()):
        return False
    graph_mode = type(norm) is pyg.LayerNorm and norm.mode == "graph"
    return graph_mode or type(norm) is pyg.GraphNorm or _is_batch_norm(norm)


def partial(norm: nn.Module, x: Tensor) -> Moments:
    """The moments that `norm` needs of rows `x` `[rows, channels]`."""
    if isinstance(norm, pyg.LayerNorm):
        return Moments.of(x).over_channels()
    return Moments.of(x)


def apply(norm: Any, x: Tensor, moments: Moments) -> Tensor:
    """Normalise rows `x` `[rows, channels]` with the moments of all rows."""
    mean = moments.mean
    variance = moments.deviation / max(moments.rows, 1)
    if isinstance(norm, pyg.GraphNorm):
        # E[(h − αμ)²] = Var h + (1 − α)²μ²: one pass serves any α.
        alpha = norm.mean_scale.double()
        second = variance + ((1 - alpha) * mean).square()
        shift, scale = alpha * mean, (second + norm.eps).rsqrt()
        return _affine(x, shift, scale, norm.weight, norm.bias)
    if isinstance(norm, pyg.LayerNorm):
        scale = 1 / (variance.sqrt() + norm.eps)  # PyG adds ε to the standard deviation here
        return _affine(x, mean, scale, norm.weight, norm.bias)
    inner = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    return _affine(x, mean, (variance + inner.eps).rsqrt(), inner.weight, inner.bias)


def graph_norm(norm: pyg.GraphNorm, x: Tensor) -> Tensor:
    """GraphNorm over all rows as one graph (Cai et al., ICML 2021, section 3), differentiable.

    PyG's own forward scatters rows into a single segment.
    """
    if x.size(0) == 0:
        return graph_norm_traced(norm, x)
    return _GraphNorm.apply(x, norm.weight, norm.bias, norm.mean_scale, norm.eps)


def graph_norm_traced(norm: pyg.GraphNorm, x: Tensor) -> Tensor:
    """Return what `graph_norm` returns, in operations that `torch.compile` fuses."""
    if x.size(0) == 0:
        return x * norm.weight
    centred = x - norm.mean_scale * x.mean(0)
    scale = norm.weight * (centred.square().mean(0) + norm.eps).rsqrt()
    return torch.addcmul(norm.bias, centred, scale)


class _GraphNorm(torch.autograd.Function):
    """GraphNorm that keeps its input alone, its gradient in one array and two sums over rows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean_scale: Tensor, eps: float
    ) -> Tensor:
        mean = x.mean(0)
        centred = x - mean_scale * mean
        inverse = (centred.square().mean(0) + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean_scale, mean, inverse)
        return torch.addcmul(bias, centred, weight * inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean_scale, mean, inverse = ctx.saved_tensors
        rows, scale = x.size(0), weight * inverse
        centred = x - mean_scale * mean
        of_bias, of_scale = grad.sum(0), (grad * centred).sum(0)
        # What the scale owes to the second moment: d inverse = −inverse³ mean(centred · d centred).
        owed = of_scale * weight * inverse.pow(3) / rows
        # The gradient of `centred`, summed over rows; those of `centred` sum to rows (1 − α) μ.
        total = scale * of_bias - owed * rows * (1 - mean_scale) * mean
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = centred.mul_(-owed).addcmul_(grad, scale).sub_(mean_scale * total / rows)
        return of_x, of_scale * inverse, of_bias, -mean * total, None


def _affine(
    x: Tensor, shift: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    if weight is not None:
        scale = scale * weight
    scale, centred = scale.to(x.dtype), x - shift.to(x.dtype)
    return centred * scale if bias is None else torch.addcmul(bias, centred, scale)


def check_rows(norm: nn.Module, rows: int) -> None:
    """Refuse a training batch of one node where its variance is asked for.

    Raises:
        InputError: naming the remedy.
    """
    inner = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    needs_more = isinstance(inner, nn.modules.batchnorm._BatchNorm) and inner.training
    if rows == 1 and needs_more and not getattr(norm, "allow_single_element", False):
        raise InputError(
            f"a training batch has 1 node; {type(norm).__name__} takes the variance of at least 2: "
            "use fewer parts or more clusters_per_batch (or batch_rows), or norm='layer_norm'"
        )


def _is_batch_norm(norm: nn.Module) -> bool:
    inner = norm.module if type(norm) is pyg.BatchNorm else norm
    return type(inner) is nn.BatchNorm1d

"""Norms as one reduction and one row-local map, so that they are exact however rows are cut up.

`partial_stats` reduces some rows to `Moments`; `Moments.merge` joins those of disjoint rows (Chan
et al., 1983); `apply_stats` normalises rows with the statistics of all. In training the same norms
run on the whole batch, in inference chunk by chunk. A norm without such a form is applied to a
whole layer at once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import norm as pyg

from gnnscale import comm, kernels
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.kernels import segment_moments
from gnnscale.nn.modules import is_intercepted
from gnnscale.nn.norms.segments import segment_of_rows

_ROW_LOCAL = (nn.LayerNorm, nn.RMSNorm, nn.Identity)


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of the rows of every segment.

    Attributes:
        rows: int64 `[segments]`.
        mean: float64 `[segments, channels]` or `[segments, 1]`.
        deviation: of the shape of `mean`.
    """

    rows: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor, ptr: Tensor | None = None) -> Moments:
        """Moments per column of the segments `ptr` of `x` `[rows, channels]`; no gradient."""
        if ptr is None:
            ptr = torch.tensor([0, x.size(0)], device=x.device)
        return cls(ptr.diff(), *segment_moments(x, ptr))

    @classmethod
    def empty(cls, segments: int, like: Moments) -> Moments:
        """Those of no rows, with as many channels as others have."""
        shape = (segments, like.mean.size(1))
        zeros = like.mean.new_zeros(2, *shape)
        return cls(like.rows.new_zeros(segments), zeros[0], zeros[1])

    def over_channels(self) -> Moments:
        """Moments of all values of a segment, whatever their channel."""
        channels = self.mean.size(1)
        mean = self.mean.mean(1, keepdim=True)
        between = self.rows.unsqueeze(1) * (self.mean - mean).square().sum(1, keepdim=True)
        return Moments(self.rows * channels, mean, self.deviation.sum(1, keepdim=True) + between)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together, segment by segment."""
        rows = self.rows + other.rows
        share = (other.rows.double() / rows.clamp(min=1)).unsqueeze(1)
        delta = other.mean - self.mean
        between = delta.square() * (self.rows.unsqueeze(1) * share)
        return Moments(rows, self.mean + delta * share, self.deviation + other.deviation + between)

    def part(self, first: int, last: int) -> Moments:
        """Those of segments `first` up to `last`, exclusive; views."""
        return Moments(*(values[first:last] for values in self))

    @property
    def variance(self) -> Tensor:
        """Mean squared deviation, 0 for a segment without rows."""
        return self.deviation / self.rows.clamp(min=1).unsqueeze(1)


class Form(NamedTuple):
    """How a class of norms is one reduction and one row-local map.

    Attributes:
        apply: takes the norm, rows, their segments' moments, and whether segments are given
            (PyG's LayerNorm has another formula without); returns normalised rows.
        reads: takes the norm and rows; the rows whose moments `apply` wants.
        over_channels: whether it wants one moment a segment.
    """

    apply: Callable[[Any, Tensor, Moments, Tensor | None], Tensor]
    reads: Callable[[Any, Tensor], Tensor] = lambda norm, x: x
    over_channels: bool = False


_FORMS: dict[type, Form] = {}


def register_norm(cls: type[nn.Module], form: type[nn.Module] | Form) -> None:
    """Tell gnnscale that a class of norms has a form: its own, or that of another class.

    Subclasses need their own entry: what they override is not known.
    """
    _FORMS[cls] = form if isinstance(form, Form) else _FORMS[form]


def is_registered(norm: nn.Module) -> bool:
    """Whether a form is known of the norm's class."""
    return type(norm) in _FORMS


def partial_stats(norm: nn.Module, x: Tensor, segments: Tensor | None = None) -> Moments:
    """The moments that a norm needs of some rows: the first of its two passes.

    Args:
        norm: one of PyG's or gnnscale's.
        x: `[rows, channels]`, perhaps some of a graph's.
        segments: int64 `[num_segments + 1]`, where each begins among these rows; one when None.

    Returns:
        Moments, which `merge` with those of the other rows of the same segments.

    Raises:
        UnsupportedModel: no such form is known of the norm.
    """
    form = _form_of(norm)
    moments = Moments.of(form.reads(norm, x), segments)
    return moments.over_channels() if form.over_channels else moments


def apply_stats(
    norm: nn.Module, x: Tensor, stats: Moments, segments: Tensor | None = None
) -> Tensor:
    """Normalise rows with the moments of all: the second pass.

    Not a method `apply`, which every `torch.nn.Module` has for another purpose.

    Args:
        norm: as given to `partial_stats`.
        x: `[rows, channels]`.
        stats: the merged moments of the segments.
        segments: int64 `[num_segments + 1]`, where each begins among these rows; one when None.

    Returns:
        `[rows, channels]`: what the norm gives for these rows where it is given all of them; half
        precision is computed in float32.

    Raises:
        UnsupportedModel: no such form is known of the norm.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return _form_of(norm).apply(norm, wide, stats, segments).to(x.dtype)


def _form_of(norm: nn.Module) -> Form:
    if type(norm) not in _FORMS:
        raise UnsupportedModel(
            f"{type(norm).__name__} is not known as one reduction and a row-local map"
        )
    return _FORMS[type(norm)]


def mergeable(norm: nn.Module) -> bool:
    """Whether `partial_stats` and `apply_stats` know this norm, and nothing watches it."""
    return type(norm) in _FORMS and not any(is_intercepted(part) for part in norm.modules())


def normalise(norm: Any, x: Tensor, ptr: Tensor | None) -> Tensor:
    """Run a norm on rows `[rows, channels]` and their segments, differentiably."""
    cls: type = type(norm)
    if _takes(cls, "ptr"):
        return norm(x, ptr=ptr)
    if not is_intercepted(norm):
        if type(norm) is pyg.GraphNorm:
            return graph_norm(norm, x, ptr)
        if type(norm) is pyg.InstanceNorm and norm.running_mean is None:
            return instance_norm(norm, x, ptr)
    if ptr is None or not _takes(cls, "batch"):
        return norm(x)
    return norm(x, segment_of_rows(ptr, x.size(0)), ptr.numel() - 1)


@functools.cache
def _takes(cls: Any, argument: str) -> bool:
    return argument in inspect.signature(cls.forward).parameters


def graph_norm(norm: pyg.GraphNorm, x: Tensor, ptr: Tensor | None = None) -> Tensor:
    """GraphNorm by the fused kernel."""
    return kernels.graph_norm(x, norm.weight, norm.bias, norm.mean_scale, norm.eps, ptr)


def instance_norm(norm: pyg.InstanceNorm, x: Tensor, ptr: Tensor | None = None) -> Tensor:
    """Instance normalization without running statistics, by the kernel of GraphNorm."""
    one = x.new_ones(x.size(1))
    weight = one if norm.weight is None else norm.weight
    bias = torch.zeros_like(one) if norm.bias is None else norm.bias
    return kernels.graph_norm(x, weight, bias, one, norm.eps, ptr)


def widened(x: Tensor) -> Tensor:
    """What a norm is given under autocast: half precision cannot sum many rows."""
    half = x.dtype in (torch.bfloat16, torch.float16)
    return x.float() if half and torch.is_autocast_enabled(x.device.type) else x


def is_row_local(norm: object) -> bool:
    """Whether a norm maps every row by itself, in training and in evaluation."""
    if isinstance(norm, pyg.LayerNorm) and (type(norm) is pyg.LayerNorm or mergeable(norm)):
        return norm.mode == "node"
    return type(norm) in _ROW_LOCAL


def uses_running_statistics(norm: nn.Module) -> bool:
    """Whether a norm is row-local in evaluation because it keeps running statistics."""
    if isinstance(norm, pyg.DiffGroupNorm):
        norm = norm.norm
    inner = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    kept = isinstance(inner, nn.modules.batchnorm._NormBase | pyg.GraphNorm)
    return kept and getattr(inner, "running_mean", None) is not None


def check_rows(norm: nn.Module, rows: int) -> None:
    """Refuse a training batch of one node where its variance is asked for.

    Raises:
        InputError: naming the remedy.
    """
    batch_norm = nn.modules.batchnorm._BatchNorm  # DiffGroupNorm has one inside
    needs_more = any(isinstance(part, batch_norm) and part.training for part in norm.modules())
    if getattr(norm, "synchronised", False) and comm.world_size() > 1:
        needs_more = False  # other ranks have rows too
    if rows == 1 and needs_more and not getattr(norm, "allow_single_element", False):
        raise InputError(
            f"a training batch has 1 node; {type(norm).__name__} takes the variance of at least 2: "
            "use fewer parts or more clusters_per_batch (or batch_rows), or norm='layer_norm'"
        )


def affine(
    x: Tensor, shift: Tensor, scale: Tensor, norm: object, segments: Tensor | None = None
) -> Tensor:
    """(x − shift) · scale, then the norm's weight and bias where it has them.

    `shift` and `scale` are `[num_segments, channels]` or `[num_segments, 1]`.
    """
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if weight is not None:
        scale = scale * weight
    centred = x - _of_rows(shift, x, segments)
    scale = _of_rows(scale, x, segments)
    return centred * scale if bias is None else torch.addcmul(bias, centred, scale)


def _of_rows(values: Tensor, x: Tensor, segments: Tensor | None) -> Tensor:
    values = values.to(x.dtype)
    if values.size(0) == 1:
        return values
    assert segments is not None
    return torch.repeat_interleave(values, segments.diff(), dim=0, output_size=x.size(0))


# --- PyG's norms ------------------------------------------------------------------------------


def _graph_norm(norm: Any, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    # E[(h − αμ)²] = Var h + (1 − α)²μ²: one pass serves any α.
    alpha = norm.mean_scale.double()
    second = stats.variance + ((1 - alpha) * stats.mean).square()
    return affine(x, alpha * stats.mean, (second + norm.eps).rsqrt(), norm, segments)


def _layer_norm(norm: Any, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    # PyG adds ε to the standard deviation where it is not given a batch vector.
    whole = 1 / (stats.variance.sqrt() + norm.eps)
    scale = whole if segments is None else (stats.variance + norm.eps).rsqrt()
    return affine(x, stats.mean, scale, norm, segments)


def _batch_norm(norm: Any, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    inner = norm.module if isinstance(norm, pyg.BatchNorm) else norm
    return affine(x, stats.mean, (stats.variance + inner.eps).rsqrt(), inner, segments)


def _pair_norm(norm: Any, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    if norm.scale_individually:
        centred = affine(x, stats.mean, torch.ones_like(stats.mean), None, segments)
        return norm.scale * centred / (norm.eps + centred.norm(2, -1, keepdim=True))
    energy = stats.variance.sum(1, keepdim=True)
    return affine(x, stats.mean, norm.scale * (norm.eps + energy).rsqrt(), None, segments)


def _mean_subtraction(norm: object, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    return affine(x, stats.mean, torch.ones_like(stats.mean), None, segments)


def _graph_size(norm: object, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    scale = stats.rows.double().rsqrt().unsqueeze(1)
    return affine(x, torch.zeros_like(scale), scale, None, segments)


def _groups(norm: Any, x: Tensor) -> Tensor:
    members = norm.lin(x).softmax(dim=-1)
    return (members.unsqueeze(-1) * x.unsqueeze(-2)).flatten(1)


def _group_norm(norm: Any, x: Tensor, stats: Moments, segments: Tensor | None) -> Tensor:
    normalised = _batch_norm(norm.norm, _groups(norm, x), stats, segments)
    return x + norm.lamda * normalised.unflatten(1, (norm.groups, -1)).sum(1)


for _cls, _form in {
    nn.BatchNorm1d: Form(_batch_norm),
    pyg.BatchNorm: Form(_batch_norm),
    pyg.GraphNorm: Form(_graph_norm),
    pyg.GraphSizeNorm: Form(_graph_size),
    pyg.InstanceNorm: Form(_batch_norm),
    pyg.LayerNorm: Form(_layer_norm, over_channels=True),
    pyg.MeanSubtractionNorm: Form(_mean_subtraction),
    pyg.PairNorm: Form(_pair_norm),
    pyg.DiffGroupNorm: Form(_group_norm, reads=_groups),
}.items():
    register_norm(_cls, _form)

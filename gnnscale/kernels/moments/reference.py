"""Sums and moments of segments in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_sum(x: Tensor, ptr: Tensor) -> Tensor:
    """See :func:`gnnscale.kernels.segment_sum`."""
    if ptr.numel() == 2:
        return x.sum(0, keepdim=True)
    # Not by adding at an index, which is atomic on CUDA: another sum in every run.
    return torch.segment_reduce(x.contiguous(), "sum", offsets=ptr)


def segment_moments(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`gnnscale.kernels.segment_moments`."""
    wide, counts = x.detach().double(), ptr.diff()
    segment = torch.repeat_interleave(counts, output_size=x.shape[0])
    size = counts.clamp(min=1).unsqueeze(1)
    mean = wide.new_zeros(counts.numel(), x.shape[1]).index_add_(0, segment, wide) / size
    squares = (wide - mean[segment]).square_()
    return mean, torch.zeros_like(mean).index_add_(0, segment, squares)

"""Gathered: the statistics of a norm over all rows, from chunks of rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gnnscale.inference.ranks import Share
from gnnscale.nn.norms.segments import within
from gnnscale.nn.norms.statistics import Moments, apply_stats, partial_stats

_Part = tuple[int, int, Moments]  # the first of some segments, the one after their last


class Gathered:
    """A norm's statistics, gathered from chunks of rows and applied to chunks of rows.

    Args:
        norm: the norm.
        ptr: int64 `[num_segments + 1]`, the segments of all rows; None for one.
        share: the rows that this rank gathers from.
    """

    def __init__(self, norm: nn.Module, ptr: Tensor | None, share: Share) -> None:
        self._norm = norm
        self._ptr = None if ptr is None else ptr.cpu()
        self._share = share
        self._parts: list[_Part] = []  # that other ranks are to be given
        self._device = torch.device("cpu")
        self._moments: Moments | None = None

    def add(self, start: int, end: int, h: Tensor) -> None:
        """Take in rows `start` to `end`."""
        first, last, ptr = self._segments(start, end, h)
        moments = partial_stats(self._norm, h, ptr)
        if self._share.split:
            self._parts.append((first, last, Moments(*(values.cpu() for values in moments))))
            self._device = moments.mean.device
        else:
            self._merge(first, last, moments)

    def complete(self) -> None:
        """Take in what the ranks have gathered, in the order of the rows."""
        for first, last, moments in self._share.in_order(self._parts):
            self._merge(first, last, Moments(*(values.to(self._device) for values in moments)))
        self._parts = []

    def apply(self, start: int, end: int, h: Tensor) -> Tensor:
        """Rows `start` to `end`, normalised."""
        assert self._moments is not None
        first, last, ptr = self._segments(start, end, h)
        return apply_stats(self._norm, h, self._moments.part(first, last), ptr)

    def _merge(self, first: int, last: int, moments: Moments) -> None:
        if self._moments is None:
            segments = last if self._ptr is None else len(self._ptr) - 1
            self._moments = Moments.empty(segments, moments)
        merged = self._moments.part(first, last).merge(moments)
        for whole, part in zip(self._moments, merged, strict=True):
            whole[first:last] = part

    def _segments(self, start: int, end: int, h: Tensor) -> tuple[int, int, Tensor | None]:
        if self._ptr is None:
            return 0, 1, None
        first, last, ptr = within(self._ptr, start, end)
        return first, last, ptr.to(h.device)

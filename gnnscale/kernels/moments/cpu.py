"""Sums and moments of segments on the CPU, blocks of rows merged in order.

Blocks never span two segments, and rows are taken in tiles of 64 within them: a tile's mean, then
its deviations from that while it is in the cache, so that float32 sums of few small numbers, joined
in float64 (Chan et al., 1983), do not cancel where a mean is large. The result does not depend on
the number of threads.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gnnscale.kernels.moments import segments_error
from gnnscale.kernels.structure.reference import row_index
from gnnscale.kernels.threads import njit_parallel, njit_serial

_TILE = 64
_BLOCK = 1 << 17  # values: some hundred KB stay in a core's cache until they are read again


def segment_sum(x: Tensor, ptr: Tensor) -> Tensor:
    """See the reference; in a quarter of its time, forward and backward."""
    zeros = x.new_zeros(ptr.numel() - 1, x.size(1))
    return zeros.index_add(0, row_index(ptr, x.size(0)), x)


def segment_moments(x: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
    """See the reference."""
    check_bounds(x, ptr)
    rows = x.detach().contiguous()
    rows = rows if x.dtype in (torch.float32, torch.float64) else rows.float()
    blocks = blocks_of(ptr, x.shape[1])
    means, deviations = np.empty((2, blocks.start.size, x.shape[1]))
    moments_kernel(rows.numpy(), *blocks.ranges, means, deviations)
    mean, deviation = torch.zeros(2, ptr.numel() - 1, x.shape[1], dtype=torch.float64)
    merge_kernel(*blocks.ranges[:3], means, deviations, mean.numpy(), deviation.numpy())
    return mean, deviation


def check_bounds(x: Tensor, ptr: Tensor) -> None:
    """Raise InputError for segments outside of which a kernel would read."""
    bounds = ptr.numpy()
    if bounds[0] != 0 or bounds[-1] != x.shape[0] or bool((np.diff(bounds) < 0).any()):
        raise segments_error(x, ptr)


@dataclass(frozen=True)
class Blocks:
    """Rows cut up so that no block spans two segments.

    Attributes:
        segment: int64 ``[blocks]``: the segment of each, ascending.
        start: int64 ``[blocks]``: its first row.
        end: int64 ``[blocks]``: the row after its last.
        groups: int64 ``[groups + 1]``: blocks that one thread takes one after another.
        sizes: int64 ``[segments]``: rows of each segment.
    """

    segment: np.ndarray
    start: np.ndarray
    end: np.ndarray
    groups: np.ndarray
    sizes: np.ndarray

    @property
    def ranges(self) -> tuple[np.ndarray, ...]:
        """What kernels take."""
        return self.segment, self.start, self.end, self.groups

    @functools.cached_property
    def of_long_segments(self) -> Blocks:
        """The blocks of segments that have several."""
        long = self.end - self.start != self.sizes[self.segment]
        segment, start, end = self.segment[long], self.start[long], self.end[long]
        return Blocks(segment, start, end, np.arange(segment.size + 1), self.sizes)


# Beside the pointers rather than on them: an attribute would be pickled and saved with them.
_kept: Any = WeakTensorKeyDictionary()


def blocks_of(ptr: Tensor, channels: int) -> Blocks:
    """Cut the rows of segments ``ptr`` into blocks of at most some hundred KB, empty ones left out.

    Short segments are grouped, so that a thread's scratch memory serves many. Kept with ``ptr``:
    where graphs are small and layers many, cutting costs as much as a kernel.
    """
    if ptr.is_inference():  # which has no version
        return _cut(ptr.numpy(), channels)
    key, kept = (ptr._version, channels), _kept.get(ptr)
    if kept is None or kept[0] != key:
        kept = _kept[ptr] = key, _cut(ptr.numpy(), channels)
    return kept[1]


def _cut(bounds: np.ndarray, channels: int) -> Blocks:
    most = max(_TILE, _BLOCK // max(channels, 1) // _TILE * _TILE)
    counts = (np.diff(bounds) + most - 1) // most
    segment = np.repeat(np.arange(counts.size), counts)
    within = np.arange(segment.size) - np.repeat(np.cumsum(counts) - counts, counts)
    start = bounds[segment] + within * most
    end = np.minimum(start + most, bounds[segment + 1])
    # A group begins where the rows before it fill another whole block.
    filled = start // most
    begins = np.flatnonzero(np.append(True, filled[1:] != filled[:-1])[: segment.size])
    return Blocks(segment, start, end, np.append(begins, segment.size), np.diff(bounds))


@njit_serial
def block_moments(x, low, high, scratch, mean, deviation):
    """Mean and squared deviations, float64 ``[channels]``, of rows ``low`` to ``high``.

    ``scratch`` is ``[3, channels]`` of the rows' type.
    """
    shift, first, second = scratch[0], scratch[1], scratch[2]
    channels = x.shape[1]
    mean[:] = 0
    deviation[:] = 0
    for start in range(low, high, _TILE):
        end = min(start + _TILE, high)
        rows, done = end - start, start - low
        shift[:] = 0
        for i in range(start, end):
            for f in range(channels):
                shift[f] += x[i, f]
        for f in range(channels):
            shift[f] /= rows
            first[f] = 0
            second[f] = 0
        for i in range(start, end):
            for f in range(channels):
                apart = x[i, f] - shift[f]
                first[f] += apart
                second[f] += apart * apart
        part = rows / (done + rows)
        for f in range(channels):
            rest = np.float64(first[f]) / rows
            delta = np.float64(shift[f]) + rest - mean[f]
            mean[f] += delta * part
            deviation[f] += np.float64(second[f]) - rest * rest * rows + delta * delta * done * part


@njit_parallel
def moments_kernel(x, segment, start, end, groups, means, deviations):
    """The moments of every block."""
    for group in numba.prange(groups.shape[0] - 1):
        scratch = np.empty((3, x.shape[1]), x.dtype)
        for block in range(groups[group], groups[group + 1]):
            block_moments(x, start[block], end[block], scratch, means[block], deviations[block])


@njit_serial
def merge_kernel(segment, start, end, means, deviations, mean, deviation):
    """Those of segments from those of their blocks, into arrays that are 0 there."""
    done = 0
    for block in range(segment.shape[0]):
        s = segment[block]
        if block > 0 and segment[block - 1] != s:
            done = 0
        rows = end[block] - start[block]
        part = rows / (done + rows)
        for f in range(mean.shape[1]):
            delta = means[block, f] - mean[s, f]
            mean[s, f] += delta * part
            deviation[s, f] += deviations[block, f] + delta * delta * done * part
        done += rows

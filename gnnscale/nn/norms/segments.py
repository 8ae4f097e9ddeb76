"""Segments: the contiguous ranges of rows that a norm takes its statistics over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gnnscale.errors import InputError

Over = Literal["batch", "cluster", "graph"]


def check_over(over: Any) -> Over:
    """Raise InputError for anything but "batch", "cluster" and "graph"."""
    if over not in get_args(Over):
        raise InputError(f"over={over!r}: a norm runs over the 'batch', each 'cluster' or 'graph'")
    return over


def segments_for(norm: object, segments: Mapping[str, Tensor]) -> Tensor | None:
    """Where the segments of a norm begin, int64 `[num_segments + 1]`; None for all rows as one.

    Args:
        norm: any; one without an attribute `over` runs over the batch.
        segments: what there are, by kind (see `Context`).

    Raises:
        InputError: it runs over clusters, and nothing says where they begin.
    """
    over = getattr(norm, "over", "batch")
    if over == "cluster" and "cluster" not in segments:
        raise InputError(
            f"{type(norm).__name__}(over='cluster') needs a ClusteredGraph, whose clusters it "
            "normalises one by one: train with ClusterTrainer, predict with it or with "
            "gs.load_run; or keep the statistics of training with running=True"
        )
    return segments.get(over)


def pointers_of(batch: Tensor, rows: int, batch_size: int | None = None) -> Tensor:
    """Where each graph's rows begin, int64 `[batch_size + 1]`, from PyG's `batch` vector.

    Args:
        batch: int64 `[rows]`, the graph of every row, ascending as PyG's `DataLoader` has it.
        rows: number of rows.
        batch_size: number of graphs; one more than the greatest of `batch` when None.

    Raises:
        InputError: it has another length, does not ascend, or names graphs out of range.
    """
    if batch.shape != (rows,):
        raise InputError(f"batch is {[*batch.shape]}; it has the graph of each of the {rows} rows")
    size = batch_size if batch_size is not None else (int(batch.max()) + 1 if len(batch) else 0)
    if bool((batch.diff() < 0).any()):
        raise InputError("batch must ascend: rows of a graph stand together, as in PyG's batches")
    if len(batch) and not (int(batch[0]) >= 0 and int(batch[-1]) < size):
        raise InputError(f"batch names graphs out of [0, {size})")
    return torch.searchsorted(batch, torch.arange(size + 1, device=batch.device))


def segment_of_rows(ptr: Tensor, rows: int) -> Tensor:
    """The segment of every row, int64 `[rows]`: PyG's `batch` vector."""
    return torch.repeat_interleave(ptr.diff(), output_size=rows)


def within(ptr: Tensor, start: int, stop: int) -> tuple[int, int, Tensor]:
    """The segments that a range of rows has a part of.

    Args:
        ptr: of all rows, on the CPU.
        start: first row of the range.
        stop: the row after its last.

    Returns:
        `(first, last, pointers)`: segments `first` up to `last`, exclusive, and where those parts
        begin in the range.
    """
    first = min(max(0, int(torch.searchsorted(ptr, start, right=True)) - 1), ptr.numel() - 2)
    last = max(first + 1, int(torch.searchsorted(ptr, stop)))
    return first, last, ptr[first : last + 1].clamp(start, stop) - start

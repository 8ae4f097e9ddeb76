"""On processors, sums in the same order every time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Have torch add up in a fixed order on the CPU, so that a run that goes on ends the same.

    It matters to what is not ours, in a layer or a loss: the backward pass of `x[index]` adds rows
    in the order in which threads come. On a GPU many operations have no fixed order.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=warned if before else True)
    torch.utils.deterministic.fill_uninitialized_memory = filled and before  # type: ignore
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore

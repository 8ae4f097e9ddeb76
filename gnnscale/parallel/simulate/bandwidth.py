"""Bandwidth: how fast two neighbouring ranks of a pipeline hand tensors over."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from gnnscale import comm

_BYTES = 4 << 20  # some thousand rows of a usual width: what a boundary sends of a micro-batch
_REPEATS = 5


def measure_bandwidth(device: torch.device, group: Any = None) -> float:
    """Bytes a second between neighbouring ranks, the slowest pair's, the same number on all.

    All ranks of the group take part. Without a process group tensors are handed over within one
    process, and it is infinite.

    Args:
        device: where tensors lie that are sent.
        group: of the ranks of a pipeline; all when None.
    """
    size, place = comm.world_size(group), comm.rank(group)
    if size == 1:
        return math.inf
    found, other = math.inf, place ^ 1
    if other < size:
        peer = other if group is None else distributed.get_global_rank(group, other)
        message = torch.zeros(_BYTES, dtype=torch.uint8, device=device)
        steps: list[Callable[..., Any]] = [distributed.send, distributed.recv]
        rounds = []
        for _ in range(1 + _REPEATS):  # the first one connects
            started = time.perf_counter()
            for step in steps if place < other else reversed(steps):
                step(message, peer)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            rounds.append(time.perf_counter() - started)
        found = 2 * _BYTES / statistics.median(rounds[1:])
    return float(comm.all_reduce_(torch.tensor([found], dtype=torch.float64), "min", group))

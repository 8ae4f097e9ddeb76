"""GraphNorm forward and backward: seconds and memory, beside PyG's and beside the memory's speed.

The floor: x is read and y written; backward, x and the gradient of y are read and that of x is
written. Five arrays, at the rate at which PyTorch copies one, which reads an array and writes one.

On a CPU all is timed twice: under the C library's usual allocator, which gives large buffers back,
so that each comes in fresh pages; and with freed buffers kept, as trainers run. Fresh pages cost
every contestant the same, and a warm copy nothing: "fresh pages" is the time to fill the two arrays
that any norm returns, y and the gradient of x.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm

import gnnscale as gs
from gnnscale.nn.norms.segments import segment_of_rows
from gnnscale.storage.allocator import kept_buffers

ROWS, CHANNELS = 100_000, 256
SEGMENTS = (500, 1)
ARRAYS, ARRAY_BYTES = 5, ROWS * CHANNELS * 4
Ways = dict[str, Callable[[], Any]]


class Case:
    """One contestant: what a call of forward and one of backward do."""

    def __init__(self, name: str, segments: int, device: str) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(ROWS, CHANNELS, device=device, requires_grad=True)
        self.grad = torch.randn(ROWS, CHANNELS, device=device)
        ptr = torch.linspace(0, ROWS, segments + 1).long().to(device)
        batch = segment_of_rows(ptr, ROWS)
        norm: nn.Module = GraphNorm(CHANNELS) if name == "PyG" else gs.nn.GraphNorm(CHANNELS)
        self.norm = norm.to(device)
        # A batch vector is what PyG takes; trainers here give norms where segments begin.
        given: dict[str, Any] = {"ptr": ptr}
        if name != "gnnscale":
            given = {"batch": batch, "batch_size": segments}
        self.forward = partial(self.norm, self.x, **given)

    def step(self) -> tuple[float, float]:
        """Seconds of forward and of backward."""
        started = now()
        out = self.forward()
        between = now()
        out.backward(self.grad)
        ended = now()
        self.norm.zero_grad()
        self.x.grad = None
        return between - started, ended - between


CONTESTANTS = ("gnnscale", "gnnscale, batch vector", "PyG")


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(device: str, rounds: int, threads: int) -> dict[str, Any]:
    """Seconds of all contestants and of the floor, and their memory."""
    allocators = ("usual", "kept") if device == "cpu" else ("CUDA",)
    found = []
    for segments in SEGMENTS:
        memory = {name: apart(threads, memory_of, name, segments, device) for name in CONTESTANTS}
        for allocator in allocators:
            timed = apart(threads, take_turns, segments, device, allocator, rounds)
            floor = ARRAYS / 2 * timed["copy"]["seconds"]
            ours, theirs = timed["gnnscale"]["seconds"], timed["PyG"]["seconds"]
            found.append(
                {
                    "segments": segments,
                    "allocator": allocator,
                    "times_faster_than_pyg": theirs / ours,
                    "times_the_floor": ours / floor,
                    "floor": floor,
                    "copy_rate": 2 * ARRAY_BYTES / timed["copy"]["seconds"],
                    "seconds": timed,
                    "memory": memory,
                }
            )
    return {"rows": ROWS, "channels": CHANNELS, "rounds": rounds, "runs": found}


def apart(threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a process of its own: what one has kept or broken up is not the next one's."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (threads,)) as own:
        return own.submit(function, *arguments).result()


def take_turns(
    segments: int, device: str, allocator: str, rounds: int
) -> dict[str, dict[str, float]]:
    """Median seconds; the order is drawn anew each round, so that all share the noise."""
    cases = {name: Case(name, segments, device) for name in CONTESTANTS}
    source, target = torch.rand(2, ROWS, CHANNELS, device=device)

    def copy() -> tuple[float, ...]:
        started = now()
        target.copy_(source)
        return (now() - started,)

    def fresh() -> tuple[float, ...]:
        started = now()
        filled = [torch.full_like(source, 1.0) for _ in range(2)]
        ended = now()
        del filled
        return (ended - started,)

    ways: Ways = {"copy": copy, "fresh pages": fresh}
    ways |= {name: case.step for name, case in cases.items()}
    seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    with kept_buffers() if allocator == "kept" else nullcontext():
        for round_ in range(rounds + 2):  # two to compile, and to fill what is kept
            for name in random.sample(list(ways), len(ways)):
                spent = ways[name]()
                if round_ > 1:
                    seconds[name].append(spent)
    return {name: summary(times) for name, times in seconds.items()}


def summary(times: list[tuple[float, ...]]) -> dict[str, float]:
    figures = {"seconds": statistics.median(map(sum, times)), "least": min(map(sum, times))}
    if len(times[0]) == 2:
        for part, values in zip(("forward", "backward"), zip(*times, strict=True), strict=True):
            figures[part] = statistics.median(values)
    return figures


# --- memory -----------------------------------------------------------------------------------


def memory_of(name: str, segments: int, device: str) -> dict[str, float]:
    """Bytes beyond the inputs, in arrays of the size of x."""
    case = Case(name, segments, device)
    return {
        "kept_for_backward": kept_for_backward(case) / ARRAY_BYTES,
        "peak": peak(case, device) / ARRAY_BYTES,
    }


def kept_for_backward(case: Case) -> int:
    """Bytes of what the graph of autograd holds between the passes, but for x and parameters."""
    given = {p.untyped_storage().data_ptr() for p in (case.x, *case.norm.parameters())}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = case.forward()
    del out
    return sum(storages.values())


def peak(case: Case, device: str) -> int:
    """The greatest growth in a step: y and the gradient of x are in it."""
    case.step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case.step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the system's peak begins anew
    before = psutil.Process().memory_info().rss
    case.step()
    return peak_rss() - before


def peak_rss() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

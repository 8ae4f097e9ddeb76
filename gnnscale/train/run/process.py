"""What a run changes of its process while it trains: signals, the allocator, repeatable kernels."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import torch

_AT_ONCE = 1.0  # seconds: torchrun passes a Ctrl-C on that the terminal has sent to its ranks too


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C wait for the end of the step, so that a whole state is saved; twice is at once.

    SIGTERM, by which schedulers and torchrun end a run, waits as well, however often it comes.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False  # signals reach the main thread only; another's handler stays in place
        return
    seen: list[float] = []

    def handle(number: int, frame: object) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and seen and now - seen[0] > _AT_ONCE:
            raise KeyboardInterrupt
        seen.append(now)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, handle)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = 256 << 20
"""Buffers above this go back at once. Opaque convolutions make values of edge size: attention of
width 400 over 50,000 edges takes 80 MB for each of them."""
_MOST_KEPT = 2**31 - 1  # the greatest number that the library takes
# Where the library's own thresholds end once a block of its largest size has been freed.
_USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD = 32 << 20, 64 << 20
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")

_runs = 0


@contextlib.contextmanager
def kept_buffers() -> Iterator[None]:
    """Keep freed buffers of up to 256 MiB, 2 GiB together at most, until the block ends.

    The process holds no more than its peak, plus what fragments. At the end what is free goes back,
    and the thresholds are those that a long-running program has. Elsewhere than on the GNU C
    library, and where the environment sets its thresholds, nothing is changed.
    """
    global _runs
    library = _adjustable_library()
    if library is None:
        yield
        return
    _runs += 1
    # Older libraries refuse more than what they end at themselves.
    if not library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
        library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
    try:
        yield
    finally:
        _runs -= 1
        if not _runs:  # a run inside a callback of another leaves the other's as they are
            library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
            library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
            library.malloc_trim(0)


def return_freed_memory() -> None:
    """Give what is free back to the system now, between parts of a run that differ in size."""
    library = _adjustable_library()
    if library is not None:
        library.malloc_trim(0)


def _adjustable_library() -> ctypes.CDLL | None:
    library = _gnu_library()
    return None if any(name in os.environ for name in _SETTINGS) else library


def _gnu_library() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


class _Filling(Protocol):
    """What torch has as a module whose attribute is a property, which no checker sees."""

    fill_uninitialized_memory: bool


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
    memory = cast(_Filling, torch.utils.deterministic)
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warned if before else True)
    memory.fill_uninitialized_memory = filled and before
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled

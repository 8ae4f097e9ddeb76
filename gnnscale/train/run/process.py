"""The process of a run: what training changes of it, and the memory that it and its children hold.

PSS shares a page among those who map it, so that it can be summed over processes; RSS counts it
once for each. Pages of mapped files count once they have been touched. What the system caches of
files that are read or written does not: it is given back when anything else wants it.

The kernel walks all page tables of a process for its PSS, tens of milliseconds for each resident
gigabyte, so `MemoryMeter` looks when RSS, which costs next to nothing to ask for, has grown, and
else so seldom that looking takes half a hundredth of the time. What comes and goes within the
twentieth of a second between two questions is missed; `peak_rss` of `memory_use` is the system's
own, of this process alone, and misses nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import psutil
import torch
from torch import Tensor

from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.posix import posix

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

_RETURNED = 128 << 10
"""Blocks from here on go back at once within a bound: aligned blocks do not fit where an equal one
was, and batches differ in size, so that the heap grows to 1.8 to 2.6 times of what is in use."""

_thresholds: list[tuple[int, int]] = []  # for mmap and for trimming, of the blocks that are open


def kept_buffers() -> contextlib.AbstractContextManager[None]:
    """Keep freed buffers of up to 256 MiB, 2 GiB together at most, until the block ends.

    The process holds its peak, and what fragments. At the end what is free goes back, and the
    thresholds are those that a long-running program has. Elsewhere than on the GNU C library, and
    where the environment sets its thresholds, nothing is changed.
    """
    return _allocating(_LARGEST_KEPT, _MOST_KEPT)


def buffers_within(memory: int | str) -> contextlib.AbstractContextManager[None]:
    """Give buffers back to the system as they are freed, until the block ends.

    It costs the pages of every buffer anew. Ends, and is without effect, as `kept_buffers`.

    Args:
        memory: a bound; without one ("auto") nothing is changed.
    """
    bounded = memory != "auto"
    return _allocating(_RETURNED, _RETURNED) if bounded else contextlib.nullcontext()


@contextlib.contextmanager
def _allocating(mmap: int, trim: int) -> Iterator[None]:
    library = _adjustable_library()
    if library is None:
        yield
        return
    _thresholds.append((mmap, trim))
    _set_thresholds(library, mmap, trim)
    try:
        yield
    finally:
        _thresholds.pop()
        if _thresholds:  # a run inside a callback of another leaves the other's as they are
            _set_thresholds(library, *_thresholds[-1])
        else:
            _set_thresholds(library, _USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD)
            library.malloc_trim(0)


def _set_thresholds(library: ctypes.CDLL, mmap: int, trim: int) -> None:
    # Older libraries refuse more than what they end at themselves.
    if not library.mallopt(_MMAP_THRESHOLD, mmap):
        library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
    library.mallopt(_TRIM_THRESHOLD, trim)


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


resource = posix("resource")

_SHARE = 0.005  # of the time that looking may take
_PAUSE = 0.05  # seconds between two questions for RSS
_CHILDREN = 20  # questions between two for the children: asking goes through all processes
_GROWTH = 8 << 20  # of RSS, which asks for a look


class Footprint(NamedTuple):
    """Resident bytes: in all, anonymous (allocated), and backed by files (mapped)."""

    together: int = 0
    anonymous: int = 0
    file_backed: int = 0


def footprint() -> Footprint:
    """Summed PSS of this process and its descendants now; RSS where there is no PSS."""
    return _summed(_family())


def _family() -> list[psutil.Process]:
    this = psutil.Process()
    with contextlib.suppress(psutil.Error):
        return [this, *this.children(recursive=True)]
    return [this]


def _summed(family: list[psutil.Process]) -> Footprint:
    return Footprint(*(sum(parts) for parts in zip(*map(_resident, family), strict=True)))


class MemoryMeter:
    """Samples `footprint` in a thread, as a context manager.

    Example:
        >>> with MemoryMeter() as meter:
        ...     data = bytearray(1 << 20)
        >>> meter.peak.together > 1 << 20
        True

    Attributes:
        peak: the greatest of each figure since the last `reset`; each has its own moment.
    """

    def __init__(self) -> None:
        self.peak = Footprint()
        self._highest = 0  # RSS since the last reset: growth beyond it is looked at
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> MemoryMeter:
        self._stop.clear()
        self.look()
        self._thread = threading.Thread(target=self._watch, name="gnnscale-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self.look()

    def look(self) -> Footprint:
        """Take a sample now."""
        now = footprint()
        with self._lock:
            self.peak = Footprint(*map(max, self.peak, now))
        return now

    def reset(self) -> Footprint:
        """Return the peak, and begin another from now on."""
        self.look()
        with self._lock:
            peak, self.peak = self.peak, Footprint()
            self._highest = 0
        self.look()
        return peak

    def _watch(self) -> None:
        tick, due = 0, 0.0
        while not self._stop.wait(_PAUSE):
            if tick % _CHILDREN == 0:
                family = _family()
            tick += 1
            rss = sum(_rss(process) for process in family)
            now = time.monotonic()
            if rss > self._highest + _GROWTH or now > due:
                self._highest = max(self._highest, rss)
                started = time.thread_time()
                self.look()
                due = now + (time.thread_time() - started) / _SHARE


def memory_use(meter: MemoryMeter | None = None) -> dict[str, int]:
    """Peak resident bytes so far.

    Args:
        meter: what was sampled, if anything was.

    Returns:
        "peak_rss": of this process, pages of mapped files included. Children are left out: what the
        system records of one that was forked and exec'd includes the pages of its parent. With a
        meter "peak_pss", "peak_pss_anonymous" and "peak_pss_file": see `MemoryMeter.peak`.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # Linux counts in KiB
    use = {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if meter is not None:
        names = ("peak_pss", "peak_pss_anonymous", "peak_pss_file")
        use |= dict(zip(names, meter.peak, strict=True))
    return use


def resident_arrays(held: object) -> dict[str, int]:
    """Bytes of the arrays that are in memory rather than in a file, largest first.

    Args:
        held: a graph, a clustered graph, or several of them and tensors by name. What two of them
            share counts once.
    """
    found: dict[str, int] = {}
    seen: set[int] = set()
    for name, tensor in _arrays("", held):
        storage = tensor.untyped_storage()
        if tensor.numel() and not is_mapped(tensor) and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            found[name] = found.get(name, 0) + storage.nbytes()
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _arrays(name: str, value: object) -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _arrays(_joined(name, key) if isinstance(key, str) else name, item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _arrays(name, item)
    elif isinstance(value, ClusteredGraph | Graph | CSR) or type(value).__name__ == "Split":
        for key, item in vars(value).items():
            yield from _arrays(_joined(name, key.lstrip("_")), item)


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _resident(process: psutil.Process) -> tuple[int, int, int]:
    """What a process has: of one that has ended meanwhile, nothing."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_bytes()
    except OSError:
        return _without_pss(process)
    kib = {key: int(rest.split()[0]) for key, rest in _lines(text)}
    together, anonymous = (kib.get(key, 0) * 1024 for key in (b"Pss", b"Pss_Anon"))
    return together, anonymous, together - anonymous


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _lines(text: bytes) -> Iterable[tuple[bytes, bytes]]:
    for line in text.splitlines():
        key, colon, rest = line.partition(b":")
        if colon and key.startswith(b"Pss"):
            yield key, rest


def _without_pss(process: psutil.Process) -> tuple[int, int, int]:
    try:
        info = process.memory_info()
    except psutil.Error:
        return 0, 0, 0
    shared = getattr(info, "shared", 0)  # on Linux: mapped files and shared memory
    return info.rss, info.rss - shared, shared

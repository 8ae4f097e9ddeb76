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
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
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
        self._before = Footprint()
        self._highest = 0  # RSS since the last reset: growth beyond it is looked at
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> MemoryMeter:
        self._stop.clear()
        self._before = self.look()
        self._thread = threading.Thread(target=self._watch, name="gnnscale-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self.look()

    @property
    def added(self) -> int:
        """Anonymous memory at its peak, beyond what there was when it began."""
        return self.peak.anonymous - self._before.anonymous

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

"""What the GNU C library keeps of freed buffers, and what it gives back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

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

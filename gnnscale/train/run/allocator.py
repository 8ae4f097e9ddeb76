"""Memory that the steps of a run free, kept for the next step instead of given back.

Every step allocates and frees the same megabytes of activations and gradients. The GNU C library
returns them to the system and takes them again, and each page that comes back is faulted in and
zeroed. Huge pages were tried beside this and changed nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

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


def _adjustable_library() -> Any:
    library = _gnu_library()
    return None if any(name in os.environ for name in _SETTINGS) else library


def _gnu_library() -> Any:
    library = ctypes.CDLL(None) if os.name == "posix" else None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None

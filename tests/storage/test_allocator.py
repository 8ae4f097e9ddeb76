"""Freed buffers are kept while a run lasts, and given back after it."""

import os
import sys

import pytest

from gnnscale.storage import allocator

_ALONE = """
import resource
import time
import torch
from gnnscale.storage.allocator import buffers_within, kept_buffers

SIZE = 40 << 20  # above what the library keeps by itself
PAGES = SIZE // resource.getpagesize()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def falls_below(bytes):  # what was unmapped is counted out of what is resident a little later
    until = time.monotonic() + 30
    while resident() >= bytes and time.monotonic() < until:
        time.sleep(0.01)
    return resident() < bytes

def is_new():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before >= PAGES // 2

assert all(is_new() for _ in range(8))
with kept_buffers():
    with kept_buffers():  # as a run in a callback of another does
        pass
    # What the library cuts off both ends of an aligned buffer it keeps, seven of each size, as if
    # in use; between two of them there is no room for another buffer of that size. Which of them a
    # process has is chance, and so is how many uses it takes: nine at most have been seen.
    assert not all(is_new() for _ in range(64))
    held = resident()
assert falls_below(held - SIZE // 2)
with kept_buffers():
    SMALL = [torch.ones(256 << 10, dtype=torch.uint8) for _ in range(400)]
    with buffers_within("1GB"):
        # Many: the first fill what the heap has kept room for, and stay there.
        more = [torch.ones(256 << 10, dtype=torch.uint8) for _ in range(1600)]
        held = resident()
        del more[::2]
        assert falls_below(held - 50 * (1 << 20))  # of two hundred
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.skipif(allocator._gnu_library() is None, reason="another C library")
@pytest.mark.skipif(bool(set(allocator._SETTINGS) & set(os.environ)), reason="set by the user")
def test_pages_come_back_from_the_kept_ones(forks):
    # In a process of its own: the heap of a long one has room anywhere.
    process = forks.start(_ALONE)
    assert process.wait() == 0, process.errors.read_text()


def test_settings_of_the_environment_stay(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000000")
    calls = []
    monkeypatch.setattr(allocator, "_gnu_library", lambda: calls.append(1) or Library())
    with allocator.kept_buffers():
        allocator.return_freed_memory()
    assert calls == [1, 1]


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_gnu_library", lambda: None)
    with allocator.kept_buffers():
        allocator.return_freed_memory()


class Library:
    """Fails where anything is called."""

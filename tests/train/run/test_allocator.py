"""Freed buffers are kept while a run lasts, and given back after it."""

import os
import sys

import pytest

from gnnscale.train.run import process as allocator

_ALONE = """
import ctypes
import resource
import torch
from gnnscale.train.run.process import kept_buffers

SIZE = 96 << 20  # above what the library keeps by itself
PAGES = SIZE // resource.getpagesize()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

def faults_of_a_use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# What the library cuts off both ends of an aligned buffer it keeps, seven of each size, as if in
# use, and a buffer between two such ends has no room for another of its size. It keeps no more than
# seven, and which of them a process has already is chance.
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for end in [library.malloc(size) for size in range(24, 152, 16) for _ in range(8)]:
    library.free(end)

def fewest():
    return min(faults_of_a_use() for _ in range(8))  # once the heap has settled

assert fewest() >= PAGES // 2
with kept_buffers():
    with kept_buffers():  # as a run in a callback of another does
        pass
    assert fewest() < PAGES // 2
    held = resident()
assert resident() < held - SIZE // 2
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

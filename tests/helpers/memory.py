"""What of files is resident in this process, and activations in files on graphs that are small."""

from __future__ import annotations

import contextlib
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from gnnscale.inference import engine

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


def resident_file_pages(path: Path) -> int:
    """Of a mapped file, or of those in a folder; pages of libraries come and go as they please."""
    maps = re.split(r"^(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    sizes = [re.search(r"Rss: +(\d+) kB", one) for one in maps if str(path) in one]
    assert sizes, "nothing of it is mapped"
    return sum(int(size[1]) << 10 for size in sizes if size) // mmap.PAGESIZE


@contextlib.contextmanager
def few_columns(columns: int) -> Iterator[None]:
    """Inferences keep activations in files, and `columns` bytes of their columns in memory.

    On graphs so small that no bound a user may give would put them there.
    """
    found = engine.inference_budget

    def budget(*arguments, in_files=True, **options):
        return found(*arguments, in_files=True, **options)._replace(columns=columns)

    with mock.patch.object(engine, "inference_budget", budget):
        yield

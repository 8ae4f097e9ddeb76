"""What of files is resident in this process, and activations in files on graphs that are small."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from unittest import mock

import pytest

from gnnscale.inference import engine

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


def resident_file_pages() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[2])


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

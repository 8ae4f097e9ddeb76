"""Activations in files on graphs so small that no bound a user may give would put them there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from gnnscale.inference import engine


@contextlib.contextmanager
def few_columns(columns: int) -> Iterator[None]:
    """Inferences keep layers in files, and `columns` bytes of their columns in memory at a time."""
    found = engine.inference_budget

    def budget(*arguments, in_files=True, **options):
        return found(*arguments, in_files=True, **options)._replace(columns=columns)

    with mock.patch.object(engine, "inference_budget", budget):
        yield

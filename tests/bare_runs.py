"""Runs without what takes longer than training a small graph, for the tests of several rooms."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def bare_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves and read no memory, but for tests that ask for `drawn` or `metered`."""
    from tests.train.small_runs import draw_nothing, read_no_memory

    if "drawn" not in request.fixturenames:
        draw_nothing(monkeypatch.setattr)
    if "metered" not in request.fixturenames:
        read_no_memory(monkeypatch.setattr)


@pytest.fixture
def drawn() -> None:
    """Draw the curves of runs."""


@pytest.fixture
def metered() -> None:
    """Measure the memory of runs."""

"""What all tests of train/ share."""

from __future__ import annotations

import pytest
import torch

from gnnscale.train import Report, kept_run


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """Keep the user's own partition cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded():
    """Models are built from torch's generator."""
    torch.manual_seed(0)


@pytest.fixture
def no_curves(monkeypatch):
    """Drawing takes longer than training a small graph."""
    monkeypatch.setattr(Report, "plot", lambda self, path: path)


class _NoMeter:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def look(self):
        pass


@pytest.fixture
def no_meter(monkeypatch):
    """Reading the process's memory takes longer than training a small graph."""
    monkeypatch.setattr(kept_run, "MemoryMeter", _NoMeter)
    monkeypatch.setattr(kept_run, "memory_use", lambda meter: {})

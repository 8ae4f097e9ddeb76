"""What all tests of data/ share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_datasets_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own data sets out."""
    monkeypatch.delenv("GNNSCALE_DATASETS", raising=False)

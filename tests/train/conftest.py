"""What all tests of train/ share."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.small_runs import bare_runs, drawn, metered  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True)
def seeded():
    """Models are built from torch's generator."""
    torch.manual_seed(0)

"""What all tests of nn/ share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Modules are built from torch's generator."""
    torch.manual_seed(0)

"""What all tests of inference/ share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Modules are built from torch's generator."""
    torch.manual_seed(0)

"""What all tests of parallel/ share."""

from __future__ import annotations

import pytest
import torch

from tests.costs.conftest import machine  # noqa: F401  (fixture)
from tests.helpers.small_runs import bare_runs, drawn, metered  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of a pipeline would each start as many of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

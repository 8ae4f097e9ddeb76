"""What all tests of parallel/ share."""

from __future__ import annotations

import pytest
import torch

from tests.bare_runs import bare_runs, drawn, metered  # noqa: F401  (fixtures)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """Keep the user's own partition cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """Threads of a pipeline would each start as many of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

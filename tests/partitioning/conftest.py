"""A partition cache of the tests' own."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory):
    """Keep the user's own cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield

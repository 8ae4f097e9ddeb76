"""Settings of the whole suite, made before torch is imported anywhere.

The suite draws the same examples every time, 25 of them where a test does not say otherwise, and
sets none a deadline: kernels compile in the first one, and the machine may be busy.
`pytest --hypothesis-profile=explore` draws new ones.
"""

from __future__ import annotations

import gc
import os
import signal
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.helpers.forks import Forks

# A process that shares the tests is given a terminal's size, which a console of rich then keeps.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Threads that wait for work spin by default, and starve each other where the cores are shared with
# another process.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Triton asks for it when it is imported, and torch.distributed imports it where it is installed.
if not os.path.exists("/dev/nvidia0"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell has what it starts in the background ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("explore", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile("repeatable")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no test by bytes: packed ones hold the second of it, and processes share the tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage need look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own partition cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    """Weights and draws of a test do not depend on the tests before it."""
    import torch

    torch.manual_seed(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Start processes that need not import everything again."""
    server = Forks()
    yield server
    server.close()

"""What all tests of the command line share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gnnscale.cli import app
from tests.helpers.small_runs import bare_runs, drawn, metered  # noqa: F401  (fixtures)

GRAPH = "synthetic:planted?nodes=300&features=16&classes=4"
FAST = ("--num-parts", "6", "--clusters-per-batch", "2", "--hidden-channels", "8")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, without the developer's own data sets and caches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GNNSCALE_DATASETS", raising=False)
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("COLUMNS", "200")
    logger = logging.getLogger("gnnscale")
    level, handlers = logger.level, logger.handlers[:]
    yield tmp_path
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture
def gnnscale() -> Callable[..., Any]:
    """Run a command in this process; a traceback is raised, not swallowed."""

    def run(*args: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, args)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return run

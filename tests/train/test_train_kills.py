"""A run killed at any moment goes on to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import small_runs
import torch
from small_runs import assert_same, same_course, small_trainer, weights_of


class ForkServer:
    """Forks children that have everything imported."""

    def __init__(self) -> None:
        here = Path(small_runs.__file__).resolve()
        # Threads that wait without spinning: a busy machine then slows the children little.
        waiting = {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(here.parents[2])}
        self.process = subprocess.Popen(
            [sys.executable, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **waiting},
        )
        assert self._answer() == "ready"

    def run(
        self,
        run_dir: Path,
        options: dict[str, Any],
        *,
        kill_after: float | None = None,
        kill_at: tuple[str, int] | None = None,
    ) -> int:
        """The child's exit status; negative: the signal that ended it."""
        request = {
            "run_dir": str(run_dir),
            "options": options,
            "kill_after": kill_after,
            "kill_at": kill_at,
            "threads": torch.get_num_threads(),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def server():
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def seconds(server, tmp_path_factory) -> float:
    """How long an uninterrupted run takes."""
    started = time.monotonic()
    assert server.run(tmp_path_factory.mktemp("whole"), CASES[0]) == 0
    return time.monotonic() - started


CASES = [
    {"model": "gcn", "scheduler": "cosine", "epochs": 12},
    {"model": "gat", "optimizer": "momentum", "scheduler": "plateau-max", "epochs": 12},
    {"model": "noisy", "scheduler": "step", "early_stopping": 5, "epochs": 12},
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_killed_at_random_moments(case, server, seconds, tmp_path, no_curves):
    options = {**CASES[case], "checkpoint_every": 1 + case}
    whole = small_trainer(None, **options)
    expected = whole.fit()
    clock = random.Random(case)
    for _ in range(2):
        status = server.run(tmp_path / "run", options, kill_after=clock.uniform(0.1, 0.9) * seconds)
        assert status in (0, -signal.SIGKILL)
    assert server.run(tmp_path / "run", options) == 0
    loaded = small_trainer(tmp_path / "run", **options)
    same_course(loaded.fit(resume=True), expected)
    assert_same(weights_of(loaded), weights_of(whole))
    assert not list((tmp_path / "run").glob(".*.part")), "half-written files stay behind"


def test_killed_while_it_writes(server, tmp_path, no_curves):
    """At the flush, and between flush and renaming, of whichever file comes then."""
    options = {"model": "sage", "epochs": 2, "checkpoint_every": 2}
    whole = small_trainer(None, **options)
    expected = whole.fit()
    moments = [("fsync", 2), ("replace", 3), ("fsync", 24), ("replace", 5), ("fsync", 4)]
    statuses = [server.run(tmp_path / "run", options, kill_at=moment) for moment in moments]
    assert -signal.SIGKILL in statuses
    assert server.run(tmp_path / "run", options) == 0
    loaded = small_trainer(tmp_path / "run", **options)
    same_course(loaded.fit(resume=True), expected)
    assert_same(weights_of(loaded), weights_of(whole))

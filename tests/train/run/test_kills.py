"""A run killed at any moment goes on to the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest
import torch

from tests.helpers.small_runs import assert_same, same_course, small_trainer, weights_of

# Runs to its end, or up to the n-th call of a function of os.
RUN = """
import json, os, signal, sys, torch
from tests.helpers.small_runs import draw_nothing, read_no_memory, small_trainer

folder, threads, options, name, count = map(json.loads, sys.argv[1:])
torch.set_num_threads(threads)
draw_nothing(setattr)
read_no_memory(setattr)
if name is not None:
    real, calls = getattr(os, name), []

    def counted(*arguments, **keywords):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)

    setattr(os, name, counted)
small_trainer(folder, **options).fit()
"""


def started(forks, folder, options, name=None, count=0):
    arguments = (str(folder), torch.get_num_threads(), options, name, count)
    return forks.start(RUN, *map(json.dumps, arguments))


CASES = [
    {"model": "gcn", "scheduler": "cosine", "epochs": 12},
    {"model": "noisy", "optimizer": "momentum", "scheduler": "plateau-max", "epochs": 12},
]


@pytest.fixture(scope="module")
def seconds(forks, tmp_path_factory) -> float:
    """How long an uninterrupted run takes."""
    begun = time.monotonic()
    assert started(forks, tmp_path_factory.mktemp("whole"), CASES[0]).wait() == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("case", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_killed_at_random_moments(case, forks, seconds, tmp_path):
    options = {**CASES[case], "checkpoint_every": 1 + case}
    whole = small_trainer(None, **options)
    expected = whole.fit()
    clock = random.Random(case)
    for _ in range(2):
        run = started(forks, tmp_path / "run", options)
        time.sleep(clock.uniform(0.1, 0.9) * seconds)
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() in (0, -signal.SIGKILL)
    resumed = small_trainer(tmp_path / "run", **options)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))
    assert not list((tmp_path / "run").glob(".*.part")), "half-written files stay behind"


def test_killed_while_it_writes(forks, tmp_path):
    """At the flush, and between flush and renaming, of whichever file comes then."""
    options = {"model": "sage", "epochs": 2, "checkpoint_every": 2}
    whole = small_trainer(None, **options)
    expected = whole.fit()
    moments = [("fsync", 2), ("replace", 3), ("fsync", 24), ("replace", 5), ("fsync", 4)]
    statuses = [started(forks, tmp_path / "run", options, *moment).wait() for moment in moments]
    assert -signal.SIGKILL in statuses
    resumed = small_trainer(tmp_path / "run", **options)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))

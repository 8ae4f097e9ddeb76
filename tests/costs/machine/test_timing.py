"""Timing by a clock of our own, on a machine that stops whenever it likes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.costs.machine import timing
from gnnscale.costs.machine.timing import Clock, Pool

RATE = 1e-9  # seconds a unit
AXES = ((10, 1000, 100_000), (8, 64))


class Disturbed:
    """A clock that kernels advance, and now and then a stall, or another process, does."""

    def __init__(self, often, stall, seed=0):
        self.now, self._often, self._stall = 0.0, often, stall
        self._random = random.Random(seed)

    def perf_counter(self):
        return self.now

    def run(self, seconds):
        stalled = self._random.random() < self._often
        self.now += seconds + self._stall * stalled


@pytest.fixture(scope="module")
def pool():
    return Pool()


def measured(clock, pool, disturbed, until, rate=RATE):
    def units(rows, columns):
        return rows * columns

    def ready(rows, columns):
        return lambda: (disturbed.run, (rate * units(rows, columns),))

    def touched(rows, columns):
        return 4 * units(rows, columns)

    return clock.grid(("rows", "columns"), AXES, ready, units, touched, pool, until)


@given(st.sampled_from([0.0, 0.01, 100.0]), st.sampled_from([1e4, 1e9]), st.integers(0, 10**6))
def test_what_disturbs_some_runs_is_in_no_rate(pool, stall, until, seed):
    with pytest.MonkeyPatch.context() as patch:
        disturbed, clock = Disturbed(0.03, stall, seed), Clock()
        patch.setattr(timing, "time", disturbed)
        table = measured(clock, pool, disturbed, until)
    assert all(value == pytest.approx(RATE) for value in table.values)
    assert clock.disturbed < 0.2


@given(st.floats(1e-12, 1e-3), st.floats(0, 100))
def test_measuring_ends_in_time_however_slow_the_machine(pool, rate, until):
    """Nothing is run that would end late, but the smallest point; a table is whole all the same."""
    with pytest.MonkeyPatch.context() as patch:
        disturbed = Disturbed(0, 0.0)
        patch.setattr(timing, "time", disturbed)
        table = measured(Clock(), pool, disturbed, until, rate)
    assert disturbed.now <= max(until, 9 * 80 * rate) + 1e-3 + 1e-9
    assert all(value == pytest.approx(rate) for value in table.values)


def test_a_disturbed_clock_says_so(monkeypatch):
    disturbed, clock = Disturbed(0.3, 100.0), Clock()
    monkeypatch.setattr(timing, "time", disturbed)
    assert clock.seconds(lambda: (disturbed.run, (0.1,))) == pytest.approx(0.1)
    assert 0.1 < clock.disturbed < 0.6

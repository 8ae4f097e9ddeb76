"""Timing of kernels as they run within a step: each on arrays that none has just touched.

A machine is hardly ever left to itself, and may stop a process for seconds. Points of a grid are
therefore run in turns, round after round, and of each its lower quartile counts: what disturbs one
round of some points disturbs no other. None is run that would not be done in time: a slow machine
has fewer points, the small ones first, and what was not run is taken to be as what is nearest.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from gnnscale.costs.machine.table import Table

# Bytes that a step goes through: within caches, about them, and far out of them.
WORKING = (4 << 20, 24 << 20, 160 << 20)
_ROUNDS = 5  # of a grid, at most
_SHORT = 5e-4  # seconds of a point in a round, at least
_MOST = 8  # runs of it
_LONG = 0.01  # seconds of a run that counts though it is the first: what is new to it is little
_OFF = 1.5  # times the lower quartile: a run that took longer was disturbed

# What makes a kernel ready, untimed, and gives it with its arguments.
Ready = Callable[[], tuple[Callable[..., object], tuple[object, ...]]]


class Pool:
    """Rows, of which every run takes others until a step's memory has been gone through.

    Attributes:
        working: the bytes of a step.
    """

    def __init__(self) -> None:
        self._numbers = torch.rand(WORKING[-1] // 4).sub_(0.5)
        self._at = self._held = 0
        self._given: deque[Tensor] = deque()
        self.working = WORKING[0]

    def rows(self, count: int, columns: int) -> Tensor:
        """Rows that have not been taken for as long as there are others."""
        size = count * columns
        if self._at + size > min(max(self.working // 8, size), len(self._numbers)):
            self._at = 0
        found = self._numbers[self._at : self._at + size]
        if size > len(self._numbers):
            found = torch.rand(size)
        self._at += size
        return found.view(count, columns)

    def hold(self, given: object) -> None:
        """Keep what a kernel gave until others have come in its place."""
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(value, Tensor):
                self._given.append(value.detach())
                self._held += value.nbytes
        while self._given and self._held > self.working // 2:
            self._held -= self._given.popleft().nbytes


class Clock:
    """Times kernels, and remembers how many runs were disturbed."""

    def __init__(self) -> None:
        self._runs = self._off = 0

    @property
    def disturbed(self) -> float:
        """Share of the runs that took far longer than others of the same."""
        return self._off / max(1, self._runs)

    def seconds(self, ready: Ready, until: float = math.inf, least: int = 7) -> float:
        """Seconds of a kernel: the lower quartile of some runs, after one that is not counted.

        Args:
            ready: what makes it ready.
            until: `time.perf_counter()` after which there is no further run.
            least: runs.
        """
        found = self._runs_of(ready, None, 0)
        while len(found) < least and time.perf_counter() < until:
            found += self._runs_of(ready, None, least)
        return self.settled(found)

    def settled(self, runs: Sequence[float]) -> float:
        """The lower quartile of some runs of the same."""
        quartile = sorted(runs)[(len(runs) - 1) // 4]
        self._runs += len(runs)
        self._off += sum(run > _OFF * quartile for run in runs)
        return quartile

    def grid(
        self,
        names: Sequence[str],
        axes: Sequence[Sequence[int]],
        ready: Callable[..., Ready],
        units: Callable[..., float],
        touched: Callable[..., float],
        pool: Pool,
        until: float,
    ) -> Table:
        """Measure a kernel over classes of sizes, in memory and in caches.

        Args:
            names: of the sizes.
            axes: the sizes.
            ready: from a point, what makes a kernel ready.
            units: from a point, its units of work.
            touched: from a point, the bytes that it reads and writes.
            pool: of rows.
            until: `time.perf_counter()` by which it is done; the smallest point is run in any case.
        """
        points = sorted(product(*axes), key=lambda point: units(*point))
        fitting = [
            (*point, working)
            for working in WORKING
            for point in points
            # What does not fit into caches comes from memory, whatever else a step goes through.
            if (touched(*point) <= working or working == WORKING[-1])
            and touched(*point) <= WORKING[-1]
        ]
        made: dict[tuple[int, ...], Ready] = {}
        runs: dict[tuple[int, ...], list[float]] = {}
        pace, began = 0.0, time.perf_counter()  # seconds a unit, of the point before
        for number in range(_ROUNDS):
            for key in fitting:
                point, working = key[:-1], key[-1]
                end = until
                if not number:  # a part of the time for each class of steps
                    end = began + (WORKING.index(working) + 1) / len(WORKING) * (until - began)
                if key in runs:
                    pace = min(runs[key]) / units(*point)
                if runs and time.perf_counter() + 2 * pace * units(*point) > end:
                    continue
                if point not in made:
                    made[point] = ready(*point)
                pool.working = working
                runs.setdefault(key, []).extend(self._runs_of(made[point], pool, number))
                pace = min(runs[key]) / units(*point)
        found = {key: self.settled(own) / units(*key[:-1]) for key, own in runs.items()}
        sizes = (*axes, WORKING)
        values = tuple(found.get(key) or _nearest(found, key) for key in product(*sizes))
        floats = tuple(tuple(map(float, axis)) for axis in sizes)
        return Table((*names, "bytes of the step"), floats, values)

    def _runs_of(self, ready: Ready, pool: Pool | None, number: int) -> list[float]:
        """Some runs one after the other; the first of a first round is not counted."""
        found: list[float] = []
        for run in range(_MOST + 1):
            kernel, arguments = ready()
            started = time.perf_counter()
            out = kernel(*arguments)
            taken = time.perf_counter() - started
            if pool is not None:
                pool.hold(out)
            if run or number or taken > _LONG:
                found.append(taken)
            if sum(found) > _SHORT:
                break
        return found


def _nearest(found: dict[tuple[int, ...], float], key: tuple[int, ...]) -> float:
    """What was measured at the nearest sizes: that of smaller ones, of equally near ones."""

    def distance(other: tuple[int, ...]) -> tuple[float, float]:
        apart = [abs(math.log(a / b)) for a, b in zip(key, other, strict=True)]
        # Where a kernel is of rows that do not fit, the step is as large as there are.
        return sum(apart[:-1]) + 0.1 * apart[-1], sum(other)

    return found[min(found, key=distance)]

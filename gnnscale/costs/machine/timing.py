"""Timing of kernels as they run within a step: each on arrays that none has just touched."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from gnnscale.costs.machine.table import Table

WORKING = (4 << 20, 160 << 20)  # bytes that a step goes through: within caches, and far out of them
_LONGEST = 0.06  # seconds of one run: what would take longer is as a smaller one is, by its work
_ROUNDS, _SHORT = 3, 1e-3  # at least so many runs, and seconds of all


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


# Makes a kernel at a point of the grid: what runs before it and is not timed gives its arguments.
Ready = Callable[[], tuple[Callable[..., object], tuple[object, ...]]]


def median_seconds(ready: Ready, pool: Pool | None = None) -> float:
    """The median of some runs, after one that is not counted."""
    found: list[float] = []
    while len(found) <= _ROUNDS or (len(found) < 20 and sum(found[1:]) < _SHORT):
        kernel, arguments = ready()
        started = time.perf_counter()
        out = kernel(*arguments)
        found.append(time.perf_counter() - started)
        if pool is not None:
            pool.hold(out)
        if len(found) > 1 and found[-1] > _LONGEST / 2:
            break
    return statistics.median(found[1:] or found)


def grid(
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
        names: of the sizes; the first is that by which its work grows without end.
        axes: the sizes.
        ready: from a point, what makes a kernel ready.
        units: from a point, its units of work.
        touched: from a point, the bytes that it reads and writes.
        pool: of rows.
        until: `time.perf_counter()` at which it is to be done: what is left is as what is nearest.
    """
    found: dict[tuple[int, ...], float] = {}
    points = sorted(product(*axes), key=lambda point: units(*point))
    for working in WORKING:
        pool.working = working
        for point in points:
            if working > WORKING[0] or not found or touched(*point) <= WORKING[0]:
                before = _smaller(found, axes, point, working)
                late = time.perf_counter() > until
                if before is not None and (late or before * units(*point) > _LONGEST):
                    found[*point, working] = before
                    continue
                found[*point, working] = median_seconds(ready(*point), pool) / units(*point)
    # What does not fit into caches comes from memory, whatever else a step goes through.
    for point in points:
        found.setdefault((*point, WORKING[0]), found[*point, WORKING[-1]])
    values = tuple(found[point] for point in product(*axes, WORKING))
    sizes = tuple(tuple(map(float, axis)) for axis in (*axes, WORKING))
    return Table((*names, "bytes of the step"), sizes, values)


def _smaller(
    found: dict[tuple[int, ...], float],
    axes: Sequence[Sequence[int]],
    point: tuple[int, ...],
    working: int,
) -> float | None:
    """What was measured at the nearest point before this one; None where nothing was."""
    first, *others = point
    for size in reversed([size for size in axes[0] if size < first]):
        if (own := found.get((size, *others, working))) is not None:
            return own
    if not found:
        return None

    def distance(other: tuple[int, ...]) -> float:
        pairs = zip((*point, working), other, strict=True)
        return sum(abs(torch.tensor(a / b).log().item()) for a, b in pairs)

    return found[min(found, key=distance)]

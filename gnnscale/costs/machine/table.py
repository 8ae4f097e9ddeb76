"""Table: what was measured on a grid of sizes, read between its points. Numbers alone, no torch."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

from gnnscale.errors import InputError


@dataclass(frozen=True)
class Table:
    """Seconds a unit of work, by sizes.

    Between the points of the grid the logarithm of what was measured goes straight with the
    logarithms of the sizes; beyond them it is that of the edge, so that seconds grow with the work.

    Attributes:
        names: what the sizes are.
        axes: where it was measured, ascending in each direction, all above 0.
        values: seconds a unit, the last axis fastest; all above 0.

    Raises:
        InputError: they do not fit one another.
    """

    names: tuple[str, ...]
    axes: tuple[tuple[float, ...], ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        points = math.prod(map(len, self.axes))
        if len(self.names) != len(self.axes) or points != len(self.values) or not points:
            raise InputError(
                f"a table over {', '.join(self.names)} has {len(self.axes)} axes of {points} points"
                f" and {len(self.values)} values"
            )
        rising = all(list(axis) == sorted(set(axis)) and axis[0] > 0 for axis in self.axes)
        sound = all(math.isfinite(value) and value > 0 for value in self.values)
        if not rising or not sound:
            raise InputError(
                f"a table over {', '.join(self.names)} has axes that ascend from above 0, and "
                "seconds above 0"
            )

    def at(self, *sizes: float) -> float:
        """Seconds a unit at these sizes, one for every axis."""
        return math.exp(self._log(sizes, 0, 0))

    def _log(self, sizes: tuple[float, ...], axis: int, start: int) -> float:
        if axis == len(self.axes):
            return math.log(self.values[start])
        points = self.axes[axis]
        stride = math.prod(map(len, self.axes[axis + 1 :]))
        size = min(max(sizes[axis], points[0]), points[-1])
        after = min(bisect_right(points, size), len(points) - 1)
        before = max(0, after - 1)
        low = self._log(sizes, axis + 1, start + before * stride)
        if before == after or size == points[before]:
            return low
        high = self._log(sizes, axis + 1, start + after * stride)
        share = math.log(size / points[before]) / math.log(points[after] / points[before])
        return low + share * (high - low)

    def rows(self) -> list[tuple[tuple[float, ...], float]]:
        """Every point with its value."""
        found: list[tuple[float, ...]] = [()]
        for axis in self.axes:
            found = [(*point, size) for point in found for size in axis]
        return list(zip(found, self.values, strict=True))

    @classmethod
    def from_json(cls, content: Any) -> Table:
        """Read what `dataclasses.asdict` made."""
        return cls(
            tuple(content["names"]),
            tuple(tuple(map(float, axis)) for axis in content["axes"]),
            tuple(map(float, content["values"])),
        )

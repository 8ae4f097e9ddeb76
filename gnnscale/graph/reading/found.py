"""What labels hold, counted in one pass over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnscale.graph.checks import blocks


@dataclass
class Found:
    """What labels hold, counted in blocks.

    Attributes:
        nan: how many.
        minus: -1, how many.
        zeros: how many.
        ones: how many.
        low: the least of the others than NaN and -1; `high` the greatest.
        odd_low: the least of what is not NaN, -1, 0 or 1; `odd_high` the greatest.
        part: row and value of the first that is no whole number, or infinite.
        none: rows without a 1 of which something is known.
        single: rows with a single 1 of which all is known.
        several: the first row with more than one 1.
        gaps: rows of which something is known and something is not.
    """

    nan: int = 0
    minus: int = 0
    zeros: int = 0
    ones: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    odd_low: float = float("inf")
    odd_high: float = float("-inf")
    part: tuple[int, float] | None = None
    none: int = 0
    single: int = 0
    several: int | None = None
    gaps: int = 0

    @classmethod
    def of(cls, y: Tensor) -> Found:
        """Count labels."""
        found, start = cls(), 0
        for rows in blocks(y):
            if rows.numel():
                found._add(rows, start)
            start += len(rows)
        return found

    def _add(self, rows: Tensor, start: int) -> None:
        if rows.size(1) == 1 and not rows.is_floating_point() and rows.dtype != torch.bool:
            least, most = (int(bound) for bound in rows.aminmax())
            if most > 1:  # classes: nothing else is asked of them, and there may be 10⁸
                self.low = min(self.low, 0 if least == -1 else least)
                self.high = max(self.high, most)
                self.odd_low, self.odd_high = min(self.odd_low, most), max(self.odd_high, most)
                self.minus += int((rows == -1).sum()) if least < 0 else 0
                return
        if rows.dtype in (torch.bool, torch.uint8):  # where torch finds 255 equal to -1
            rows = rows.short()
        minus, zero, one = rows == -1, rows == 0, rows == 1
        nan = torch.isnan(rows) if rows.is_floating_point() else torch.zeros_like(minus)
        self.nan += int(nan.sum())
        self.minus += int(minus.sum())
        self.zeros += int(zero.sum())
        self.ones += int(one.sum())
        if self.part is None and rows.is_floating_point():
            odd = ~nan & ((rows != rows.round()) | torch.isinf(rows))
            if bool(odd.any()):
                row, column = (int(i) for i in odd.nonzero()[0])
                self.part = start + row, float(rows[row, column])
        self.low, self.high = _bounds(rows, ~(nan | minus), self.low, self.high)
        odd = ~(nan | minus | zero | one)
        self.odd_low, self.odd_high = _bounds(rows, odd, self.odd_low, self.odd_high)
        if rows.size(1) > 1:
            ones, unknown = one.sum(1), (nan | minus).sum(1)
            whole, empty = unknown == 0, unknown == rows.size(1)
            self.none += int(((ones == 0) & ~empty).sum())
            self.single += int(((ones == 1) & whole).sum())
            self.gaps += int((~whole & ~empty).sum())
            if self.several is None and bool((ones > 1).any()):
                self.several = start + int((ones > 1).long().argmax())

    @property
    def marks(self) -> bool:
        """Whether there are no values but 0, 1, -1 and NaN."""
        return self.odd_low > self.odd_high

    @property
    def signs(self) -> bool:
        """Whether -1 stands beside 1 alone, and may mean "no"."""
        return self.minus > 0 and self.zeros == 0 and self.ones > 0 and self.marks


def _bounds(rows: Tensor, which: Tensor, low: float, high: float) -> tuple[float, float]:
    chosen = rows if bool(which.all()) else rows[which]
    if not chosen.numel():
        return low, high
    least, most = chosen.aminmax()
    return min(low, least.item()), max(high, most.item())

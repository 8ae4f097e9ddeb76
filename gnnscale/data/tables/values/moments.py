"""Times in the columns of a table, as numbers: of dates, seconds since 1970."""

from __future__ import annotations

import numpy as np

from gnnscale.data.tables.roles.evidence import Look
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow, types

_UNITS = {"ms": 1e3, "µs": 1e6, "ns": 1e9}  # as `Look.moments` says them


class Clock:
    """Reads the times in a column.

    Args:
        look: the column.
        what: the table, in errors.

    Attributes:
        name: what the column is called.
        type: what its cells are to be read as.
        dates: whether times are seconds since 1970, or else numbers of the column's own.

    Raises:
        InputError: the cells are no times.
    """

    def __init__(self, look: Look, what: str) -> None:
        self.name, self._what, self._moments = look.name, f"{what}: column {look.name}", ""
        kind = look.column.kind
        self._moments = look.moments
        if kind == "time":
            self.type = look.column.type
        elif look.is_number or kind == "empty":
            self.type = pyarrow.float64()
        elif kind == "text" and look.moments:
            self.type = pyarrow.large_string()
        else:
            raise InputError(
                f"{self._what}, which is time, is {look.in_words}; times are numbers, dates, or "
                "text as 2018-12-31 12:00"
            )
        if kind == "time" and not (types.is_timestamp(self.type) or types.is_date(self.type)):
            raise InputError(f"{self._what}, which is time, is {self.type}; give dates with it")
        self.dates = bool(look.moments)

    def read(self, cells: pyarrow.Array) -> np.ndarray:
        """The times, float64 `[k]`; NaN where a cell is empty.

        Raises:
            InputError: a cell is no time.
        """
        if types.is_large_string(cells.type):
            cells = self._parsed(cells)
        if types.is_timestamp(cells.type) or types.is_date(cells.type):
            kind = pyarrow.timestamp("us", getattr(cells.type, "tz", None))
            whole = compute.cast(cells, kind, safe=False).cast(pyarrow.int64())
            return np.asarray(whole.to_numpy(zero_copy_only=False), np.float64) / 1e6
        found = np.array(cells.to_numpy(zero_copy_only=False), np.float64)
        if self._moments == "dates as numbers":
            return _of_days(found, self._what)
        return found / next((f for u, f in _UNITS.items() if self._moments.startswith(u)), 1.0)

    def _parsed(self, cells: pyarrow.Array) -> pyarrow.Array:
        filled = compute.if_else(compute.equal(cells, ""), None, cells)
        for zone in (None, "UTC"):
            try:
                return compute.cast(filled, pyarrow.timestamp("us", zone))
            except pyarrow.ArrowInvalid as error:
                why = error
        raise InputError(f"{self._what}, which is time, holds what is no time: {why}") from why


def _of_days(numbers: np.ndarray, what: str) -> np.ndarray:
    """Seconds since 1970 of days that are written as 20181231; 0 stands for an unknown one."""
    known = ~np.isnan(numbers) & (numbers != 0)
    text = np.char.mod("%08d", numbers[known].astype(np.int64))
    try:
        days = pyarrow.array(text).cast(pyarrow.string())
        parsed = compute.strptime(days, format="%Y%m%d", unit="s")
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{what}, which is time, holds what is no date: {error}") from error
    seconds = np.full(numbers.shape, np.nan)
    seconds[known] = parsed.cast(pyarrow.int64()).to_numpy(zero_copy_only=False)
    return seconds

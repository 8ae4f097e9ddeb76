"""What separates the cells of a text, and what they are put in: by the first rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gnnscale.data.tables.text.cells import Row, filled_cells, is_missing, is_number, rows_of
from gnnscale.errors import InputError

STRONG = ("\t", ";", "|", ",", "\x01")  # the last is what Hive writes
#: How many rows are looked at.
ROWS = 1_000
#: What separates cells in a text that is called so.
USUAL = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Reading:
    """The first rows of a text, as some separator cuts them.

    Attributes:
        sep: the separator; " " is any white space.
        quote: what cells may be put in; "" for nothing.
        padded: whether blanks beside separators are no part of the cells.
        rows: the rows.
    """

    sep: str
    quote: str
    padded: bool
    rows: list[Row]

    @cached_property
    def width(self) -> int:
        """How many cells most rows have."""
        counts = [len(row.cells) for row in self.rows[1:] or self.rows]
        return max(counts, key=counts.count) if counts else 0

    @cached_property
    def fitting(self) -> float:
        """The share of rows that have so many, without the first."""
        rows = self.rows[1:] or self.rows
        return sum(len(row.cells) == self.width for row in rows) / max(1, len(rows))

    @cached_property
    def numbers(self) -> float:
        """The share of cells that are numbers, without the first row."""
        cells = [cell for row in self.rows[1:] or self.rows for cell in row.cells]
        comma = self.sep != ","
        return sum(is_number(c, comma) or is_missing(c) for c in cells) / max(1, len(cells))

    def consistent(self) -> bool:
        """Whether all rows have as many cells, at least two; the first may name fewer columns."""
        if self.width < 2 or self.fitting < 1:
            return False
        return len(self.rows[0].cells) == self.width or self.names_fewer()

    def joins(self) -> bool:
        """Whether a cell holds a separator and is no number: "1,user", of "user 1,user 2"."""
        cells = (cell for row in self.rows for cell in row.cells)
        return any(any(sign in c for sign in STRONG) and not is_number(c, True) for c in cells)

    def has_stray_quote(self) -> bool:
        """Whether quotes are not around cells alone."""
        cells = (cell for row in self.rows for cell in row.raw)
        return not self.quote or any(
            self.quote in c[1:] and c.lstrip()[0] != self.quote for c in cells
        )

    def names_fewer(self) -> bool:
        """Whether the first row has fewer cells, and no number, where others have."""
        first = self.rows[0].cells
        return 0 < len(first) < self.width and not any(map(is_number, first)) and self.numbers > 0


def separated(text: str, what: str, suffix: str, sep: str | None) -> Reading:
    """Read the first rows of a text by its separator.

    Args:
        text: rows, without comments.
        what: what errors call it.
        suffix: of its name, as ".csv".
        sep: the separator, where it is given.

    Raises:
        InputError: there are two ways to read it.
    """
    if sep is not None:
        if not isinstance(sep, str) or not sep or not sep.isascii() or "\n" in sep or '"' in sep:
            raise InputError(f"sep={sep!r}: give what stands between cells, as ',' or ' '")
        said = reading_of(text, " " if sep in ("\\s+", r"\s") or not sep.strip(" ") else sep)
        if said.rows and not _is_cut(said.rows):
            others = [reading_of(text, sign) for sign in STRONG]
            if other := next((r for r in others if r.consistent()), None):
                raise InputError(
                    f"{what}: no line holds sep={sep!r}; sep={other.sep!r} gives {other.width} "
                    "columns"
                )
        return said
    readings = {sign: reading_of(text, sign) for sign in (*STRONG, "::", " ")}
    fitting = [reading for reading in readings.values() if reading.consistent()]
    strong = [reading for reading in fitting if reading.sep in STRONG]
    if not strong:
        return fitting[0] if fitting else _ragged(readings, suffix)  # "::" before blanks
    best = max(reading.numbers for reading in strong)
    blank = fitting[-1] if fitting[-1].sep == " " and not fitting[-1].joins() else None
    if blank is not None and blank.names_fewer() and not all(r.names_fewer() for r in strong):
        blank = None  # "1;2 345" under two names
    tabs = strong[0].sep == "\t"  # which are blanks too: "user 1", a tab, "user 2"
    if blank is not None and blank.numbers > best and (blank.numbers == 1 or not tabs):
        return blank  # "1,5 2,5"
    if best == 1:
        strong = [reading for reading in strong if reading.numbers == 1]
    signs = [reading.sep for reading in strong]
    if len(strong) == 1:
        return strong[0]
    if "\t" in signs and USUAL.get(suffix) != ",":
        return strong[signs.index("\t")]
    if signs == [";", ","] and re.search(r"\D,|,\D", text) is None:
        return strong[0]  # its commas are decimal
    ways = " or ".join(
        f"sep={r.sep!r} ({r.width} columns: {' | '.join(c.strip() for c in r.rows[-1].cells[:4])})"
        for r in strong
    )
    raise InputError(f"{what} can be read in {len(strong)} ways; say {ways}")


def _ragged(readings: dict[str, Reading], suffix: str) -> Reading:
    """The most likely where no separator fits: a single column, or a fault that reading names."""
    for reading in sorted(readings.values(), key=lambda reading: -reading.fitting):
        enough = 0.5 if reading.sep in STRONG else 0.9
        if reading.width > 1 and (reading.fitting >= enough or reading.numbers == 1):
            return reading
    several = [r for r in readings.values() if r.sep in STRONG and _is_cut(r.rows)]
    usual = readings[USUAL.get(suffix, ",")]
    return several[0] if several and usual not in several else usual


def _is_cut(rows: Sequence[Row]) -> bool:
    return any(len(row.cells) > 1 for row in rows)


def reading_of(text: str, sep: str) -> Reading:
    """The first rows, as this separator cuts them."""
    rows = _first_rows(text, sep, '"')
    quote = '"'
    if _is_stray(rows, '"'):
        quote, rows = "", _first_rows(text, sep, "")
    elif "'" in text and not any('"' in cell for row in rows for cell in row.raw):
        single = _first_rows(text, sep, "'")
        if not _is_stray(single, "'") and _has_quoted_column(single):
            quote, rows = "'", single
    padded = sep != " " and _is_padded(rows, quote)
    if padded:
        rows = [
            row._replace(
                cells=[
                    cell.strip(" \t") if raw.strip()[:1] != quote else cell
                    for cell, raw in zip(row.cells, row.raw, strict=True)
                ]
            )
            for row in rows
        ]
    return Reading(sep, quote, padded, _evened(rows))


def _first_rows(text: str, sep: str, quote: str) -> list[Row]:
    found = []
    for row in rows_of(text, sep, quote):
        if len(row.cells) == 1 or any(cell.strip() for cell in row.cells):
            found.append(row)
        if len(found) == ROWS:
            break
    return found


def _evened(rows: list[Row]) -> list[Row]:
    """Rows of one length, where they differ by empty cells at their ends alone."""
    filled = max((filled_cells(row) for row in rows), default=0)
    if len({len(row.cells) for row in rows}) == 1 or any(len(r.cells) < filled for r in rows):
        return rows
    return [row._replace(cells=row.cells[:filled], raw=row.raw[:filled]) for row in rows]


def _is_stray(rows: Sequence[Row], quote: str) -> bool:
    """Whether some quote does not open a cell that another closes."""
    whole = re.compile(rf"{quote}(?:[^{quote}]|{quote}{quote})*{quote}", re.S)
    opened = (c.strip() for row in rows for c in row.raw if c.lstrip()[:1] == quote)
    return any(not whole.fullmatch(cell) for cell in opened)


def _has_quoted_column(rows: Sequence[Row]) -> bool:
    width = min((len(row.raw) for row in rows), default=0)
    columns = ([row.raw[i].strip() for row in rows[1:] or rows] for i in range(width))
    return any(
        any(column) and all(len(c) > 1 and c[0] == c[-1] == "'" for c in column if c)
        for column in columns
    )


def _is_padded(rows: Sequence[Row], quote: str) -> bool:
    """Whether blanks beside separators are there for the eye.

    All cells after the first have them, or a quoted one, or some that is there without them too.
    """
    later = [cell for row in rows for cell in row.raw[1:] if cell.strip()]
    if later and all(cell[0] == " " for cell in later):
        return True
    cells = {cell for row in rows for cell in row.raw}
    return any(
        cell != (bare := cell.strip(" \t"))
        and bare
        and ((quote and bare[0] == quote) or (bare in cells and not is_number(bare)))
        for cell in cells
    )

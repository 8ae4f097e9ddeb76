"""Lines of a text cut into cells by Arrow; where that fails, which cell or row is at fault."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from gnnscale.data.tables.column import CellMisfit
from gnnscale.data.tables.text.cells import MISSING, Row, filled_cells, is_missing, rows_of
from gnnscale.data.tables.text.dialect import Dialect
from gnnscale.data.tables.text.encoding import not_of
from gnnscale.data.tables.text.lines import Lines, separator_of
from gnnscale.data.tables.text.tails import without_tails
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.arrow import csv as arrow_csv

#: Of column types by their number.
Kinds: TypeAlias = "dict[int, pyarrow.DataType]"  # text: Arrow is imported when it is used


class Cutter:
    """Cuts lines into cells.

    Args:
        dialect: of the text.
        names: of its columns.
        what: what to call it in errors.

    Attributes:
        sep: what stands between cells.
    """

    def __init__(self, dialect: Dialect, names: list[str], what: str) -> None:
        self._dialect, self._names, self._what = dialect, names, what
        self.sep = separator_of(dialect)
        self._has_tails = False

    def rows(self, lines: Lines) -> Iterator[Row]:
        """The rows as they are written; slow."""
        text = lines.text.decode("utf-8", "replace")
        return rows_of(text, self.sep, self._dialect.quote)

    def parsed(self, lines: Lines, kinds: Mapping[int, pyarrow.DataType | None]) -> pyarrow.Table:
        """Cells of these types; None is what they look like.

        Raises:
            pyarrow.ArrowInvalid: there are others.
        """
        known = self._has_tails
        try:
            return self._by_arrow(self._evened(lines) if known else lines, kinds)
        except pyarrow.ArrowInvalid as error:
            if known or re.search(r"Expected \d+ columns, got", str(error)) is None:
                raise
            if (even := self._evened(lines)) is lines:
                raise
            self._has_tails = True  # as later rows will
            return self._by_arrow(even, kinds)

    def _evened(self, lines: Lines) -> Lines:
        """Without empty cells behind the last column, as spreadsheets write them."""
        return without_tails(lines, self.sep, self._dialect.quote, len(self._names)) or lines

    def _by_arrow(
        self, lines: Lines, kinds: Mapping[int, pyarrow.DataType | None]
    ) -> pyarrow.Table:
        quote = self._dialect.quote
        return arrow_csv.read_csv(
            pyarrow.BufferReader(lines.text),
            arrow_csv.ReadOptions(
                use_threads=False,
                block_size=len(lines.text) + 1,
                column_names=[str(i) for i in range(len(self._names))],
            ),
            arrow_csv.ParseOptions(
                delimiter=self.sep,
                quote_char=quote or False,
                newlines_in_values=bool(quote) and quote.encode() in lines.text,
            ),
            arrow_csv.ConvertOptions(
                column_types={str(i): kind for i, kind in kinds.items() if kind is not None},
                include_columns=[str(i) for i in kinds],
                decimal_point=self._dialect.decimal,
                null_values=MISSING,
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
            ),
        )

    def slowly(self, lines: Lines, kinds: Kinds, error: Exception) -> pyarrow.Table:
        """Column by column: integers written as floats, else the cell that does not fit.

        Raises:
            InputError: naming what is wrong, and where.
        """
        self.check_rows(lines, error)
        columns = {}
        for i, kind in kinds.items():
            try:
                columns[str(i)] = self.parsed(lines, {i: kind}).column(0)
                continue
            except pyarrow.ArrowInvalid as fault:
                why = fault
            try:
                column = self.parsed(lines, {i: pyarrow.float64()}).column(0)
                columns[str(i)] = compute.cast(column, kind)
            except pyarrow.ArrowInvalid:
                raise self._misfit(lines, i, kind) from why
        return pyarrow.table(columns)

    def check_rows(self, lines: Lines, error: Exception) -> None:
        """Name a row with other cells than the others, or bytes that are no text.

        Raises:
            InputError: it is there.
        """
        try:
            text = lines.text.decode()
        except UnicodeDecodeError as fault:
            line = lines.line + lines.text.count(b"\n", 0, fault.start)
            raise not_of(self._dialect.encoding, f"{self._what}, line {line}", fault) from error
        width = len(self._names)
        for row in rows_of(text, self.sep, self._dialect.quote):
            if not filled_cells(row) <= width <= len(row.cells):
                hint = "; for comments say comment=" if row.cells[0][:1] in ("#", "%", "/") else ""
                raise InputError(
                    f"{self._what}, line {lines.line + row.line} has {len(row.cells)} cells where "
                    f"others have {width}: {' | '.join(row.cells)[:80]!r}{hint}"
                ) from error

    def _misfit(self, lines: Lines, number: int, kind: pyarrow.DataType) -> CellMisfit:
        for row in self.rows(lines):
            cell = row.cells[number]
            try:
                if not is_missing(cell):
                    compute.cast(pyarrow.array([cell.strip()]), kind)
            except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
                return CellMisfit(
                    f"{self._what}, line {lines.line + row.line}: {self._names[number]} is "
                    f"{cell!r}, not {kind}",
                    cell.strip(),
                )
        return CellMisfit(f"{self._what}: {self._names[number]} is not {kind}")

    def texts(self, lines: Lines, number: int) -> list[str]:
        """The cells of a column as they are written."""
        column = self.parsed(lines, {number: pyarrow.large_string()}).column(0)
        return [cell or "" for cell in column.to_pylist()]

"""A text with a row a line, as a part of a table: its cells parsed by Arrow, blocks ahead."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gnnscale.data.tables.column import INDEX, CellMisfit, common_type, kind_of
from gnnscale.data.tables.files import read_bytes
from gnnscale.data.tables.text.cells import is_missing, is_number
from gnnscale.data.tables.text.cutter import Cutter, Kinds
from gnnscale.data.tables.text.dialect import recognised
from gnnscale.data.tables.text.encoding import decoded, recognised_encoding
from gnnscale.data.tables.text.lines import Lines, lines_of, separator_of
from gnnscale.data.tables.text.no_table import refuse_what_is_no_table
from gnnscale.data.tables.text.tails import without_empty_end
from gnnscale.data.tables.text.zeros import is_zero_led, zero_led
from gnnscale.errors import InputError
from gnnscale.storage.ahead import ahead
from gnnscale.storage.arrow import compute, pyarrow, types

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 18
_THREADS = 2


class TextPart:
    """A text with a row a line. See `Part`.

    Args:
        path: the file.
        sep: what separates cells, where it is known.
        comment: what comments begin with, where it is known.
        header: whether there is a header, or its names, where it is known.
        encoding: how it is written, where it is known.
        decimal: what stands before decimals, where it is known.

    Attributes:
        decimal: likewise, as recognised.

    Raises:
        InputError: it can be read in two ways.
        StoreError: it is missing or damaged.
    """

    typed = False

    def __init__(
        self,
        path: Path,
        *,
        sep: str | None = None,
        comment: str | None = None,
        header: bool | Sequence[str] | None = None,
        encoding: str | None = None,
        decimal: str | None = None,
    ) -> None:
        self._path, self.what = path, str(path)
        # Packed texts may come in short pieces.
        head, whole = _first(path, _SAMPLE_BYTES)
        if not head.strip():
            encoding = "utf-8"
        suffixes = [s.lower() for s in path.suffixes if s.lower() in (".csv", ".tsv", ".txt")]
        known = recognised_encoding(head, self.what, encoding)
        text = decoded(head, known.encoding, self.what, whole)
        refuse_what_is_no_table(text, self.what)
        self._dialect = recognised(
            text,
            whole,
            self.what,
            suffixes[-1] if suffixes else "",
            known.encoding,
            sep=sep,
            comment=comment,
            header=header,
            decimal=decimal,
        )
        self.decimal = self._dialect.decimal
        self.words = (*known.words, *self._dialect.words)
        self.names = list(self._dialect.names)
        self._cutter = Cutter(self._dialect, self.names, self.what)
        self.types = [pyarrow.null()] * len(self.names)
        self._rows: int | None = None
        self.empty_end = 0
        self._settled: set[int] = set()
        self._signed = np.zeros(len(self.names), bool)
        every = range(len(self.names))
        for lines in self._lines() if self.names else ():
            self.types = list(self._kinds_in(lines, dict(enumerate(self.types))).values())
            break
        if whole and self.names:
            self.settle(every)

    @property
    def row_numbers(self) -> frozenset[int]:
        """See `Part`: first columns without a name, of integers; one each time it was written."""
        names = self.names if self._dialect.first else []
        first = itertools.takewhile(lambda i: INDEX.fullmatch(names[i]), range(len(names)))
        return frozenset(i for i in first if kind_of(self.types[i]) in ("integer", "empty"))

    @property
    def signed(self) -> frozenset[int]:
        """See `Part`."""
        return frozenset(np.flatnonzero(self._signed).tolist())

    def count(self) -> int:
        """See `Part.count`."""
        if self._rows is None:
            columns = [0] if self.names else []
            read = self.read(columns, {0: pyarrow.large_string()})
            self._rows = sum(batch.num_rows for batch in read)
        return self._rows

    def settle(self, columns: Sequence[int]) -> None:
        """See `Part.settle`."""
        wanted = [i for i in columns if i not in self._settled]
        if not wanted:
            return
        rows = 0
        with ThreadPoolExecutor(_THREADS, "gnnscale-text") as threads:
            # Types that earlier rows have widened: later ones are read at once as these.
            given = ((lines, {i: self.types[i] for i in wanted}) for lines in self._lines())
            found = ahead(threads, lambda one: self._counted(*one), given, _THREADS)
            for count, kinds in found:
                rows += count
                for i, kind in kinds.items():
                    self.types[i] = common_type((self.types[i], kind)) or pyarrow.large_string()
        self._rows = rows
        self._settled.update(wanted)

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """See `Part.read`."""
        if not self.names:
            return
        wanted = {i: kinds.get(i, self.types[i]) for i in columns}
        given = self._lines()
        with ThreadPoolExecutor(_THREADS, "gnnscale-text") as threads:
            for table in ahead(threads, lambda lines: self._read(lines, wanted), given, _THREADS):
                for batch in table.to_batches():
                    yield pyarrow.RecordBatch.from_arrays(
                        [batch.column(str(i)) for i in columns], names=[str(i) for i in columns]
                    )

    def empty_at(self, column: int) -> str:
        """See `Part.empty_at`."""
        for lines in self._lines():
            for row in self._cutter.rows(lines):
                if not row.cells[column].strip():
                    return f"line {lines.line + row.line} of {self.what}"
        return ""

    def _lines(self) -> Iterator[Lines]:
        given = lines_of(self._path, self._dialect, self.what)
        if separator_of(self._dialect) == " ":
            return given
        return without_empty_end(given, separator_of(self._dialect), self._tell_left_out)

    def _tell_left_out(self, rows: int) -> None:
        if rows != self.empty_end:
            logger.info(
                "%s: rows of separators alone at its end are left out (%d)", self.what, rows
            )
            self.empty_end = rows

    def _read(self, lines: Lines, kinds: Kinds) -> pyarrow.Table:
        try:
            table = self._cutter.parsed(lines, kinds)
        except pyarrow.ArrowInvalid as error:
            table = self._cutter.slowly(lines, kinds, error)
        whole = [i for i, kind in kinds.items() if kind_of(kind) == "integer"]
        if whole:
            led = self._zero_led(lines)
            for i in whole:
                if led[i]:
                    cell = next(c for c in self._cutter.texts(lines, i) if is_zero_led(c))
                    raise CellMisfit(
                        f"{self.what}: column {self.names[i]} holds {cell!r}, which no number "
                        "is written as; it is text",
                        cell,
                    )
        for at, name in enumerate(table.column_names):
            if kind_of(table.schema.types[at]) == "text":
                table = table.set_column(at, name, _with_missing(table.column(at)))
        return table

    def _counted(self, lines: Lines, kinds: Kinds) -> tuple[int, Kinds]:
        kinds = self._kinds_in(lines, kinds)
        if kinds and kind_of(next(iter(kinds.values()))) == "text":
            first = next(iter(kinds))
            return self._read(lines, {first: kinds[first]}).num_rows, kinds
        return self._read(lines, dict([next(iter(kinds.items()))])).num_rows, kinds

    def _kinds_in(self, lines: Lines, kinds: Kinds) -> Kinds:
        """Types that hold the cells of this lines and those of types found before."""
        found = dict(kinds)
        try:
            table = self._cutter.parsed(
                lines, {i: None if kinds[i] == pyarrow.null() else kinds[i] for i in kinds}
            )
        except pyarrow.ArrowInvalid:
            table = self._inferred(lines, kinds)
        led, signed = self._zero_led(lines), self.signed
        for i, before in kinds.items():
            column = table.column(str(i))
            kind = column.type
            if types.is_binary(kind):  # as Arrow takes what is not UTF-8
                self._cutter.check_rows(lines, InputError(f"{self.what} is no text"))
            if kind_of(kind) == "float" and (i in signed or _may_be_integers(column)):
                kind = self._of_integers(lines, i)
            if led[i] and kind_of(kind) in ("integer", "float") and self._has_zero_led(lines, i):
                kind = pyarrow.large_string()
            common = common_type((before, kind))
            found[i] = (
                pyarrow.large_string() if common is None or kind_of(common) == "text" else common
            )
            if kind_of(found[i]) == "text" and self._is_turn(lines, i, before):
                self._check_turn(lines, i)
            if kind_of(found[i]) == "text" and i == len(self.names) - 1:
                self._check_behind(lines)
        return found

    def _inferred(self, lines: Lines, kinds: Kinds) -> pyarrow.Table:
        try:
            return self._cutter.parsed(lines, dict.fromkeys(kinds))
        except pyarrow.ArrowInvalid as error:
            self._cutter.check_rows(lines, error)
            raise

    def _of_integers(self, lines: Lines, number: int) -> pyarrow.DataType:
        """Of numbers with a plus, or so large that floats would make several of them one."""
        cells = [c.strip() for c in self._cutter.texts(lines, number) if not is_missing(c)]
        if not all(re.fullmatch(r"[-+]?\d+", cell) for cell in cells):
            return pyarrow.float64()
        if all(-(2**63) <= int(cell) < 2**63 for cell in cells):
            return pyarrow.int64()
        if all(0 <= int(cell) < 2**64 for cell in cells):
            return pyarrow.uint64()
        return pyarrow.large_string()

    def _is_turn(self, lines: Lines, number: int, before: pyarrow.DataType) -> bool:
        """Whether text in a column may be a fault: behind numbers, or in a header once more."""
        if self._dialect.comment_given or kind_of(before) in ("integer", "float"):
            return not self._dialect.comment_given
        if number == 0 and re.search(rb"^[#%]\s*\d", lines.text, re.M):
            cells = (c for c in self._cutter.texts(lines, number) if not is_missing(c))
            return all(is_number(c) for c in cells if c[:1] not in "#%" and c not in self.names)
        line = self._dialect.first_line.encode()
        if not line or b"\n" + line not in lines.text:
            return False
        others = {c for c in self._cutter.texts(lines, number) if not is_missing(c)} - set(
            self._dialect.first
        )
        return bool(others) and all(map(is_number, others))

    def _check_turn(self, lines: Lines, number: int) -> None:
        """Of numbers that text is found among: whether it is a header once more, or a comment."""
        first = [cell.strip() for cell in self._dialect.first]
        for row in self._cutter.rows(lines):
            cells = [cell.strip() for cell in row.cells]
            if first and cells == first and not is_number(first[number]):
                raise InputError(
                    f"{self.what}, line {lines.line + row.line} repeats the header; take it out"
                )
            if number == 0 and re.fullmatch(r"[#%]\s*\d*", cells[0]):
                raise InputError(
                    f"{self.what}, line {lines.line + row.line} ({cells[0]} …) may be a comment or "
                    f"a row; say comment={cells[0][:1]!r} to leave such lines out, comment='' to "
                    "read them"
                )

    def _check_behind(self, lines: Lines) -> None:
        """Of text in the last column: whether it is numbers with comments behind some of them."""
        if not re.search(rb"\d[ \t]+(#|%[ \t]*[^ \t\r\n]|//)", lines.text):
            return
        written = self._cutter.texts(lines, len(self.names) - 1)
        bare = [re.sub(r"\s+(#|%(?=.*\w)|//).*", "", cell) for cell in written]
        if all(is_number(cell) or is_missing(cell) for cell in bare):
            found = next(cell for cell, number in zip(written, bare, strict=True) if cell != number)
            raise InputError(
                f"{self.what}: {found!r} may be a number with a comment behind it; write comments "
                "in lines of their own"
            )

    def _has_zero_led(self, lines: Lines, number: int) -> bool:
        return any(map(is_zero_led, self._cutter.texts(lines, number)))

    def _zero_led(self, lines: Lines) -> np.ndarray:
        led = np.zeros(len(self.names), np.bool_)
        if b"0" in lines.text or b"+" in lines.text:
            sep, quote = (ord(sign or "\0") for sign in (self._cutter.sep, self._dialect.quote))
            signed = np.zeros_like(led)
            zero_led(np.frombuffer(lines.text, np.uint8), sep, quote, led, signed)
            self._signed |= signed
        return led


def _first(path: Path, most: int) -> tuple[bytes, bool]:
    head = b""
    for lines in read_bytes(path, most):
        head += lines
        if len(head) > most:
            return head, False
    return head, True


def _with_missing(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    empty = compute.equal(compute.binary_length(column), 0)
    if not compute.any(empty).as_py():
        return column
    return compute.if_else(empty, pyarrow.scalar(None, column.type), column)


def _may_be_integers(column: pyarrow.ChunkedArray) -> bool:
    most = compute.max(compute.abs(column)).as_py()
    return most is not None and most >= 2**53

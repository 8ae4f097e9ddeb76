"""A table of any size, in a file, in part files or in memory, as one thing to read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gnnscale.data.tables.added import WithAdded, constant, with_ranges
from gnnscale.data.tables.column import (
    CellMisfit,
    Column,
    Part,
    column_of,
    common_type,
    kind_of,
    unique_names,
)
from gnnscale.data.tables.columnar import ArrowPart, MemoryPart, ParquetPart
from gnnscale.data.tables.files import file_kind, hive_columns, part_files
from gnnscale.data.tables.frames import as_arrow
from gnnscale.data.tables.text.part import TextPart
from gnnscale.data.tables.text.questions import asked_of
from gnnscale.data.tables.values.marks import Marks
from gnnscale.errors import InputError
from gnnscale.storage.arrow import compute, pyarrow
from gnnscale.storage.files import expanded


def open_table(
    given: object,
    what: str,
    *,
    sep: str | None = None,
    comment: str | None = None,
    header: bool | Sequence[str] | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
) -> Table:
    r"""Open a table, whatever it is in.

    Args:
        given: a file: text of any dialect, Parquet, Feather or Arrow, text also packed (.gz, .bz2,
            .zst, .xz, .lz4, .br, .zip with one file); a folder of part files, also with columns in
            its folders' names (`year=2020/`), or a pattern as "edges/*.csv"; or a table in memory:
            a DataFrame of pandas or polars, an Arrow table, a structured array.
        what: what errors call it.
        sep: of a text: what stands between cells, as ";", "\t" or "::"; " " is any white space.
        comment: of a text: what lines that are no rows begin with; "" where all are rows.
        header: of a text: whether its first row names the columns; or the names.
        encoding: of a text, as "utf-16" or "latin-1".
        decimal: what stands before decimals of numbers in text: "." or ",".
            What is not given is recognised.

    Raises:
        InputError: it is no table, or can be read in two ways: with the words for each.
        StoreError: it is missing or damaged.
    """
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal={decimal!r}: what stands before decimals is '.' or ','")
    if not isinstance(given, str | os.PathLike):
        table = as_arrow(given, what)
        if table is None:
            raise InputError(
                f"{what} is {type(given).__name__}; give a file, a folder or a pattern of files, a "
                "DataFrame of pandas or polars, or an Arrow table"
            )
        return Table(what, [with_ranges(MemoryPart(what, table), table.schema)], decimal or "")
    path = expanded(given)
    files = part_files(path)
    in_names = [hive_columns(file, path) if path.is_dir() else {} for file in files]
    options = {
        "sep": sep,
        "comment": comment,
        "header": header,
        "encoding": encoding,
        "decimal": decimal,
    }
    parts = [_part(file, options) for file in files]
    seen = "," if any(isinstance(part, TextPart) and part.decimal == "," for part in parts) else ""
    return Table(f"{what} ({path})", _with_constants(parts, in_names), decimal or seen)


def _part(file: Path, options: Mapping[str, Any]) -> Part:
    kind = file_kind(file)
    if kind == "text":
        return TextPart(file, **options)
    part = ParquetPart(file) if kind == "parquet" else ArrowPart(file)
    return with_ranges(part, part.schema)


def _with_constants(
    parts: Sequence[Part], in_names: Sequence[Mapping[str, str | None]]
) -> list[Part]:
    """Parts with the columns that the names of their folders hold: integers if all of them are."""
    names = dict.fromkeys(name for values in in_names for name in values)
    values = {name: [of.get(name) for of in in_names] for name in names}
    whole = {
        name: all(value is None or re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in found)
        for name, found in values.items()
    }
    return [
        WithAdded(
            part,
            [
                constant(name, int(value), pyarrow.int64())
                if whole[name] and value is not None
                else constant(name, value, pyarrow.int64() if whole[name] else pyarrow.string())
                for name, value in own.items()
                if name not in part.names
            ],
        )
        if own
        else part
        for part, own in zip(parts, in_names, strict=True)
    ]


class Table:
    """A table of any size. `open_table` makes it.

    Args:
        what: what errors call it, as "features (n.csv)".
        parts: what it consists of, one after the other.
        decimal: what stands before decimals, where that is known; else "".

    Attributes:
        words: what was recognised of a text's dialect where it is not plain, as "separated by ';'".
        whose: of several tables, which one it is, where errors name options: "edges", "features"
            or "labels"; "" where it is one alone.
        comment: what was said that comments begin with; "" where all lines are rows.
        decimal: see above.
        marks: how columns of text write the numbers that they are read as, by name.

    Raises:
        InputError: parts have other columns than the first.
    """

    whose = ""
    comment: str | None = None

    def __init__(self, what: str, parts: Sequence[Part], decimal: str = "") -> None:
        self.what, self.decimal = what, decimal
        self.marks: dict[str, Marks] = {}
        self._parts = [part for part in parts if part.names]
        self.words = tuple(dict.fromkeys(word for part in parts for word in part.words))
        self._names = unique_names(self._parts[0].names) if self._parts else []
        self._places = [self._columns_of(part) for part in self._parts]
        self._settled: set[int] = set()
        self._rows: int | None = None
        self._check_types()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns, in the order of the file.

        The types of a large text's cells are those of a sample, until `settled` has read all.
        """
        kinds = [self._type(number) for number in range(len(self._names))]
        flagged = [
            all(places[n] in part.row_numbers for part, places in self._pairs())
            for n in range(len(self._names))
        ]
        return tuple(map(Column, self._names, range(len(kinds)), kinds, flagged))

    @property
    def typed(self) -> bool:
        """Whether types are written in the table, as they are not in a text."""
        return all(part.typed for part in self._parts)

    @property
    def num_rows(self) -> int:
        """How many rows there are: counted when first asked for."""
        if self._rows is None:
            with asked_of(self.whose):
                self._rows = sum(part.count() for part in self._parts)
        return self._rows

    @property
    def empty_end(self) -> int:
        """How many rows of separators alone are left out at ends of texts, once all were read."""
        return sum(part.empty_end for part in self._parts)

    def column(self, name_or_number: str | int) -> Column:
        """The column of a name, or of a number from 0.

        Raises:
            InputError: there is none, or several; naming those that there are.
        """
        return column_of(self.what, self.columns, name_or_number)

    def signed(self, name: str) -> bool:
        """Whether a cell of a column, of those read so far, is a number as none is printed: +7."""
        number = self.column(name).number
        return any(places[number] in part.signed for part, places in self._pairs())

    def settled(self, columns: Sequence[str | int] | None = None) -> tuple[Column, ...]:
        """Columns (all of them when not given) whose types are those of all their cells.

        Costs one pass through a large text, once a column.
        """
        numbers = [column.number for column in self._chosen(columns)]
        self._settle(numbers)
        known = self.columns
        return tuple(known[number] for number in numbers)

    def batches(
        self,
        columns: Sequence[str | int] | None = None,
        types: Mapping[str, pyarrow.DataType] | None = None,
    ) -> Iterator[pyarrow.RecordBatch]:
        """Read the table, some rows at a time.

        Args:
            columns: which, in this order; all when not given.
            types: what columns are read as, by name; the others are first `settled`. From a text,
                cells read as text are what is written there.

        Yields:
            Batches whose columns have the names and types of these columns.

        Raises:
            CellMisfit: a cell does not fit the type that was given, as text or "007" that of
                integers; an `InputError`, saying which line it is in.
            InputError: a row has more or fewer cells; saying which line.
            StoreError: a file is damaged.
        """
        numbers = [column.number for column in self._chosen(columns)]
        given = {self.column(name).number: kind for name, kind in (types or {}).items()}
        self._settle([number for number in numbers if number not in given])
        known = self.columns
        schema = pyarrow.schema([(known[i].name, given.get(i, known[i].type)) for i in numbers])
        for part, places in self._pairs():
            there = [places[number] for number in numbers]
            kinds = dict(zip(there, schema.types, strict=True))
            for field, place in zip(schema, there, strict=True):
                if self._marks_of(field) is not None:
                    kinds[place] = pyarrow.large_string()  # as it is written
            with asked_of(self.whose):
                for batch in part.read(there, kinds):
                    yield self._as(batch, schema, part)

    def empty_at(self, name: str) -> str:
        """Where the first empty cell of a column is, as "line 3 of e.csv"; "" where no line is."""
        number = self.column(name).number
        return next(filter(None, (part.empty_at(at[number]) for part, at in self._pairs())), "")

    def sample(self, rows: int = 1_000) -> pyarrow.Table:
        """The first rows of all columns, of the types that `columns` says."""
        try:
            return self._first_rows(rows)
        except CellMisfit:  # behind the first block, whose types it is not of
            self._settle(range(len(self._names)))
            return self._first_rows(rows)

    def _first_rows(self, rows: int) -> pyarrow.Table:
        columns = self.columns
        schema = pyarrow.schema([(column.name, column.type) for column in columns])
        read = []
        types = {column.name: column.type for column in columns}
        for batch in self.batches(types=types):
            read.append(batch.slice(0, rows))
            rows -= len(read[-1])
            if rows <= 0:
                break
        return pyarrow.Table.from_batches(read, schema)

    def _pairs(self) -> Iterator[tuple[Part, list[int]]]:
        return zip(self._parts, self._places, strict=True)

    def _settle(self, numbers: Sequence[int]) -> None:
        wanted = [number for number in numbers if number not in self._settled]
        if wanted:
            with asked_of(self.whose):
                for part, places in self._pairs():
                    part.settle([places[number] for number in wanted])
            self._settled.update(wanted)

    def _columns_of(self, part: Part) -> list[int]:
        """Where this part has the columns of the first."""
        names = unique_names(part.names)
        if len(names) == len(self._names) and set(names) == set(self._names):
            return [names.index(name) for name in self._names]
        if not part.typed and names == [f"f{i}" for i in range(len(self._names))]:
            self.words += (f"columns of {part.what} without a header as in {self._parts[0].what}",)
            return [*range(len(names))]
        first, other = self._parts[0].what, part.what
        faults = [
            f"{other} has no column {name}, which {first} has"
            for name in self._names
            if name not in names
        ]
        faults += [
            f"{other} has a column {name}, which {first} has not"
            for name in names
            if name not in self._names
        ]
        raise InputError(
            [f"{self.what}: {fault}; part files have the same columns" for fault in faults[:20]]
        )

    def _check_types(self) -> None:
        first = self._parts[0] if self._parts else None
        faults = []
        for part, places in self._pairs():
            assert first is not None
            for number, name in enumerate(self._names):
                kinds = first.types[number], part.types[places[number]]
                if (first.typed or part.typed) and common_type(kinds) is None:
                    faults.append(
                        f"{self.what}: {name} is {kinds[1]} in {part.what} and {kinds[0]} in "
                        f"{first.what}; write both as one type"
                    )
        if faults:
            raise InputError(faults[:20])

    def _marks_of(self, field: pyarrow.Field) -> Marks | None:
        return None if kind_of(field.type) == "text" else self.marks.get(field.name)

    def _type(self, number: int) -> pyarrow.DataType:
        if (marks := self.marks.get(self._names[number])) is not None:
            return marks.type
        kinds = [part.types[places[number]] for part, places in self._pairs()]
        return common_type(kinds) or pyarrow.large_string()

    def _chosen(self, columns: Sequence[str | int] | None) -> tuple[Column, ...]:
        if columns is None:
            return self.columns
        known = self.columns
        return tuple(column_of(self.what, known, wanted) for wanted in columns)

    def _as(
        self, batch: pyarrow.RecordBatch, schema: pyarrow.Schema, part: Part
    ) -> pyarrow.RecordBatch:
        return pyarrow.RecordBatch.from_arrays(
            [
                _cast(array, field.type, f"{part.what}: column {field.name}", self._marks_of(field))
                for array, field in zip(batch.columns, schema, strict=True)
            ],
            schema=schema,
        )


def _cast(
    array: pyarrow.Array, kind: pyarrow.DataType, what: str, marks: Marks | None
) -> pyarrow.Array:
    if array.type == kind:
        return array
    try:
        return compute.cast(array if marks is None else marks.read(array), kind)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise CellMisfit(f"{what} is {array.type}, not {kind}: {error}") from error

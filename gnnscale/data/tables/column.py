"""What tables consist of: columns, and parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gnnscale.errors import InputError
from gnnscale.storage.arrow import pyarrow, types

#: What an index without a name that pandas wrote is called.
INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_\d+__")


class CellMisfit(InputError):
    """A cell is not of the type that its column was asked for as.

    Args:
        fault: what is wrong, and where.
        cell: what is written in it; "" where that is not known.
    """

    def __init__(self, fault: str, cell: str = "") -> None:
        super().__init__(fault)
        self.cell = cell


class Part(Protocol):
    """One file of a table, or a table in memory.

    Attributes:
        what: what errors call it.
        names: of its columns, as they are written there.
        typed: whether types are written there.
        words: what was recognised of its dialect, where it is not plain.
    """

    what: str
    names: list[str]
    typed: bool
    words: tuple[str, ...]

    @property
    def types(self) -> list[pyarrow.DataType]:
        """Of its columns; where they are not written there, what the cells read so far are."""
        ...

    @property
    def row_numbers(self) -> frozenset[int]:
        """The columns that hold the numbers of rows."""
        ...

    @property
    def signed(self) -> frozenset[int]:
        """The columns in which a cell read so far is a number as none is printed: +7, or -0."""
        ...

    @property
    def empty_end(self) -> int:
        """How many rows of separators alone are left out at its end, once all were read."""
        ...

    def count(self) -> int:
        """How many rows it has."""
        ...

    def settle(self, columns: Sequence[int]) -> None:
        """Make `types` of these columns what all of their cells are."""
        ...

    def empty_at(self, column: int) -> str:
        """Where the first empty cell of a column is, as "line 3 of e.csv"; "" where no line is."""
        ...

    def read(
        self, columns: Sequence[int], kinds: Mapping[int, pyarrow.DataType]
    ) -> Iterator[pyarrow.RecordBatch]:
        """The cells of these columns, those in `kinds` of that type where text is read."""
        ...


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: what it is called. No two are called the same: columns that a file calls so have their
            numbers behind it, as in "a (column 2)", and only numbers choose between them.
        number: which it is, from 0.
        type: what its cells are.
        row_number: whether it holds the numbers of rows that pandas or R wrote beside the table.
    """

    name: str
    number: int
    type: pyarrow.DataType
    row_number: bool = False

    @property
    def kind(self) -> str:
        """What cells are: "integer", "float", "bool", "text", "time", "list", "empty" or "other".

        A dictionary (pandas' categories) is what its values are.
        """
        return kind_of(self.type)


def kind_of(kind: pyarrow.DataType) -> str:
    """See `Column.kind`."""
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    return next((name for name, holds in _KINDS if any(is_it(kind) for is_it in holds())), "other")


_KINDS = (
    ("integer", lambda: (types.is_integer,)),
    ("float", lambda: (types.is_floating, types.is_decimal)),
    ("bool", lambda: (types.is_boolean,)),
    ("text", lambda: (types.is_string, types.is_large_string, types.is_string_view)),
    ("time", lambda: (types.is_temporal,)),
    ("list", lambda: (types.is_list, types.is_large_list, types.is_fixed_size_list)),
    ("empty", lambda: (types.is_null,)),
)


def common_type(kinds: Iterable[pyarrow.DataType]) -> pyarrow.DataType | None:
    """The type that holds the cells of all of these; None where only text would."""
    found = pyarrow.null()
    for kind in kinds:
        if kind == found or types.is_null(kind):
            continue
        if types.is_null(found):
            found = kind
            continue
        plain = [k.value_type if types.is_dictionary(k) else k for k in (found, kind)]
        both = {kind_of(k) for k in plain}
        if both == {"text"}:
            found = pyarrow.large_string()
            continue
        if both == {"time"} and any(map(types.is_date, plain)):  # days, and moments
            plain = [pyarrow.timestamp("ms") if types.is_date(k) else k for k in plain]
        try:
            schemas = [pyarrow.schema([("cells", k)]) for k in plain]
            found = pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            return None
    return found


def unique_names(names: Iterable[str]) -> list[str]:
    """Names with the number of the column behind those that there are several of."""
    given = list(names)
    return [
        f"{name} (column {i})" if given.count(name) > 1 else name for i, name in enumerate(given)
    ]


def column_of(what: str, columns: tuple[Column, ...], wanted: object) -> Column:
    """The column of a name or a number.

    Raises:
        InputError: there is none, or several; naming those that there are.
    """
    there = ", ".join(f"{c.number}: {c.name}" for c in columns[:30]) or "none"
    there += f", … ({len(columns)} columns)" if len(columns) > 30 else ""
    if isinstance(wanted, bool) or not isinstance(wanted, int | str):
        raise InputError(
            f"{what}: a column is a name or a number, not {wanted!r}; there are {there}"
        )
    named = [c for c in columns if c.name == str(wanted)]
    if isinstance(wanted, str):
        doubled = [c for c in columns if c.name == f"{wanted} (column {c.number})"]
        if doubled and not named:
            numbers = " or ".join(str(c.number) for c in doubled)
            raise InputError(
                f"{what} has {len(doubled)} columns called {wanted}: choose by number, {numbers}"
            )
    else:
        counted = [c for c in columns if c.number == wanted]
        if counted and named and counted != named:
            raise InputError(
                f"{what}: {wanted} is the number of column {counted[0].name!r} and the name of "
                f"column {named[0].number}; give the name as text, or the other's name"
            )
        named = counted or named
    if not named:
        raise InputError(f"{what} has no column {wanted}; there are {there}")
    return named[0]

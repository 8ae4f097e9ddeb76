"""What the name and the cells of a column say that it is."""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gnnscale.data.tables.column import INDEX, Column
from gnnscale.data.tables.table import Table
from gnnscale.data.tables.values.marks import Doubt, is_marked, marks_of
from gnnscale.storage.arrow import compute, pyarrow, types

_CELLS_LOOKED_AT = 1 << 21
_MOST_ROWS, _LEAST_ROWS = 1 << 16, 1 << 10
_SHOWN = 1_000  # cells among which one is looked for that shows what a column is


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Words of names that say nothing of what is meant: the "id" of "user_id".
NEUTRAL = vocabulary("""
    id ids node nodes nodeid vertex vertices idx index key no nr num number name names uid uuid
    guid code label entity
""")
_TIMES = vocabulary("""
    time times timestamp timestamps ts t date dates datetime when unixtime unix epoch year month
    day hour created updated since
""")
#: Of quantities, which name no node.
_QUANTITIES = vocabulary("""
    weight weights w rating ratings score scores stars count counts amount amounts value values
    strength similarity sim distance dist prob probability capacity cost price length freq
    frequency age rank degree size total sum mean share percent level year duration
""")
_SECONDS = (315_532_800, 2_208_988_800)  # 1980 to 2040
_DAYS = (19_000_101, 21_001_231)  # 1990-01-31 as 19900131
_IDS = r"(user|node|paper|item|author|vertex|person|account|customer|entity|page|product)ids?"
_NEO4J = re.compile(
    r"(\w*):(START_ID|END_ID|ID|TYPE|LABEL|int|integer|long|short|byte|float|double|boolean|string|char|"
    r"date|datetime|localdatetime|time|localtime)(?:\[\])?(?:\(.*\))?"
)
_NUMBERS = vocabulary("id no nr row rows index idx line edge eid number")
_FEW = 30
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?.*)?")


def called_as_ids(name: str) -> bool:
    """Whether a column's name says that it holds ids."""
    words = words_of(name)
    return bool(words) and (
        {*words} <= NEUTRAL - {"label"}
        or words[-1] in ("id", "ids")
        or re.fullmatch(_IDS, words[-1]) is not None
    )


def words_of(name: str) -> list[str]:
    """The words of a column's name, in small letters.

    >>> words_of("FromNodeId"), words_of("user_1"), words_of("n2")
    (['from', 'node', 'id'], ['user', '1'], ['n', '2'])
    >>> words_of("weight:float"), words_of(":START_ID(Person)")
    (['weight'], ['start', 'id'])
    """
    if (typed := _NEO4J.fullmatch(name)) is not None:  # ":START_ID(Person)", "since:int"
        name = typed[1] if typed[2].islower() else f"{typed[1]} {typed[2].lower()}"
    parts = re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])|\d+", name)
    return [part.lower() for part in parts]


@dataclass(frozen=True)
class Look:
    """A column and the first of its cells.

    Attributes:
        column: the column.
        cells: the first of its cells.
        complete: whether these are all of them.
    """

    column: Column
    cells: pyarrow.Array
    complete: bool

    @property
    def name(self) -> str:
        """What it is called."""
        return self.column.name

    @cached_property
    def words(self) -> list[str]:
        """The words of its name."""
        return words_of(self.name)

    @cached_property
    def numbers(self) -> np.ndarray:
        """The cells that are filled, as float64; none where they are no numbers."""
        if self.column.kind not in ("integer", "float"):
            return np.empty(0)
        filled = self.cells.drop_null()
        if types.is_dictionary(filled.type):
            filled = filled.dictionary_decode()
        found = filled.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return found[~np.isnan(found)]

    @cached_property
    def whole(self) -> bool:
        """Whether the cells are whole numbers, perhaps written with a point."""
        numbers = self.numbers
        kind = self.column.kind
        return kind == "integer" or (
            kind == "float" and bool(numbers.size) and bool((numbers == np.floor(numbers)).all())
        )

    @cached_property
    def row_number(self) -> bool:
        """Whether it holds the numbers of rows that a program wrote beside the table.

        pandas writes an index with a point where it was made of floats.
        """
        unnamed = self.column.kind == "float" and INDEX.fullmatch(self.name) is not None
        return self.column.row_number or (unnamed and self.whole)

    @property
    def is_number(self) -> bool:
        """Whether the cells are numbers."""
        return self.column.kind in ("integer", "float")

    @cached_property
    def marked(self) -> bool:
        """Whether the cells are text that holds numbers with units, thousands apart or the like."""
        if self.column.kind != "text" or types.is_dictionary(self.column.type):
            return False
        found = marks_of([self.cells])
        return isinstance(found, Doubt) or (found is not None and found.known and not found.plain)

    @property
    def may_name_nodes(self) -> bool:
        """Whether the cells may be ids, as far as their type says."""
        return self.whole or self.column.kind == "text" or not len(self.cells)

    @property
    def empty(self) -> bool:
        """Whether there are cells, and none is filled."""
        return 0 < len(self.cells) == self.cells.null_count and (
            self.complete or self.column.kind == "empty"
        )

    @cached_property
    def constant(self) -> bool:
        """Whether all of several cells are the same."""
        whole = self.column.kind not in ("list", "other")
        return whole and len(self.cells) > 1 and len(self.cells.unique()) == 1

    @cached_property
    def counts_rows(self) -> bool:
        """Whether the cells count the rows, from 0 or 1."""
        n = self.numbers
        return (
            self.whole
            and n.size == len(self.cells) > 1
            and n[0] in (0, 1)
            and bool((np.diff(n) == 1).all())
        )

    @property
    def called_number(self) -> bool:
        """Whether it is called as numbers of rows are, also by pandas' reset_index."""
        return {*self.words} <= _NUMBERS or re.fullmatch(r"level_\d", self.name) is not None

    @cached_property
    def of_few(self) -> bool:
        """Whether the cells are of few values, each there several times, as classes are."""
        if self.column.kind not in ("text", "bool", "integer") or self.moments:
            return False
        different = len(self.cells.drop_null().unique())
        few = 2 <= different <= _FEW and 2 * different <= len(self.cells)
        return few and not (self.called_time or self.called_quantity)

    @cached_property
    def moments(self) -> str:
        """What times the cells are, in words; empty where they are none for sure."""
        kind = self.column.kind
        if kind == "time":
            return "dates" if types.is_date(self.column.type) else "times"
        if kind == "text":
            texts = [text for text in self.cells.drop_null()[:100].to_pylist() if text]
            return "times as text" if texts and all(map(_ISO.fullmatch, texts)) else ""
        numbers = self.numbers[self.numbers != 0]  # 0 stands for an unknown time
        if not numbers.size:
            return ""
        low, high = float(numbers.min()), float(numbers.max())
        for factor, unit in ((1, "seconds"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
            if _SECONDS[0] * factor <= low and high <= _SECONDS[1] * factor:
                return f"{unit} since 1970"
        days = self.whole and _DAYS[0] <= low and high <= _DAYS[1]
        month, day = numbers // 100 % 100, numbers % 100
        if days and bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all()):
            return "dates as numbers"
        return ""

    @property
    def called_time(self) -> bool:
        """Whether its name and its cells may be those of a time."""
        may = self.is_number or self.moments != ""
        return may and not _TIMES.isdisjoint(self.words)

    @property
    def called_quantity(self) -> bool:
        """Whether it is called as a quantity is, and no node."""
        return not _QUANTITIES.isdisjoint(self.words)

    @cached_property
    def called_id(self) -> bool:
        """Whether its name says that it holds ids."""
        return called_as_ids(self.name)

    @property
    def names_rows(self) -> bool:
        """Whether its name and its cells say that it names each row, and is no feature of it."""
        last = "".join(self.words[-1:])
        called = re.fullmatch(rf"u?ids?|[ug]uid|{_IDS}", last) or (
            self.column.kind == "text" and last in ("name", "names", "key")
        )
        if not (called and self.may_name_nodes and len(self.cells) > 1):
            return False
        return len(self.cells.unique()) == len(self.cells)

    @cached_property
    def in_words(self) -> str:
        """What its cells are, in short."""
        numbers = self.numbers
        if self.moments:
            return self.moments
        if self.constant:
            return f"always {self.cells[0].as_py()!r}"
        if numbers.size:
            kind = "whole numbers" if self.whole else "numbers"
            return f"{kind} from {numbers.min():.12g} to {numbers.max():.12g}"
        some = [cell for cell in self.cells[:_SHOWN].to_pylist() if cell is not None]
        odd = (cell for cell in some if isinstance(cell, str) and not is_marked(cell))
        first = next(odd, next(iter(some), None))
        kinds = {"bool": "booleans", "list": "lists", "empty": "no cells"}
        kind = kinds.get(self.column.kind, self.column.kind)
        kind = str(self.column.type) if kind == "other" else kind
        return f"{kind} such as {first!r}" if isinstance(first, str) else kind


def nameless(looks: Sequence[Look]) -> bool:
    """Whether columns have no names but their numbers."""
    return all(re.fullmatch(f"f?{look.column.number}", look.name) for look in looks)


_LOOKED_AT: weakref.WeakKeyDictionary[Table, list[Look]] = weakref.WeakKeyDictionary()


def looked_at(table: Table) -> list[Look]:
    """The columns of a table and the first of their cells."""
    if (looks := _LOOKED_AT.get(table)) is None:
        wide = max(1, len(table.columns))
        rows = max(_LEAST_ROWS, min(_MOST_ROWS, _CELLS_LOOKED_AT // wide))
        sample = table.sample(rows).combine_chunks()
        complete = sample.num_rows < rows
        looks = []
        for column, cells in zip(table.columns, sample.columns, strict=True):
            own = cells.chunk(0) if cells.num_chunks else pyarrow.array([], cells.type)
            looks.append(Look(column, own, complete))
        _LOOKED_AT[table] = looks
    return looks


def as_ids(cells: pyarrow.Array) -> pyarrow.Array:
    """Ids as text, whole numbers without a point: the same whatever type a table gives them."""
    if types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if types.is_floating(cells.type):
        whole = compute.cast(cells, pyarrow.int64(), safe=False)
        same = compute.equal(compute.cast(whole, cells.type, safe=False), cells)
        if compute.all(same).as_py() in (True, None):
            cells = whole
    return cells.cast(pyarrow.large_string())

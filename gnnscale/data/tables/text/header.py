"""Whether the first row of a text names its columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from gnnscale.data.tables.text.cells import is_missing, is_number
from gnnscale.data.tables.text.plain import visible
from gnnscale.data.tables.text.separator import ROWS, Reading
from gnnscale.data.tables.values.marks import NO_NUMBER, is_marked
from gnnscale.errors import InputError

_USUAL = re.compile(
    r"(source|target|src|dst|dest|destination|from|to|head|tail|sender|receiver|origin|[uv]|"
    r"n?(node|vertex|id|user|item|edge|paper|author|entity|person)s?[_ ]?\d*|"
    r"[a-z]+[ _.-]ids?|(?-i:\w*[a-z](Id|ID)s?|[a-z]ids?|[A-Z]IDs?)|"  # and neither Cid nor Madrid
    r"(user|node|paper|item|author|vertex|person|account|customer|entity|page|product|source|"
    r"target|src|dst|from|to|edge|movie|member|group|document|article|post|start|end)ids?|"
    r"ids?[ _.-]\w+|ids?\d+|(?-i:id[A-Z]\w*)|"
    r"(source|target|from|to|src|dst|node|user|start|end)[ _.-]\w+|"
    r"\w*[ _-](from|to)|"
    r"(node|edge)?[ _]?(names?|labels?|types?|weights?|class|classes|features?|splits?|texts?)|"
    r"w|y|x|value|values|rating|score|time|timestamp|date|year|category|kind|group|team|title|"
    r"relation|rel|predicate|subject|object|index|citing|cited|follower|followee|train|val|test|"
    r"start|end|parent|child|caller|callee|buyer|seller|payer|payee|recipient|left|right)",
    re.I,
)
_NEO4J = re.compile(r"(\w*):(START_ID|END_ID|TYPE|ID|LABEL)(\(.*\))?")
_RULE = re.compile(r":?-{2,}:?|:-+:?|-+:")
_DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d{1,2}:\d{2}(:\d{2})?.*)?|\d{1,2}:\d{2}(:\d{2})?"
)
_COUNT = re.compile(r"\d{1,4}")
_NUMBERED = re.compile(r"(.*\D)(\d{1,2}|[abAB])")


class Header(NamedTuple):
    """What the first row is.

    Attributes:
        names: of the columns.
        present: how many rows above the cells: one names them, one may be a title.
        words: what is to be said of it.
    """

    names: tuple[str, ...]
    present: int
    words: tuple[str, ...] = ()


def header_of(
    reading: Reading, what: str, given: bool | Sequence[str] | None, certain: bool
) -> Header:
    """The names of the columns.

    Args:
        reading: the first rows.
        what: what errors call the table.
        given: whether there is a header, or the names.
        certain: whether there is one, as seen before.

    Raises:
        InputError: the first row may be a header or none.
    """
    rows, width = [row.cells for row in reading.rows], reading.width
    plain = tuple(f"f{i}" for i in range(width))
    if given is not None and not isinstance(given, bool):
        return _given(given, rows, width, what)
    if len(rows) > 1 and _is_rule(rows[1]):
        raise InputError(
            f"{what}: its second line ({' | '.join(rows[1][:6])}) is a rule under the header, as "
            "Markdown and databases draw it; take it out"
        )
    if not rows or given is False:
        return Header(plain, 0)
    first = [visible(cell) for cell in rows[0]]
    if len(first) < width and (given or reading.names_fewer()):
        body = [row[0].strip() for row in rows[1:]]
        if len(first) == width - 1 and body == [str(i + 1) for i in range(len(body))]:
            return Header(_named(["", *first]), 1)  # as R writes the names of rows
        if len(first) == width - 1 and _all_quoted(reading):
            return Header(_named(["", *first]), 1)  # as R writes those of some rows
        below = header_of(replace(reading, rows=reading.rows[1:]), what, None, False)
        names = "" if below.present else f", which names {len(first)} of {width} columns"
        words = (f"its first line ({' '.join(first)}{names}) is passed over",)
        return Header(below.names, 1 + below.present, words)
    if len(first) == 2 < width and _may_count(first, reading):
        raise InputError(
            f"{what}: its first row ({' | '.join(first)}) has 2 cells where others have "
            f"{width}. If these are the numbers of nodes and edges, say header=True to leave it out"
        )
    if len(first) != width:
        return Header(plain, 0)  # a row of another length, which reading names
    if given or certain or _is_header(first, rows[1:], what, reading.sep != ","):
        return Header(_named(first), 1)
    numbered = first == ["0", "1"]
    return Header(plain, 0, ("no header",) if numbered else ())


def _may_count(first: list[str], reading: Reading) -> bool:
    """Whether a row may be the numbers of nodes and of edges, as far as those are seen."""
    if not all(map(str.isdecimal, first)) or reading.fitting < 1:
        return False
    edges, seen = int(first[1]), len(reading.rows) - 1
    return edges == seen or (edges > seen and seen + 1 == ROWS)


def is_usual(name: str) -> bool:
    """Whether columns are often called so."""
    bare = name.strip()
    usual = _USUAL.fullmatch(bare.lstrip("~_:@")) or _NEO4J.fullmatch(bare)
    return usual is not None


def _is_header(first: list[str], body: list[list[str]], what: str, comma: bool) -> bool:
    """By the columns of numbers and dates: whether the first row has names over them.

    Raises:
        InputError: some say so, some not; or there is none, and nothing else says.
    """
    cells = [[cell.strip() for cell in row] for row in body if len(row) == len(first)]
    columns = [[row[i] for row in cells] for i in range(len(first))]
    # A header may stand there again, where files were put together: reading names its line.
    numeric = [i for i in range(len(first)) if _is_numeric([r[i] for r in cells if r != first])]
    counted = [i for i in numeric if _is_value(first[i])]
    named = [i for i in numeric if i not in counted and not (first[i] and is_missing(first[i]))]
    if all(is_number(cell, comma) for cell in first):
        return _is_range(first, columns, what)
    if not first[0] and body and all(columns[0]):
        return True  # the empty name of an index
    if named and not counted:
        return True
    if named:
        if _count_up(first, counted):
            return True  # names that count, or years
        raise _asked(what, first)
    if counted:
        again = any(first[i] in columns[i] for i in range(len(first)))
        years = len(counted) > 1 and len(counted) < len(first) and _count_up(first, counted)
        if (years or any(map(is_usual, first))) and not again:
            raise _asked(what, first)
        return False
    return _is_header_of_text(first, columns, what)


def _count_up(first: list[str], counted: list[int]) -> bool:
    """Whether cells are numbers one after the other, or a single 0."""
    numbers = [int(first[i]) for i in counted if _COUNT.fullmatch(first[i])]
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    return len(numbers) == len(counted) and steps <= {1} and (bool(steps) or numbers == [0])


def _is_header_of_text(first: list[str], columns: list[list[str]], what: str) -> bool:
    cells = {cell for column in columns for cell in column}
    again = any(cell in cells for cell in first if cell)
    if any(map(is_usual, first)):
        if again:
            raise _asked(what, first)
        return True
    if again:
        return False
    stems = [match and match[1] for match in map(_NUMBERED.fullmatch, first)]
    if len(first) > 1 and stems[0] and len(set(stems)) == 1 and len(set(first)) == len(first):
        stem = str(stems[0])
        if not any(cell.startswith(stem) for cell in cells):
            return True
    raise _asked(what, first)


def _is_range(first: list[str], columns: list[list[str]], what: str) -> bool:
    """Numbers in the first row: a row, unless they are those that pandas gives columns."""
    if first != [str(i) for i in range(len(first))] or not columns[0]:
        return False
    if all("." in cell for column in columns for cell in column if not is_missing(cell)):
        return True
    # "0,1" begins many lists of edges, in which 0 and 1 are named again.
    again = {cell for column in columns for cell in column} & {*first}
    if len(first) > 2 or not again:
        raise _asked(what, first)
    return False


def _is_numeric(cells: list[str]) -> bool:
    filled = [cell for cell in cells if cell.lower() not in NO_NUMBER]
    return bool(filled) and all(map(_is_value, filled))


def _is_value(cell: str) -> bool:
    """Whether a cell is a number, also with a unit or the like, a date or a time."""
    return is_number(cell, comma=True) or is_marked(cell) or _DATE.fullmatch(cell) is not None


def _is_rule(cells: list[str]) -> bool:
    filled = [cell.strip() for cell in cells if cell.strip()]
    return bool(filled) and all(map(_RULE.fullmatch, filled))


def _all_quoted(reading: Reading) -> bool:
    """Whether the first cells of all rows are in quotes, and all of the first row."""
    quote = reading.quote
    cells = [*reading.rows[0].raw, *(row.raw[0] for row in reading.rows[1:])]
    return bool(quote) and all(cell.strip()[:1] == quote for cell in cells)


def _named(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(visible(name) or f"Unnamed: {i}" for i, name in enumerate(names))


def _given(given: object, rows: list[list[str]], width: int, what: str) -> Header:
    names = [given] if isinstance(given, str) else list(given)  # type: ignore[call-overload]
    if not all(isinstance(name, str) for name in names) or (rows and len(names) != width):
        raise InputError(
            f"header={names!r}: {what} has {width} columns; say header=True, header=False or a "
            "name for each"
        )
    return Header(tuple(names), int(bool(rows) and len(rows[0]) != width))


def _asked(what: str, first: list[str]) -> InputError:
    shown = " | ".join(first[:6])
    return InputError(
        f"{what}: its first row ({shown}) may name the columns or be a row; say header=True or "
        "header=False"
    )

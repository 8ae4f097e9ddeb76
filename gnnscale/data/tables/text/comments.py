"""Which lines of a text are comments. An id may begin as a comment does, and must not vanish."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gnnscale.data.tables.text.cells import Row, is_number, rows_of
from gnnscale.data.tables.text.header import is_usual
from gnnscale.data.tables.text.separator import Reading, separated
from gnnscale.errors import InputError

#: What comments begin with.
MARKS = ("#", "%", "//")


@dataclass(frozen=True)
class Rows:
    """The rows of a text and what is no row.

    Attributes:
        reading: the first rows.
        mark: what comments begin with; "" where there are none.
        given: whether a user said so; else a comment is no row by its cells either.
        start: the characters before the first row.
        header: whether the first row is a header behind a mark of comments.
    """

    reading: Reading
    mark: str
    given: bool
    start: int
    header: bool = False


def without_comments(text: str, what: str, suffix: str, sep: str | None, mark: str | None) -> Rows:
    """Tell comments from rows.

    A comment stands above the rows, or has other cells than they. A line that begins with a mark
    and has their cells is a row, if nothing else in the text is a comment or the mark begins other
    cells too.

    Args:
        text: its first lines.
        what: what errors call it.
        suffix: of its name.
        sep: the separator, where it is given.
        mark: what comments begin with, where it is given; "" where there are none.

    Raises:
        InputError: a line may be a row or a comment.
    """
    if mark is not None:
        if not isinstance(mark, str):
            raise InputError(f"comment={mark!r}: give what lines of comments begin with, as '#'")
        start = len(text) - len(_below(text, mark)) if mark else 0
        return Rows(_read(_cleared(text, mark), what, suffix, sep), mark, True, start)
    mark = next((m for m in MARKS if text.lstrip().startswith(m)), "")
    below = _below(text, mark) if mark else text
    above = text[: len(text) - len(below)]
    if not mark:
        reading = _read(text, what, suffix, sep)
        _check_first_cells(reading, what)
        return Rows(reading, "", False, 0)
    if not below.strip():
        return _nothing_else(text, what, suffix, sep, mark)
    reading = _read(_cleared(below, mark), what, suffix, sep)
    marked = _row_like(below, reading, mark)
    rows = _last_rows(above, reading, mark)
    if any(c.startswith(mark) for r in (*reading.rows, *marked, *rows) for c in r.cells[1:]):
        # The mark begins ids, too.
        start = rows[0].line if rows else len(above)
        return Rows(_read(text[start:], what, suffix, sep), "", False, start)
    if marked:
        raise _asked(what, marked[0], mark)
    if not rows:
        return Rows(reading, mark, False, len(above))
    names = [cell.removeprefix(mark) for cell in rows[-1].cells]
    numeric = [
        i
        for i in range(reading.width)
        if all(is_number(row.cells[i]) for row in reading.rows if len(row.cells) == reading.width)
    ]
    if numeric and all(is_number(names[i]) for i in numeric):
        return Rows(reading, mark, False, len(above))  # rows that somebody took out
    if numeric or any(map(is_usual, names)):
        header = Row(names, names, 0, 0)
        with_names = Reading(reading.sep, reading.quote, reading.padded, [header, *reading.rows])
        return Rows(with_names, mark, False, len(above), True)
    raise _asked(what, rows[-1], mark)


def _check_first_cells(reading: Reading, what: str) -> None:
    """Of lines that begin with a mark among numbers nobody knows what they are."""
    rows = [row for row in reading.rows[1:] if len(row.cells) == reading.width > 1]
    marked = [row for row in rows if row.cells[0].startswith(MARKS)]
    others = [row for row in rows if not row.cells[0].startswith(MARKS)]
    if marked and others and all(is_number(row.cells[0]) for row in others):
        mark = next(mark for mark in MARKS if marked[0].cells[0].startswith(mark))
        raise _asked(what, marked[0], mark)


def _nothing_else(text: str, what: str, suffix: str, sep: str | None, mark: str) -> Rows:
    """Where all lines begin with a mark: ids, if they have cells as rows have."""
    if not re.search(rf"^[ \t]*{re.escape(mark)}+(\s|$)", text, re.M):
        reading = _read(text, what, suffix, sep)
        if reading.consistent():
            return Rows(reading, "", False, 0)
    return Rows(Reading(",", '"', False, []), mark, False, len(text))


def _read(text: str, what: str, suffix: str, sep: str | None) -> Reading:
    return separated(text, what, suffix, sep)


def _below(text: str, mark: str) -> str:
    """What follows the blank lines and those that begin with the mark."""
    match = re.match(rf"(?:[ \t]*(?:{re.escape(mark)}[^\n]*)?(?:\n|\Z))*", text)
    return text[match.end() :] if match else text


def _cleared(text: str, mark: str) -> str:
    return re.sub(rf"^[ \t]*{re.escape(mark)}[^\n]*\n?", "", text, flags=re.M) if mark else text


def _row_like(text: str, reading: Reading, mark: str) -> list[Row]:
    """The lines that begin with a mark, an id right behind it, and have the cells of a row."""
    lines = re.findall(rf"^{re.escape(mark)}[^\s].*$", text, re.M)
    found = (row for line in lines for row in rows_of(line, reading.sep, reading.quote))
    return [row for row in found if len(row.cells) == reading.width]


def _last_rows(above: str, reading: Reading, mark: str) -> list[Row]:
    """The last lines above with the cells of a row; `line` is the character where one begins."""
    found: list[Row] = []
    end = len(above)
    for line in reversed(above.splitlines(keepends=True)):
        end -= len(line)
        rows = _row_like(line, reading, mark)
        if not rows or reading.width < 2:
            break
        found.insert(0, rows[0]._replace(line=end))
    return found


def _asked(what: str, row: Row, mark: str) -> InputError:
    return InputError(
        f"{what}: the line {' | '.join(row.cells)!r} may be a comment or a row; say "
        f"comment={mark!r} to leave such lines out, comment='' to read them"
    )

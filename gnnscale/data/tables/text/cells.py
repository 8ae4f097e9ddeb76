"""Text cut into rows of cells, as far as recognising its dialect and naming its faults need it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)(inity)?", re.I)
COMMA_NUMBER = re.compile(r"[-+]?(\d+(,\d+)?|,\d+)([eE][-+]?\d+)?")
#: What a missing number is written as. Of text, only an empty cell is missing.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "None", "\\N"),
)
_MISSING = frozenset(MISSING)


class Row(NamedTuple):
    """A row of a text.

    Attributes:
        cells: what is written in them, without quotes.
        raw: the same with quotes and blanks.
        line: of the text in which it begins, from 0.
        end: the character after it.
    """

    cells: list[str]
    raw: list[str]
    line: int
    end: int


def rows_of(text: str, sep: str, quote: str) -> Iterator[Row]:
    r"""Cut text whose lines end with "\\n" into rows; blank lines are none.

    Args:
        text: whole rows.
        sep: what stands between cells; " " is any white space.
        quote: what cells may be put in, or "".
    """
    at = line = 0
    cell = _cell(sep, quote)
    while at < len(text):
        start = at
        if sep == " ":
            at = _past_blanks(text, at)
        raw: list[str] = []
        while True:
            match = cell.match(text, at)
            assert match is not None
            raw.append(match[0])
            at = match.end()
            if sep == " ":
                at = _past_blanks(text, at)
                if at == len(text) or text[at] == "\n":
                    break
            elif text.startswith(sep, at):
                at += len(sep)
            else:
                break
        at += 1  # the line's end
        if len(raw) > 1 or raw[0].strip():
            yield Row([_unquoted(part, quote) for part in raw], raw, line, min(at, len(text)))
        line += text.count("\n", start, at)


def filled_cells(row: Row) -> int:
    """How many cells a row has before those at its end that are empty."""
    return max((i + 1 for i, cell in enumerate(row.cells) if cell.strip()), default=0)


def is_number(cell: str, comma: bool = False) -> bool:
    """Whether a cell is a number; `comma`: perhaps with a decimal comma."""
    cell = cell.strip()
    return bool(NUMBER.fullmatch(cell)) or (comma and bool(COMMA_NUMBER.fullmatch(cell)))


def is_missing(cell: str) -> bool:
    """Whether a cell holds nothing where others hold numbers."""
    return cell.strip() in _MISSING


@cache
def _cell(sep: str, quote: str) -> re.Pattern[str]:
    other = r"[^ \t\n]*" if sep == " " else rf"(?:(?!{re.escape(sep)})[^\n])*"
    if len(sep) == 1 and sep != " ":
        other = rf"[^{re.escape(sep)}\n]*"
    if not quote:
        return re.compile(other)
    blanks = "" if sep == "\t" else " *"
    return re.compile(rf"{blanks}{quote}(?:[^{quote}]|{quote}{quote})*{quote}{other}|{other}")


def _unquoted(raw: str, quote: str) -> str:
    bare = raw.strip()
    if quote and len(bare) > 1 and bare[0] == bare[-1] == quote:
        return bare[1:-1].replace(quote * 2, quote)
    return raw


def _past_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at

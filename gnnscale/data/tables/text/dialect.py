"""The dialect of a text with a row a line: recognised from its first rows, for the whole of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gnnscale.data.tables.text.cells import COMMA_NUMBER, is_missing, is_number
from gnnscale.data.tables.text.comments import without_comments
from gnnscale.data.tables.text.header import header_of
from gnnscale.data.tables.text.no_table import refuse_brackets
from gnnscale.data.tables.text.plain import (
    ANY,
    has_formulas,
    has_unseen,
    late_escape,
    plain,
    with_doubled_quotes,
)
from gnnscale.data.tables.text.separator import STRONG, USUAL, Reading, reading_of
from gnnscale.errors import InputError

_THOUSANDS = re.compile(r"[-+]?\d{1,3},\d{3}")
_SINGLE = re.compile(r"(?:^|(?<=[\t;|,]))'[^'\n]*\\'[^'\n]*'(?=[\t;|,]|$)", re.M)
_CALLED = {"\t": "tabs", " ": "white space"}


@dataclass(frozen=True)
class Dialect:
    """How a text is written.

    Attributes:
        encoding: Python's name for it.
        sep: what stands between cells; " " is any white space.
        quote: what cells may be put in; "" for nothing.
        escaped: whether quotes in such cells are behind backslashes, not doubled.
        comment: what lines that are no rows begin with; "" where all are rows.
        comment_given: whether a user said so; else a row may begin so, and is refused.
        padded: whether blanks beside separators are no part of the cells.
        decimal: "." or ",".
        returns: whether lines end with a carriage return alone.
        names: of the columns.
        first: the first row, where it names the columns.
        first_line: that row as it is written.
        skipped: the lines before the first row of cells.
        words: what of this is not plain.
    """

    encoding: str
    sep: str
    quote: str
    escaped: bool
    comment: str
    comment_given: bool
    padded: bool
    decimal: str
    returns: bool
    names: tuple[str, ...]
    first: tuple[str, ...]
    first_line: str
    skipped: int
    words: tuple[str, ...]


def recognised(
    text: str,
    whole: bool,
    what: str,
    suffix: str,
    encoding: str,
    *,
    sep: str | None,
    comment: str | None,
    header: bool | Sequence[str] | None,
    decimal: str | None,
) -> Dialect:
    """The dialect of a text.

    Args:
        text: its first characters.
        whole: whether these are all.
        what: what errors call it.
        suffix: of its name, as ".csv".
        encoding: Python's name for it.
        sep: the separator, where it is given.
        comment: the mark of comments, where it is given.
        header: whether there is a header, or its names, where it is given.
        decimal: what stands before decimals, where it is given.

    Raises:
        InputError: there are two ways to read it.
    """
    returns = "\r" in text and "\n" not in re.sub('"[^"]*"', "", text)
    text = with_line_ends(text.rstrip("\x1a") if whole else text)  # DOS ends texts so
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    text, escaped, noted = _as_meant(text)
    start = 0
    if sep is None and (said := re.match(r"(?i:sep)=(.)\n", text)):  # Excel's own way to say it
        sep, start = said[1], said.end()
    rows = without_comments(text[start:], what, suffix, sep, comment)
    reading = rows.reading
    if not whole and len(reading.rows) > 1 and reading.rows[-1].end >= len(text) - start:
        reading.rows.pop()  # it may go on behind the sample, in quotes
    refuse_brackets(reading.rows, what)
    if reading.quote != "'" and (found := _SINGLE.search(text)):
        raise InputError(
            f"{what}: {found[0].strip()} has a quote behind a backslash in single quotes; double it"
        )
    head = header_of(reading, what, header, rows.header)
    start += rows.start
    first = reading.rows[head.present - 1] if head.present else None
    if first is not None and not rows.header:
        start += first.end
    decimal = _decimal(reading, head.present, what, decimal)
    return Dialect(
        encoding=encoding,
        sep=reading.sep,
        quote=reading.quote,
        escaped=escaped,
        comment=rows.mark,
        comment_given=rows.given,
        padded=reading.padded,
        decimal=decimal,
        returns=returns,
        names=head.names,
        first=() if first is None else tuple(first.cells),
        first_line=text[start - first.end : start].strip("\n") if first and first.end else "",
        skipped=text.count("\n", 0, start) + (start > 0 and text[start - 1] != "\n"),
        words=(
            *(["lines that end with carriage returns"] if returns else []),
            *_separator_words(reading, suffix),
            *(["quotes as part of the text"] if not reading.quote else []),
            *noted,
            *(["decimal comma"] if decimal == "," else []),
            *head.words,
        ),
    )


def _as_meant(text: str) -> tuple[str, bool, list[str]]:
    """The sample with plain cells, whether it has quotes behind backslashes, and what is said."""
    written = text.encode("utf-8", "replace")
    doubled = with_doubled_quotes(written, ANY)
    escaped = doubled != written and _is_escaped(text, doubled.decode())
    written = doubled if escaped else written
    noted = ["quotes behind backslashes"] if escaped else []
    if has_formulas(written):
        noted.append('text as Excel\'s ="…"')
    if has_unseen(written):
        noted.append("blanks that do not break, which are left out around cells and in numbers")
    return plain(written, ANY, '"').decode(), escaped, noted


def _is_escaped(text: str, doubled: str) -> bool:
    """Whether a text can be cut into rows only where quotes behind backslashes close no cell."""
    if late_escape(text.encode("utf-8", "replace"), ANY) >= 0:
        return True
    plainly, meant = ({sep: reading_of(one, sep) for sep in STRONG} for one in (text, doubled))
    return any(
        meant[sep].consistent()
        and (not plainly[sep].consistent() or plainly[sep].has_stray_quote())
        for sep in STRONG
    )


def with_line_ends(text: str) -> str:
    r"""Text whose lines end with "\\n"."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _separator_words(reading: Reading, suffix: str) -> list[str]:
    sep = reading.sep
    if reading.width < 2 or (sep == {**USUAL, ".txt": " "}.get(suffix) and not reading.padded):
        return []
    with_blanks = " and blanks" if reading.padded else ""
    return [f"separated by {_CALLED.get(sep, repr(sep))}{with_blanks}"]


def _decimal(reading: Reading, header: int, what: str, said: str | None) -> str:
    """The decimal sign of a text whose separator is no comma."""
    if reading.sep == "," or said == ".":
        return "."
    rows = [row.cells for row in reading.rows[header:] if len(row.cells) == reading.width]
    written, pointed = [], ""
    for column in zip(*rows, strict=True):
        cells = [cell.strip() for cell in column if not is_missing(cell)]
        if any("," in cell for cell in cells) and all(map(COMMA_NUMBER.fullmatch, cells)):
            written += [cell for cell in cells if "," in cell]
        elif any("." in cell for cell in cells) and all(map(is_number, cells)):
            pointed = next(cell for cell in cells if "." in cell)
    if written and pointed and said is None:
        raise InputError(
            f"{what} has numbers written as {written[0]} and as {pointed}; write all with a "
            "decimal point, or all with a decimal comma; where thousands are apart, "
            "say decimal=',' or decimal='.'"
        )
    if written and all(map(_THOUSANDS.fullmatch, written)) and said is None:
        raise InputError(
            f"{what}: {written[0]} may be a number with a decimal comma or with thousands apart: "
            f"say decimal=',' for {written[0].replace(',', '.')}, decimal='.' for "
            f"{written[0].replace(',', '')}"
        )
    return "," if written else "."

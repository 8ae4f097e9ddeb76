r"""What programs write in and around cells that is no part of them, taken away.

Excel's ``="001"`` is the text "001". Blanks that do not break (U+00A0, U+202F, …) and characters
without width (U+200B, U+FEFF, …) come from web pages and spreadsheets: around a cell, or between
the thousands of a number, nobody sees them, and no reader of numbers takes them. A quote behind a
backslash, as MySQL and Spark write it, is a quote that others double.
"""

from __future__ import annotations

import re
from functools import cache

#: In place of a separator that is not known yet.
ANY = ""
_LEADS = (b"\xc2\xa0", b"\xc2\xad", b"\xe2\x80", b"\xe2\x81", b"\xe3\x80\x80", b"\xef\xbb\xbf")
_UNSEEN = re.compile(
    rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x8b\x8e\x8f\xaf]|\xe2\x81[\x9f\xa0]|\xe3\x80\x80|\xef\xbb\xbf"
)
_BESIDE = rb"(?: *(?:" + _UNSEEN.pattern + rb"))+ *"
_AROUND = re.compile(rb"\A" + _BESIDE + rb"|" + _BESIDE + rb"\Z")
_THOUSANDS = re.compile(
    rb"[-+]?\d{1,3}(?:(?:\xc2\xa0|\xe2\x80[\x87\x89\xaf])\d{3})+(?:[.,]\d*)?(?:[eE][-+]?\d+)?"
)
#: Characters without width, as Arrow and Python know patterns.
NO_WIDTH = "[\u00ad\u200b\u200e\u200f\u2060\ufeff]"
_AMID = re.compile(rb"(?<=\d)(?:\xc2\xad|\xe2\x80[\x8b\x8e\x8f]|\xe2\x81\xa0|\xef\xbb\xbf)(?=\d)")


def plain(text: bytes, sep: str, quote: str) -> bytes:
    """Text whose cells hold what is meant by them, on as many lines.

    Args:
        text: UTF-8 of whole rows.
        sep: what separates cells; " " is any white space, `ANY` is not known.
        quote: what cells may be in.
    """
    # One byte is looked for at ten times the speed of two.
    if quote == '"' and b'"' in text and b'="' in text:
        text = _formulas(sep).sub(_of_formula, text)
    if has_unseen(text):
        text = _cells(sep, quote.encode()).sub(_bare, text)
    return text


def has_unseen(text: bytes) -> bool:
    """Whether a text has blanks that do not break, or characters without width."""
    some = not text.isascii() and any(lead in text for lead in _LEADS)
    return some and _UNSEEN.search(text) is not None


def has_formulas(text: bytes) -> bool:
    """Whether a text has cells as Excel's ``="001"``."""
    return b'="' in text and _formulas(ANY).search(text) is not None


def visible(name: str) -> str:
    """A name without characters that have no width, nor blanks around it."""
    return re.sub(NO_WIDTH, "", name).strip()


def with_doubled_quotes(text: bytes, sep: str) -> bytes:
    """Text whose cells in quotes have quotes doubled that were behind backslashes."""
    return _escaped(sep).sub(_doubled, text) if b"\\" in text else text


def late_escape(text: bytes, sep: str) -> int:
    """Where a quote behind a backslash is amid a cell in quotes; -1 where none is."""
    found = _amid_cell(sep).search(text) if b"\\" in text and b'\\"' in text else None
    return found.end() if found else -1


def _bare(match: re.Match[bytes]) -> bytes:
    """A cell without unseen characters around it, and as a number where it is one."""
    cell = match[0]
    if cell.isascii():
        return cell
    mark = cell[:1] if cell[:1] in b"\"'" and cell[:1] == cell[-1:] and len(cell) > 1 else b""
    bare = _AROUND.sub(b"", cell[len(mark) : len(cell) - len(mark)])
    within = _UNSEEN if _THOUSANDS.fullmatch(bare) else _AMID
    return mark + within.sub(b"", bare) + mark


def _of_formula(match: re.Match[bytes]) -> bytes:
    start, simple, quoted = match.groups()
    return start + b'"' + (quoted.replace(b'""', b'"') if simple is None else simple) + b'"'


def _doubled(match: re.Match[bytes]) -> bytes:
    return re.sub(rb'\\(["\\])', lambda m: b'""' if m[1] == b'"' else b"\\", match[0])


@cache
def _separator(sep: str) -> bytes:
    signs = {ANY: rb"[\t;|,\x01]", " ": rb"[ \t]"}
    return signs.get(sep) or re.escape(sep.encode())


@cache
def _formulas(sep: str) -> re.Pattern[bytes]:
    sign = _separator(sep)
    cell = rb'(?:="((?:[^"\n]|"")*)"|"=""((?:[^"\n]|"""")*)""")'
    return re.compile(rb"(^|" + sign + rb")" + cell + rb"(?=" + sign + rb"|\r?\n|\Z)", re.M)


@cache
def _cells(sep: str, quote: bytes) -> re.Pattern[bytes]:
    signs = {ANY: rb"[^\t;|,\x01\r\n]+", " ": rb"[^ \t\r\n]+"}
    one = rb"[^" + re.escape(sep.encode()) + rb"\r\n]+"
    other = signs.get(sep) or (
        one if len(sep) == 1 else rb"(?:(?!" + _separator(sep) + rb")[^\r\n])+"
    )
    if not quote:
        return re.compile(other)
    return re.compile(
        quote + rb"(?:[^" + quote + rb"]|" + quote * 2 + rb")*" + quote + rb"|" + other
    )


@cache
def _escaped(sep: str) -> re.Pattern[bytes]:
    sign = _separator(sep)
    cell = rb'"(?:[^"\\]|\\.|"")*"'
    return re.compile(
        rb"(?:^|" + sign + rb") *" + cell + rb"(?= *(?:" + sign + rb"|[\r\n]|\Z))", re.M | re.S
    )


@cache
def _amid_cell(sep: str) -> re.Pattern[bytes]:
    sign = _separator(sep)
    start = rb"(?:^|" + sign + rb') *"(?:[^"\\]|\\[^"]|"")*\\"'
    return re.compile(start + rb'(?! *(?:["\r\n]|\Z|' + sign + rb"))", re.M)

"""A text in blocks of whole rows, as Arrow's reader takes them, whatever its dialect."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gnnscale.data.tables.files import read_bytes
from gnnscale.data.tables.text.cells import rows_of
from gnnscale.data.tables.text.dialect import Dialect
from gnnscale.data.tables.text.encoding import not_of
from gnnscale.data.tables.text.header import is_usual
from gnnscale.data.tables.text.plain import late_escape, plain, with_doubled_quotes
from gnnscale.errors import InputError
from gnnscale.kernels.threads import njit_serial

BYTES_AT_ONCE = 1 << 22
_LONGEST = 1 << 28  # bytes of a row; more are a quote that does not close
_END = b"\n"
_UNIT = b"\x1f"  # separates cells in place of several characters


class Lines(NamedTuple):
    r"""Whole rows.

    Attributes:
        text: UTF-8 whose lines end with "\\n" or "\\r\\n", cells separated by one character.
        line: of the file, in which it begins, from 1.
    """

    text: bytes
    line: int


def separator_of(dialect: Dialect) -> str:
    """What separates cells in the blocks of a text."""
    return dialect.sep if len(dialect.sep) == 1 else _UNIT.decode()


def lines_of(path: Path, dialect: Dialect, what: str) -> Iterator[Lines]:
    """Read a text block by block.

    Raises:
        InputError: bytes are none of its encoding, a quote does not close, or a row may be a
            comment; saying which line it is in.
    """
    line, skipped = 1, dialect.skipped
    again = re.compile(rb"^" + re.escape(dialect.first_line.encode()) + rb"\r?$", re.M)
    usual = dialect.first_line.encode() if any(map(is_usual, dialect.first)) else b""
    for text in _whole_rows(path, dialect, what):
        text = _as_meant(text, dialect, what, line)
        if skipped:
            head = b"".join(text.splitlines(keepends=True)[:skipped])
            skipped -= len(head.splitlines())
            line += head.count(b"\n")
            text = text[len(head) :]
        if (at := text.find(b"\0")) >= 0:
            raise InputError(
                f"{what}, line {line + text.count(_END, 0, at)} holds a zero byte, which is no "
                "text: the file may not have been written to its end"
            )
        if usual and usual in text and (match := again.search(text)):
            raise InputError(
                f"{what}, line {line + text.count(_END, 0, match.start())} repeats the header; "
                "take it out"
            )
        rows = _without_comments(text, dialect, what, line) if dialect.comment else text
        if rows and not rows.isspace():
            yield Lines(_cleaned(rows, dialect), line)
        line += text.count(b"\n")


def _as_meant(text: bytes, dialect: Dialect, what: str, line: int) -> bytes:
    if dialect.escaped:
        text = with_doubled_quotes(text, dialect.sep)
    elif dialect.quote == '"' and (at := late_escape(text, dialect.sep)) >= 0:
        raise InputError(
            f"{what}, line {line + text.count(_END, 0, at)} has a quote behind a backslash in a "
            "cell in quotes, as the first rows have none; write quotes in cells doubled"
        )
    return plain(text, dialect.sep, dialect.quote)


def _whole_rows(path: Path, dialect: Dialect, what: str) -> Iterator[bytes]:
    rest = b""
    sep, quote = (ord(sign[:1] or "\0") for sign in (dialect.sep, dialect.quote))
    escape = ord("\\") if dialect.escaped else 0
    for text in _decoded(path, dialect, what):
        text = rest + text
        if dialect.quote and dialect.quote.encode() in text:
            end = row_end(np.frombuffer(text, np.uint8), sep, quote, escape)
        else:
            end = text.rfind(b"\n") + 1
        rest = text[end:]
        if end:
            yield text[:end]
        if len(rest) > _LONGEST:
            raise _unclosed(rest, what)
    if rest:
        if dialect.quote and dialect.quote.encode() in rest:
            end = row_end(np.frombuffer(rest + b"\n", np.uint8), sep, quote, escape)
            if end <= len(rest):
                raise _unclosed(rest[end:], what)
        yield rest + b"\n"


def _unclosed(rest: bytes, what: str) -> InputError:
    shown = rest[:60].decode("utf-8", "replace").split("\n")[0]
    return InputError(
        f"{what}: a quote in the row that begins {shown!r} does not close; double a quote that is "
        "part of a cell, and put the cell in quotes"
    )


def _decoded(path: Path, dialect: Dialect, what: str) -> Iterator[bytes]:
    """Blocks of UTF-8, without a mark of byte order, whose lines end with a line feed."""
    plain = dialect.encoding in ("utf-8", "utf-8-sig", "ascii")
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    for number, block in enumerate(read_bytes(path, BYTES_AT_ONCE)):
        if not plain:
            block = _transcoded(decoder, block, dialect, what)
        elif number == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        yield block.replace(b"\r", b"\n") if dialect.returns else block
    if not plain:
        yield _transcoded(decoder, b"", dialect, what)


def _transcoded(
    decoder: codecs.IncrementalDecoder, block: bytes, dialect: Dialect, what: str
) -> bytes:
    try:
        text = decoder.decode(block, final=not block)
    except UnicodeError as error:
        raise not_of(dialect.encoding, what, error) from error
    return text.removeprefix("\ufeff").encode("utf-8", "replace")


def _without_comments(text: bytes, dialect: Dialect, what: str, line: int) -> bytes:
    mark = re.escape(dialect.comment.encode())
    if dialect.comment.encode() not in text:
        return text
    if not dialect.comment_given:
        for match in re.finditer(rb"^" + mark + rb"[^\s][^\r\n]*", text, re.M):
            (row,) = rows_of(match[0].decode("utf-8", "replace"), dialect.sep, dialect.quote)
            if len(row.cells) == len(dialect.names) > 1:
                at = line + text.count(b"\n", 0, match.start())
                raise InputError(
                    f"{what}, line {at} ({' | '.join(row.cells)}) may be a comment or a row; say "
                    f"comment={dialect.comment!r} to leave such lines out, comment='' to read them"
                )
    return re.sub(rb"^[ \t]*" + mark + rb"[^\n]*", b"", text, flags=re.M)


def _cleaned(text: bytes, dialect: Dialect) -> bytes:
    if len(dialect.sep) > 1:
        quoted = rb'"(?:[^"]|"")*"|' if dialect.quote and dialect.quote.encode() in text else b""
        ends = re.compile(quoted + re.escape(dialect.sep.encode()))
        text = ends.sub(lambda m: m[0] if m[0][:1] == b'"' else _UNIT, text)
    if dialect.sep != " " and not dialect.padded:
        return text
    if dialect.sep == " " and not re.search(rb"\t|  | \r?\n|^ |\n ", text):
        return text
    out = np.empty(len(text), np.uint8)
    sep, quote = (ord(sign or "\0") for sign in (separator_of(dialect), dialect.quote))
    return out[: strip_blanks(np.frombuffer(text, np.uint8), sep, quote, out)].tobytes()


@njit_serial
def row_end(text, sep, quote, escape):
    """Where the last whole row ends: behind its line feed, 0 where there is none.

    A quote counts at the beginning of a cell only. Floor: the bytes, one after the other.

    Args:
        text: uint8 ``[bytes]`` that begin a row.
        sep: the separator; a blank stands for tabs, too.
        quote: the quote.
        escape: what a quote in quotes may be behind; 0 for nothing.
    """
    end = 0
    fresh, inside, escaped = True, False, False
    for i in range(text.size):
        c = text[i]
        if inside:
            if escaped:
                escaped = False
            elif c == escape and escape != 0:
                escaped = True
            elif c == quote:  # a doubled one opens again at once
                inside = False
        elif c == quote and (fresh or (i > 0 and text[i - 1] == quote)):
            inside = True
            fresh = False
        elif c == 10:
            end = i + 1
            fresh = True
        elif c == sep or (sep == 32 and c == 9):
            fresh = True
        elif c != 32:
            fresh = False
    return end


@njit_serial
def strip_blanks(text, sep, quote, out):
    """Copy text without the blanks beside separators and line ends, one for several: its length.

    Args:
        text: uint8 ``[bytes]`` of whole rows.
        sep: the separator; a blank stands for any white space, of which one blank is left.
        quote: what cells with blanks may be in.
        out: uint8 ``[bytes]``, filled.
    """
    n, i, size = 0, 0, text.size
    fresh = True
    while i < size:
        c = text[i]
        if c == quote and fresh:
            out[n] = c
            n += 1
            i += 1
            while i < size and not (text[i] == quote and (i + 1 == size or text[i + 1] != quote)):
                step = 2 if text[i] == quote else 1
                for _ in range(step):
                    out[n] = text[i]
                    n += 1
                    i += 1
            fresh = False
            if i < size:
                out[n] = quote
                n += 1
                i += 1
        elif c == 32 or (c == 9 and sep != 9):
            ahead = i
            while ahead < size and (text[ahead] == 32 or (text[ahead] == 9 and sep != 9)):
                ahead += 1
            ends = ahead == size or text[ahead] == 10 or text[ahead] == 13
            if not fresh and not ends:
                if sep == 32:
                    out[n] = 32
                    n += 1
                    fresh = True
                elif text[ahead] != sep:
                    for at in range(i, ahead):
                        out[n] = text[at]
                        n += 1
            i = ahead
        else:
            fresh = c == sep or c == 10
            out[n] = c
            n += 1
            i += 1
    return n

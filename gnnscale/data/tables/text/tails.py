"""Rows and cells without anything, which spreadsheets write below and behind others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from gnnscale.data.tables.text.lines import Lines
from gnnscale.kernels.threads import njit_serial


def without_empty_end(
    given: Iterable[Lines], sep: str, told: Callable[[int], None]
) -> Iterator[Lines]:
    """Leave out the rows of separators alone that a spreadsheet writes behind the others.

    Args:
        given: the text.
        sep: what separates its cells in there.
        told: called at the end with their number.
    """
    sign = sep.encode()
    held: list[Lines] = []
    for lines in given:
        text = lines.text
        end = len(text)
        while end:
            start = text.rfind(b"\n", 0, end - 1) + 1
            row = text[start:end]
            if row.strip(b" \t\r\n\x1a") and not _is_empty(row, sign):
                break
            end = start
        if end:
            yield from held
            held = []
            yield Lines(text[:end], lines.line)
        if end < len(text):
            held.append(Lines(text[end:], lines.line + text.count(b"\n", 0, end)))
    told(sum(_is_empty(row, sign) for one in held for row in one.text.splitlines()))


def _is_empty(row: bytes, sep: bytes) -> bool:
    cells = row.rstrip(b"\r\n").split(sep)
    return len(cells) > 1 and all(cell.strip(b" \t") in (b"", b'""') for cell in cells)


def without_tails(lines: Lines, sep: str, quote: str, width: int) -> Lines | None:
    """Rows without the empty cells behind the last column; None where others stand there, or none.

    Args:
        lines: the rows.
        sep: what separates their cells.
        quote: what cells may be in.
        width: how many columns there are.
    """
    out = np.empty(len(lines.text), np.uint8)
    signs = (ord(sign or "\0") for sign in (sep, quote))
    size = cut_tails(np.frombuffer(lines.text, np.uint8), *signs, width, out)
    return Lines(out[:size].tobytes(), lines.line) if 0 <= size < out.size else None


@njit_serial
def cut_tails(text, sep, quote, width, out):
    """Copy rows without the empty cells behind the last column: their length, -1 where one is not.

    Floor: the bytes, one after the other.

    Args:
        text: uint8 ``[bytes]`` of whole rows.
        sep: the separator.
        quote: what cells may be in.
        width: how many columns there are.
        out: uint8 ``[bytes]``, filled.
    """
    n, column = 0, 0
    fresh, inside = True, False  # whether a cell begins here; whether this is within quotes
    for i in range(text.size):
        c = text[i]
        if inside:
            inside = c != quote
        elif c == quote and (fresh or (i > 0 and text[i - 1] == quote)):
            if not fresh and column >= width:
                return -1
            inside, fresh = True, False
        elif c == 10:
            column, fresh = 0, True
        elif c == sep:
            column, fresh = column + 1, True
        elif c != 32:
            fresh = False
        if column < width:
            out[n] = c
            n += 1
        elif c != sep and c != quote and c != 32 and c != 9 and c != 13:
            return -1
    return n

"""Tables of plain numerals as text, to arrays.

Floor: the bytes of text, one after the other, with a branch a numeral that no processor foresees:
where its digits end.

What is plain: an optional minus, digits, perhaps a point between digits, perhaps an exponent; one
comma between fields, a line feed after each row. Anything else, and a numeral that the arithmetic
here might not round as its text says, is refused and left to a full parser.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import numpy as np

from gnnscale.kernels.threads import njit_serial

_MINUS, _COMMA, _POINT, _EXPONENT, _ZERO, _LINE = (ord(c) for c in "-,.e0\n")
_MOST_DIGITS = 18  # whose number fits 63 bits
_EXACT = 2**53  # up to which a float64 is every whole number
_POWERS = 10.0 ** np.arange(23)  # those of ten that are exact in float64
_MOST_POWER = 15  # 10^(18 + 15) is still a float32


@njit_serial
def parse_rows(text, kind, table):
    """Read the rows of a table.

    Fast and exact after Clinger (PLDI 1990): a number of up to 53 bits, times or over a power of
    ten of up to 22, is rounded once in float64. For float32 the number may have 63 bits: the result
    is then off by at most two units of the 29 bits that the second rounding drops, and is refused
    where these are that close to a half.

    Args:
        text: uint8 ``[bytes]``, whole lines.
        kind: the bytes of a float in the table; 0 for whole numbers.
        table: int64, float32 or float64 ``[rows, columns]``, a row more than there can be: filled.

    Returns:
        How many rows there are; -1 where the text is not plain.
    """
    columns = table.shape[1]
    rounded = np.empty(1, np.float64)
    bits = rounded.view(np.int64)
    one, end = np.uintp(1), np.uintp(text.shape[0])
    at = np.uintp(0)  # unsigned: numba lets a signed index count from the end, and looks every time
    row = 0
    while at < end:
        for column in range(columns):
            minus = text[at] == _MINUS
            start = first = at + np.uintp(minus)
            number, at = _digits(text, first, 0)
            if at == first:
                return -1
            power = 0
            if kind and text[at] == _POINT:
                first = at + one
                number, at = _digits(text, first, number)
                power = np.int64(first - at)
                if at == first:
                    return -1
            if np.int64(at - start) > _MOST_DIGITS and _significant(text[start:at]) > _MOST_DIGITS:
                return -1
            if kind and text[at] == _EXPONENT:
                down = text[at + one] == _MINUS
                first = at + one + np.uintp(down)
                exponent, at = _digits(text, first, 0)
                if not 1 <= np.int64(at - first) <= 3:
                    return -1
                power += -exponent if down else exponent
            if text[at] != (_COMMA if column + 1 < columns else _LINE):
                return -1
            at += one
            if not kind:
                table[row, column] = -number if minus else number
                continue
            if not -22 <= power <= _MOST_POWER or (kind == 8 and number > _EXACT):
                return -1
            value = np.float64(number)
            value = value * _POWERS[power] if power >= 0 else value / _POWERS[-power]
            if kind == 4:
                rounded[0] = value
                if abs((bits[0] & 0x1FFFFFFF) - 0x10000000) <= 4:
                    return -1
            table[row, column] = -value if minus else value
        row += 1
    return row


@numba.njit
def _digits(text, at, number):
    """Go on with a number, modulo 2^64: it, and where its digits end."""
    digit = np.uint8(text[at] - np.uint8(_ZERO))
    while digit <= 9:
        number = 10 * number + np.int64(digit)
        at += np.uintp(1)
        digit = np.uint8(text[at] - np.uint8(_ZERO))
    return number, at


@numba.njit
def _significant(text):
    """How many digits a numeral without sign has, not counting zeros in front."""
    digits = 0
    for each in text:
        if each != _POINT:
            digits += digits > 0 or each != _ZERO
    return digits

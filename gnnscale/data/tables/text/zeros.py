"""Cells that are written as no whole number is printed: 007, 0x1F, +5, -0."""

from __future__ import annotations

import re

from gnnscale.kernels.threads import njit_serial


def is_zero_led(cell: str) -> bool:
    """Whether a zero stands before another digit, or an x."""
    return re.match(r"\s*[-+]?0[0-9xX]", cell) is not None


@njit_serial
def zero_led(text, sep, quote, led, signed):
    """Mark the columns of which a cell is written as no whole number is printed.

    Floor: the bytes.

    Args:
        text: uint8 ``[bytes]`` of whole rows.
        sep: the separator.
        quote: what cells may be in.
        led: bool ``[columns]``, marked where a cell begins with a zero and another digit or an "x".
        signed: bool ``[columns]``, marked where one begins with a plus and a digit, or is "-0".
    """
    column, i = 0, 0
    begins, quoted = True, False  # whether a cell begins here; whether this is within quotes
    while i < text.size:
        c = text[i]
        if begins and c != 32 and c != quote and column < led.size:
            begins = False
            sign = c == 43 or c == 45
            at = i + 1 if sign else i
            if at < text.size and 48 <= text[at] <= 57:
                after = text[at + 1] if at + 1 < text.size else 10
                zero = text[at] == 48
                led[column] |= zero and (48 <= after <= 57 or after == 120 or after == 88)
                # behind -0, neither a digit nor a point nor an exponent
                other = not (48 <= after <= 57 or after == 46 or after == 101 or after == 69)
                signed[column] |= c == 43 or (c == 45 and zero and other)
        if c == quote and (quoted or begins or (i > 0 and text[i - 1] == quote)):
            quoted = not quoted  # a doubled one opens again at once
        elif not quoted and c == sep:
            column, begins = column + 1, True
        elif not quoted and c == 10:
            column, begins = 0, True
        i += 1

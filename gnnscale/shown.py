"""Text of others' files as it can be shown: a terminal acts on some characters."""

from __future__ import annotations


def shown(value: object) -> str:
    r"""Text whose control characters (of colours, of the cursor, of direction) are written out.

    Example:
        >>> shown("a" + chr(27) + "[31m")
        'a\\x1b[31m'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)

"""What can be shown: text of others' files, as a terminal acts on some characters; and sizes."""

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


def size(count: float) -> str:
    """Bytes for people: "12.3 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

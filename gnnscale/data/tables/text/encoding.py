"""How the characters of a text are written: recognised by its first bytes."""

from __future__ import annotations

import codecs
import re

from gnnscale.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ODD = re.compile(r"[^\W\x00-\x7f]{3}|[a-zß-ÿ][À-ÞŠŽŸ]|[a-z][\xa1-\xb6\xb8-\xbf…][a-z]")
_NAMES = {"latin-1": "Latin-1", "cp1252": "Windows-1252"}


def recognised_encoding(head: bytes, what: str, given: str | None) -> str:
    """Python's name of the encoding: "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", ….

    Raises:
        InputError: there is none of the name given, or the bytes are no text.
    """
    if given is not None:
        try:
            return codecs.lookup(given).name
        except (LookupError, TypeError):
            raise InputError(
                f"encoding={given!r} is not known; it is one of Python's, as 'utf-8', 'latin-1', "
                "'cp1252', 'utf-16'"
            ) from None
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:  # every character of ASCII has a zero beside it
        for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > len(zeros) // 2:
                return name
        raise InputError(
            f"{what} is no table: its bytes are neither text nor Parquet, Feather or Arrow"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        # What one reads as control characters the other reads as dashes and quotes.
        name = "cp1252" if any(0x80 <= byte < 0xA0 for byte in head) else "latin-1"
        if (odd := _is_of_another(head.decode(name, "replace"))) is not None:
            raise InputError(
                f"{what} is not UTF-8, and as {_NAMES[name]} would have words such as {odd!r}; say "
                "encoding=, as 'cp1251', 'cp1250', 'gb18030', 'shift_jis', 'mac_roman' or 'latin-1'"
            ) from None
        return name
    return "utf-8"


def _is_of_another(text: str) -> str | None:
    """A word that nobody writes, where most with letters beyond ASCII are such; else None.

    In languages of Latin-1, letters beyond ASCII stand alone among others, and small ones are not
    followed by capitals or signs.
    """
    words = {word for word in re.findall(r"[^\W_]*[^\x00-\x7f][^\s,;|]*", text)}
    odd = [word for word in words if _ODD.search(word)]
    return min(odd) if len(odd) >= 2 and len(odd) > len(words) / 2 else None


def decoded(head: bytes, encoding: str, what: str, whole: bool) -> str:
    """The text that these first bytes are; `whole`: of the whole text.

    Raises:
        InputError: they are none in this encoding.
    """
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head, final=whole)
    except UnicodeError as error:
        raise not_of(encoding, what, error) from error


def not_of(encoding: str, what: str, error: Exception) -> InputError:
    """The error for bytes that an encoding does not have."""
    return InputError(
        f"{what} is not written in {encoding}: {error}; say encoding=, as 'latin-1', 'cp1252' or "
        "'utf-16'"
    )


def encoding_words(encoding: str) -> tuple[str, ...]:
    """What is said of it, where it is not plain."""
    if encoding in ("utf-8", "utf-8-sig", "ascii"):
        return ()
    return (_NAMES.get(encoding, encoding.upper()),)

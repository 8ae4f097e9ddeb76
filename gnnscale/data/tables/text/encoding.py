"""How the characters of a text are written: recognised by its first bytes."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from gnnscale.data.tables.text.languages import readings
from gnnscale.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZEROS = {
    "utf-32-le": ((1, 4), (2, 4), (3, 4)),
    "utf-32-be": ((0, 4), (1, 4), (2, 4)),
    "utf-16-le": ((1, 2),),
    "utf-16-be": ((0, 2),),
}
_NAMES = {"latin-1": "Latin-1", "cp1252": "Windows-1252"}


class Recognised(NamedTuple):
    """How the characters of a text are written.

    Attributes:
        encoding: Python's name of it: "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", ….
        words: what is said of it, where it is not plain.
    """

    encoding: str
    words: tuple[str, ...] = ()


def recognised_encoding(head: bytes, what: str, given: str | None) -> Recognised:
    """The encoding that is given, or said by the first bytes, or the only likely one.

    Raises:
        InputError: there is none of the name given, several are likely, or the bytes are no text.
    """
    if given is not None:
        try:
            return _said(codecs.lookup(given).name)
        except (LookupError, TypeError):
            raise InputError(
                f"encoding={given!r} is not known; it is one of Python's, as 'utf-8', 'latin-1', "
                "'cp1252', 'utf-16'"
            ) from None
    for mark, name in _MARKS:
        if head.startswith(mark):
            return _said(name)
    if re.search(rb"\x1b\$[@AB]", head):
        raise InputError(f"{what} is written as Japanese mail is; say encoding='iso2022_jp'")
    if b"\0" in head:
        return _said(_by_zeros(head, what))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return _without_mark(head, what)
    return Recognised("utf-8")


def _said(encoding: str) -> Recognised:
    plain = encoding in ("utf-8", "utf-8-sig", "ascii")
    return Recognised(encoding, () if plain else (_NAMES.get(encoding, encoding.upper()),))


def _by_zeros(head: bytes, what: str) -> str:
    """The encoding in which every character of ASCII has zeros beside it."""
    for name, places in _ZEROS.items():
        beside = [head[start::step] for start, step in places]
        if all(zeros.count(0) > len(zeros) // 2 for zeros in beside):
            return name
    control = sum(head.count(sign) for sign in range(1, 32) if sign not in b"\t\n\r\f\v\x1a")
    if head.count(0) < len(head) // 2 and not control:
        return "utf-8"  # a text with zeros in it: reading names the line
    raise InputError(
        f"{what} is no table: its bytes are neither text nor Parquet, Feather or Arrow"
    )


def _without_mark(head: bytes, what: str) -> Recognised:
    """Of bytes that are not UTF-8: Latin-1 or Windows-1252, unless another may be meant."""
    # What one reads as control characters the other reads as dashes and quotes.
    name = "cp1252" if any(0x80 <= byte < 0xA0 for byte in head) else "latin-1"
    likely = readings(head, name)
    if [*likely] == [name]:
        by = f" (as in {likely[name][:40]!r}; else say encoding=)" if likely[name] else ""
        return Recognised(name, (_NAMES[name] + by,))
    if likely:
        ways = " or ".join(
            f"encoding={one!r} ({cell[:40]!r})" for one, cell in [*likely.items()][:6]
        )
        raise InputError(f"{what} is not UTF-8, and its letters may be others; say {ways}")
    raise InputError(
        f"{what} is not UTF-8, and no encoding is recognised by its words; say encoding=, as "
        "'latin-1', 'cp1252', 'cp1250', 'cp1251', 'mac_roman', 'gb18030', 'shift_jis' or 'cp850'"
    )


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

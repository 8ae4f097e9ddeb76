"""In which encodings a text may be that is not UTF-8: by the letters of languages, and by what is
beside them.

A byte above 127 is a letter in one encoding, another letter or a sign in the next: "è" of Latin-1
is "č" in Windows-1250, "и" in Windows-1251 and "Ë" on old Macintoshes. A cell may be in an encoding
if its letters are those of one language that is written in it, and stand where they do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

_WEST = (
    *("äöüß", "àâæçéèêëîïôùûüœ", "áéíóúüñªº", "àáâãçéêíóôõúüªº", "àéèìíîòóùú", "àçéèíïòóúü"),
    *("æøåéòâ", "åäöé", "áéíóúýðþæö", "éëïöüèêáóí", "äöõüšž", "çë"),
)
_EAST = (
    *("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíľňóôšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ", "äöüß"),
)
_TURKISH = ("çğıöşüâîûi",)  # noqa: RUF001
# Vowels and consonants that stand beside letters of other languages.
_V = "aeiouyáéíóúýàâäèêëîïôöùûüæøåãõąęěůőűă"
_C = "bcdfghjklmnpqrstvwxzčćďňřšťžłśźż"
_WEST_NEVER = (
    rf"ñ(?![{_V}])|ã(?![oen]|s?\b)|[aeiou]æ|[aeiou]ø|ø[aoui]|[ìù](?=\w)|\bè(?=\w)|[aeou]è[aeiou]|"
    rf"(?<![aeou])ï|(?<![{_V}])ß|[a-z]{{3}}[²³¹ºª]|º(?=\w)|"
    r"(?<!l)·|·(?!l)|¿(?!.*\?)|"
    r"’(?!(s|t|d|m|re|ve|ll|em)\b)(?<!\b[dljmntsco]’)(?<!qu’)(?<!\W’)(?=\w)"  # noqa: RUF001
)
_MAC_NEVER = _WEST_NEVER + r"|(?<![aeo])í(s|t|d|m|re|ve|ll)\b|\b[óäöüéñ]\b|úu|õ(?!e)"
_EAST_NEVER = (
    rf"(?<![{_V}])ř(?![{_V}])|(?<=\w)(?<![{_V}])č(?![{_V}])|(?<=\w)(?<![{_V}ś])ć|\bć(?![{_V}])|"
    rf"(?<![{_V}])ň(?![{_V}])|(?<![bpvmfdtn])ě|(?<![{_C}])ů|ń[{_V}]|\b[ęą]|[ęą][{_V}]|ă[oe]|"
    rf"[aeiouáéíóúöü][őű]|[őű][{_V}]|ič[rcgvmsz]|ď[bcfghjklmnprsvz]|śu|[cs]ś|(?<![{_V}])ß"
)
# Signs that may be beside a letter or a digit: behind it, or before it.
_BEHIND, _BEFORE = "»”’…®™°²³€£¥½¼¾\xa0›·–—", "«“‘„¿¡§°€£¥\xa0‹©·–—’"  # noqa: RUF001


class Writing(NamedTuple):
    """What is written in an encoding.

    Attributes:
        encoding: Python's name for it.
        languages: the letters of each beyond ASCII; or those of another script, as a range.
        never: what none of these languages has.
        last: the greatest first byte of usual characters, where they have two.
    """

    encoding: str
    languages: tuple[str, ...]
    never: str = ""
    last: int = 255


_CYRILLIC, _KANA_AND_HAN = "\u0400-\u04ff", "\u3040-\u30ff\u4e00-\u9fff\uff66-\uff9f\u3005"
OTHERS = (
    Writing("cp1250", _EAST, _EAST_NEVER),
    Writing("cp1254", _TURKISH),
    Writing("mac_roman", _WEST, _MAC_NEVER),
    Writing("cp1251", (_CYRILLIC,)),
    Writing("koi8_r", (_CYRILLIC,)),
    Writing("cp1253", ("\u0370-\u03ff",)),
    Writing("cp1255", ("\u0590-\u05ff",)),
    Writing("cp1256", ("\u0600-\u06ff",)),
    Writing("shift_jis", (_KANA_AND_HAN,), last=0xDF),
    Writing("gb2312", ("\u4e00-\u9fff",), last=0xD7),
    Writing("big5", ("\u4e00-\u9fff",), last=0xC5),
    Writing("euc_kr", ("\uac00-\ud7af",)),
    Writing("euc_jp", (_KANA_AND_HAN,), last=0xCF),
)
"""The encodings that a text of one byte a letter may be in, beside Latin-1 and Windows-1252."""


def readings(head: bytes, western: str) -> dict[str, str]:
    """In which encodings a text may be that is not UTF-8, with a cell as it is read in each.

    Args:
        head: its first bytes.
        western: "latin-1" or "cp1252": it is alone where all cells are as languages of the west
            have them, and two in three that another encoding reads otherwise are not as its
            languages have them.
    """
    bare = re.sub(rb"(?m)^[ \t]*[#%][^\n]*\n?", b"", head) or head
    if bare.isascii():
        return {western: ""}
    pieces = re.split(rb'[\t\r\n;,"]+', bare)
    beyond = b"\n".join(dict.fromkeys(piece for piece in pieces if not piece.isascii()))
    cells, west = _cells(beyond, western), Writing(western, _WEST, _WEST_NEVER)
    likely = {western: cells[0]} if cells and _share(cells, west) >= 0.9 else {}
    for other in OTHERS:
        theirs = _cells(beyond, other.encoding)
        if len(theirs) == len(cells):  # of what is read alike, and of a sign, nothing is learned
            pairs = zip(cells, theirs, strict=True)
            theirs = [b for a, b in pairs if a != b and not (western in likely and _is_sign(a))]
        if theirs and _share(theirs, other) > 2 / 3:
            likely[other.encoding] = theirs[0]
    return likely


def _cells(lines: bytes, encoding: str) -> list[str]:
    """Of lines, the cells with letters beyond ASCII; none where they are not in this encoding."""
    try:
        text = lines.decode(encoding)
    except UnicodeDecodeError as error:
        if len(lines) - error.start > 3:  # else it ends amid a character
            return []
        text = lines[: error.start].decode(encoding)
    # A bar may be the second half of a letter, as long as that is none yet.
    cells = (cell.strip(" ") for cell in re.split(r"[\n|]", text))
    return list(dict.fromkeys(cell for cell in cells if not cell.isascii()))[:500]


def _share(cells: Sequence[str], writing: Writing) -> float:
    """The share of cells that may be in this encoding; 1 without cells."""
    may_be = _may_be if writing.languages[0].isalpha() else _may_be_of_script
    return sum(may_be(cell, writing) for cell in cells) / len(cells) if cells else 1.0


def _may_be_of_script(cell: str, writing: Writing) -> bool:
    """Whether no word mixes the script with Latin letters, nor one letter is alone among them."""
    words = [word for word in re.findall(r"\w+", cell) if not word.isascii()]
    of_script = re.compile(rf"[{writing.languages[0]}\d_]+")
    alone = all(len(word) == 1 for word in words) and re.search("[a-zA-Z]", cell)
    if not words or alone or not all(map(of_script.fullmatch, words)):
        return False
    signs = (sign.encode(writing.encoding) for word in words for sign in word)
    return all(sign[0] <= writing.last for sign in signs)


def _may_be(cell: str, writing: Writing) -> bool:
    """Whether words have the letters of a language, and all signs stand where they do."""
    for word in re.findall(r"\w+", cell):
        letters = {s.lower()[0] for s in word if not s.isascii() and s.isalpha()} - {"µ"}
        if not any(letters <= {*language} for language in writing.languages):
            return False
        if len(word) > 1 and word.isalpha() and not re.search("[a-zA-Z]", word):
            return False
    if writing.encoding == "mac_roman" and all(s.isascii() or not s.isalpha() for s in cell):
        return False
    if re.search("[a-zà-ÿ][–—][a-zà-ÿ]", cell):  # noqa: RUF001
        return False
    if writing.never and re.search(writing.never, f" {cell.lower()} "):
        return False
    if any(
        a.isupper() and b.isupper() and c.islower() and not (a + b).isascii()
        for a, b, c in zip(cell, cell[1:], cell[2:], strict=False)
    ):
        return False
    return not any(map(_is_odd, itertools.pairwise(f" {cell} ")))


def _is_sign(cell: str) -> bool:
    """Whether beyond ASCII a cell has one or two signs, no letters."""
    signs = [sign for sign in cell if not sign.isascii()]
    return len(signs) <= 2 and not any(s.isalpha() and s not in "ªºµ" for s in signs)


def _is_odd(two: tuple[str, str]) -> bool:
    """Whether two characters, one beyond ASCII, do not stand beside each other in words."""
    a, b = two
    if a.isascii() and b.isascii():
        return False
    if "\x80" <= a < "\xa0" or "\x80" <= b < "\xa0":
        return True
    if a.isalpha() and b.isalpha():
        return a.islower() and b.isupper()
    if (a.isalpha() and b.isdecimal()) or (a.isdecimal() and b.isalpha()):
        return not {a, b} & {"ª", "º", "µ"}
    if a.isalnum() and not (b.isascii() or b.isalpha()):
        return b not in _BEHIND
    if b.isalnum() and not (a.isascii() or a.isalpha()):
        return a not in _BEFORE or (a in "£€¥§" and b.isalpha())
    return False

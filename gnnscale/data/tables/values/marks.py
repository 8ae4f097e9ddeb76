"""Numbers as people write them, read out of text: 1,234 · 1 234,5 · 12% · € 5 · (5) · 5- · n.a.

A column is numbers if every cell is one, or a word for none, in one way of writing: the same unit
throughout, thousands in groups of three, one decimal sign. Where two ways are possible, as of 1,234
alone, there is a `Doubt`. What is decided depends on the shapes of cells, which are few, as
"$9,999.99"; a zero that leads is kept, as in "0.99".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from gnnscale.data.tables.text.cells import MISSING
from gnnscale.storage.arrow import compute, pyarrow

#: What stands for no number where others are numbers, in small letters.
NO_NUMBER = frozenset(word.lower() for word in MISSING).union(
    ["not available", "not known"],
    re.findall(
        r"\S+",
        """
    ? ?? - -- --- \u2013 \u2014 . .. ... * ** na n.a n.a. n/d n.d. nd k.a. none missing unknown
    undefined unavailable inconnu unbekannt #div/0! #value! #ref! #name? #num! #null!
""",
    ),
)
_CURRENCIES = frozenset(
    re.findall(
        r"\S+",
        """
    $ € £ ¥ ₹ ₽ ₩ ₺ ₿ ฿ ₫ ₴ ₦ zł kr kr. Kč Ft lei Fr. Rs R$ US$ A$ C$ USD EUR GBP JPY CNY INR CAD
    AUD NZD CHF SEK NOK DKK PLN CZK HUF RUB BRL MXN ZAR KRW TRY SGD HKD BTC ETH
""",
    )
)
_UNITS = _CURRENCIES.union(
    re.findall(
        r"\S+",
        """
    % ‰ ° °C °F °K K kg g mg µg t lb lbs oz km m cm mm µm nm mi ft in km² m² cm² ha l L ml mL m³ W
    kW MW GW Wh kWh MWh V mV A mA Hz kHz MHz GHz B kB KB MB GB TB KiB MiB GiB bit px pt dB s sec ms
    µs ns min mins h hr hrs hour hours d day days week weeks month months yr yrs year years km/h mph
    m/s bp bps ppm cal kcal J kJ N Pa hPa kPa bar mol
""",
    )
)
_THOUSANDS = ("", ",", ".", "'", "\u2019", " ", "_")
_MINUS = "-\u2212\u2013"
_NUMBER = "[.,]?[DIGITS](?:[DIGITS.,'\u2019_ ]*[DIGITS.,])?(?:[eE][-+]?[DIGITS]+)?"
_OF_SHAPE = re.compile(rf"([^09]*?)({_NUMBER})([^09]*)".replace("DIGITS", "09"))
_OF_CELL = rf"^[^0-9]*?({_NUMBER})[^0-9]*$".replace("DIGITS", "0-9")
_FIRST = 100  # cells of a column whose others need not be looked at where one is no number
_MOST = 2_000  # shapes; numbers of one column have some dozens
_EXACT = 15  # digits of whole numbers that are floats, too


@dataclass(frozen=True)
class Doubt:
    """Why numbers in text cannot be read.

    Attributes:
        found: a cell, and what is in doubt.
        ways: the words for each reading; empty where there are none.
    """

    found: str
    ways: str = ""


@dataclass(frozen=True)
class Marks:
    """How the numbers of a column are written.

    Attributes:
        thousands: what stands between groups of three digits; "" for nothing.
        decimal: "." or ","; "" where numbers are whole.
        unit: what stands before or behind all of them; "" for nothing.
        known: whether that is a unit for sure.
        behind: how negative ones are written, where not with a minus in front: "(" or "-".
        missing: the words that stand for none.
        whole: whether all are whole, and floats of the same value.
    """

    thousands: str
    decimal: str
    unit: str
    known: bool
    behind: str
    missing: tuple[str, ...]
    whole: bool

    @property
    def type(self) -> pyarrow.DataType:
        """What the numbers are read as."""
        return pyarrow.int64() if self.whole else pyarrow.float64()

    @property
    def plain(self) -> bool:
        """Whether they are as everywhere, and text for another reason."""
        marks = self.thousands, self.unit, self.behind, self.missing
        return not (self.decimal == "," or any(marks))

    @property
    def words(self) -> str:
        """How they are written, in words."""
        said = [
            "numbers",
            f"thousands marked by {self.thousands!r}" if self.thousands else "",
            "decimal comma" if self.decimal == "," else "",
            f"each with {self.unit!r}" if self.unit else "",
            {"(": "negative in brackets", "-": "minus behind"}.get(self.behind, ""),
            f"{', '.join(map(repr, self.missing[:3]))} missing" if self.missing else "",
        ]
        return ", ".join(filter(None, said))

    @property
    def point(self) -> str:
        """The decimal sign that is meant, also where no number has one; "" where nothing tells."""
        return self.decimal or {",": ".", ".": ","}.get(self.thousands, "")

    def read(self, cells: pyarrow.Array) -> pyarrow.Array:
        """The numbers in cells of text, null where there is none."""
        bare = _bare(cells)
        none = compute.is_in(compute.utf8_lower(bare), value_set=_no_number())
        number = compute.replace_substring_regex(bare, _OF_CELL, r"\1")
        if self.thousands:
            number = compute.replace_substring(number, self.thousands, "")
        if self.decimal == ",":
            number = compute.replace_substring(number, ",", ".")
        values = compute.cast(compute.if_else(none, None, number), self.type)
        negative = compute.match_substring_regex(bare, rf"^[^0-9]*[{_MINUS}(]|[{_MINUS}]$")
        return compute.if_else(negative, compute.negate(values), values)


class _Shape(NamedTuple):
    core: str
    unit: str
    known: bool
    behind: str


def marks_of(chunks: Iterable[pyarrow.Array], decimal: str = "") -> Marks | Doubt | None:
    """How the numbers in a column of text are written; None where it is no column of numbers.

    Args:
        chunks: its cells; no more are asked for once one of them is no number.
        decimal: the decimal sign, where it is known.
    """
    shapes: dict[str, str] = {}
    for cells in itertools.chain.from_iterable((some[:_FIRST], some) for some in chunks):
        bare = _bare(cells).drop_null()
        led = compute.replace_substring_regex(bare, r"^([^0-9.,]*)0([0-9.,]|$)", "\\1\x01\\2")
        found = compute.replace_substring_regex(led, r"[0-9]", "9")
        for shape in found.unique().to_pylist():
            if (own := shape.replace("\x01", "0")) not in shapes:
                shapes[own] = bare[compute.index(found, shape).as_py()].as_py()
                if len(shapes) > _MOST or not (_is_word(shapes[own]) or _may_be_number(own)):
                    return None
    return _decided(shapes, decimal)


def is_marked(cell: str) -> bool:
    """Whether a cell may be a number, however it is marked."""
    led = re.sub(r"^([^0-9.,]*)0([0-9.,]|$)", "\\1\x01\\2", cell.strip())
    shape = _parsed(re.sub("[0-9]", "9", led).replace("\x01", "0"))
    return shape is not None and shape.known and bool(_ways({shape.core}))


def _decided(shapes: Mapping[str, str], decimal: str) -> Marks | Doubt | None:
    """What cells are, of which the first of each shape is given."""
    words = tuple(sorted({cell for cell in shapes.values() if _is_word(cell)} - {""}))
    cells = {
        cell: shape
        for name, cell in shapes.items()
        if not _is_word(cell) and (shape := _parsed(name)) is not None
    }
    if not cells:
        return None
    of_zero = _Shape("0", "", True, "")
    counted = {cell: shape for cell, shape in cells.items() if shape != of_zero}
    units = {shape.unit: cell for cell, shape in counted.items()}
    known = all(shape.known for shape in cells.values())
    if len(units) > 1:
        return Doubt(_both(units.values()) + ", of several units") if known else None
    unit = next(iter(units), "")
    behind = {shape.behind: cell for cell, shape in counted.items()}
    if behind and "" not in behind:
        return Doubt(f"{next(iter(behind.values()))!r}, and no number that is not written so")
    ways = _ways({shape.core for shape in cells.values()})
    if decimal:
        ways = [w for w in ways if w[0] != decimal and w[1] in ("", decimal)] or ways
    if unit not in _CURRENCIES and ("", ".") in ways and (".", "") in ways:
        ways = [("", ".")]  # as everywhere, without a word
    if not ways:
        each = ((_ways({shape.core})[0], cell) for cell, shape in cells.items())
        odd = {way: cell for way, cell in each if any(way)}
        return Doubt(_both(odd.values()) + ", numbers written in several ways")
    if len(ways) > 1:
        return _undecided(cells, *sorted(ways))
    [(thousands, sign)] = ways
    negative = "".join({*behind} - {""})[:1]
    cores = [shape.core for shape in cells.values()]
    whole = not sign and not any("e" in core.lower() for core in cores)
    long = any(core.count("9") > _EXACT for core in cores)
    return Marks(thousands, sign, unit, known, negative, words, whole and not long)


def _ways(cores: set[str]) -> list[tuple[str, str]]:
    """What may stand between thousands and before decimals of these numbers, where it does."""
    found = {
        (t if t and any(t in c for c in cores) else "", d if any(d in c for c in cores) else "")
        for t in _THOUSANDS
        for d in ".,"
        if t != d and all(_core(t, d).fullmatch(core) for core in cores)
    }
    return sorted(found)


@cache
def _core(thousands: str, decimal: str) -> re.Pattern[str]:
    """Numbers in which these stand between thousands and before decimals."""
    t, d = re.escape(thousands), re.escape(decimal)
    whole = "9+|0"
    if thousands:
        whole += rf"|9{{1,3}}(?:{t}9{{3}})+|9{{1,2}}(?:{t}9{{2}})+{t}9{{3}}"  # the last as in India
    after = rf"(?:{d}9*)?" if decimal == "." else rf"(?:{d}9+)?"
    return re.compile(rf"(?:(?:{whole}){after}|{d}9+)(?:[eE][-+]?9+)?")


def _may_be_number(shape: str) -> bool:
    parsed = _parsed(shape)
    return parsed is not None and bool(_ways({parsed.core}))


def _parsed(shape: str) -> _Shape | None:
    """A cell with its unit and its sign told apart; None where it is no number."""
    match = _OF_SHAPE.fullmatch(shape)
    if match is None:
        return None
    before, core, after = match.groups()
    behind, minus = "", re.findall(rf"[{_MINUS}+]", before)
    if "(" in before and after.rstrip().endswith(")"):
        before, after, behind = before.replace("(", "", 1), after.rstrip()[:-1], "("
    elif after[-1:] and after[-1] in _MINUS and core[-1] not in ".,":  # "5.-" is a price
        after, behind = after[:-1], "-"
    before, after = re.sub(rf"[{_MINUS}+]", "", before).strip(), after.strip()
    if len(minus) + bool(behind) > 1 or (before and after):
        return None
    if before and (before not in _CURRENCIES or (core[0] in ".," and before[-1].isalpha())):
        return None
    known = not after or after in _UNITS
    if not (known or re.fullmatch(r"[^\W\d_]{1,12}", after)):
        return None
    return _Shape(core, before or after, known, behind)


def _undecided(cells: Mapping[str, _Shape], *ways: tuple[str, str]) -> Doubt:
    """Of a mark that may be between thousands or before decimals: both readings of a cell."""
    mark = ways[-1][0] or ways[-1][1]
    cell = next(cell for cell, shape in cells.items() if mark in shape.core)
    digits = re.sub(r"[^0-9.,]", "", cell)
    other = {",": ".", ".": ","}[mark]
    return Doubt(
        f"{cell!r}, which may be {digits.replace(mark, '')} or {digits.replace(mark, '.')}",
        f"say decimal={other!r} for the first, decimal={mark!r} for the second",
    )


def _both(cells: Iterable[str]) -> str:
    return " and ".join(map(repr, [*cells][:2]))


def _is_word(cell: str) -> bool:
    return cell.lower() in NO_NUMBER


@cache
def _no_number() -> pyarrow.Array:
    return pyarrow.array(sorted(NO_NUMBER), pyarrow.large_string())


def _bare(cells: pyarrow.Array) -> pyarrow.Array:
    """Cells without blanks around them, and with plain ones within."""
    text = compute.utf8_trim_whitespace(cells.cast(pyarrow.large_string()))
    return compute.replace_substring_regex(text, "[\u00a0\u2007\u2009\u202f]", " ")

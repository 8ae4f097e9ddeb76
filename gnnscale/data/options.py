"""Options in the name of a data set: ``synthetic:planted?nodes=1000&seed=1``, ``a.npz?split=full``.

What follows the question mark and what is given by keyword are the same options. Together they are
written into ``graph.source``, so that loading that string makes the same graph in a new process.
"""

from __future__ import annotations

import difflib
import glob
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

from gnnscale.errors import InputError

#: What the names of generated graphs begin with.
PREFIX = "synthetic:"
#: The tables that something may be said of, as `from_edge_list` calls them.
TABLES = ("edges", "features", "labels")


def split_query(text: str) -> tuple[str, str]:
    """Split "a.npz?seed=1"; a question mark in the name of a file that there is stays there."""
    ends = [match.start() for match in re.finditer(r"\?|$", text)]
    for end in reversed(ends):
        if os.path.exists(os.path.expanduser(text[:end])):
            return text[:end], text[end + 1 :]
    base, _, query = text.partition("?")
    if query and "=" not in query and glob.glob(os.path.expanduser(text)):
        return text, ""  # a pattern of part files
    return base, query


@dataclass(frozen=True)
class Option:
    """An option: how its text is read, its default, and the values it may take."""

    read: Callable[[str], Any]
    default: Any = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()

    def describe(self, name: str) -> str:
        """Return the option as it would be written, with its default and limits."""
        text = name if self.default is None else f"{name}={self.default}"
        if self.choices:
            text += f" ({', '.join(self.choices)})"
        elif self.least is not None and self.most is not None:
            text += f" ({self.least} to {self.most})"
        elif self.least is not None:
            text += f" (at least {self.least})"
        return text


def read_bool(text: str) -> bool:
    """Read 1, true, yes or 0, false, no."""
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def read_options(
    subject: str, query: str, keywords: Mapping[str, object], valid: Mapping[str, Option]
) -> dict[str, Any]:
    """Return the options given, in a query or by keyword, each read and checked.

    Args:
        subject: what the options are for, as errors call it.
        query: what follows the question mark, or "".
        keywords: options given by keyword; None means not given.
        valid: the options there are.

    Raises:
        InputError: unknown, malformed, doubled or out of range; all faults at once, and the list
            of valid options.
    """
    faults: list[str] = []
    given: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        pairs = []
        faults.append(f"{subject}: {query!r} is not of the form option=value&option=value")
    for name, value in [*pairs, *((k, v) for k, v in keywords.items() if v is not None)]:
        if name not in valid:
            close = difflib.get_close_matches(name, valid, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            faults.append(f"{subject}: unknown option {name!r}{hint}")
        elif name in given:
            faults.append(f"{subject}: option {name!r} is given twice")
        else:
            given[name] = _read(f"{subject}: option {name!r}", value, valid[name], faults)
    if faults:
        listed = "; ".join(option.describe(name) for name, option in valid.items())
        raise InputError([*faults, f"{subject} takes: {listed}"])
    return given


def read_texts(subject: str, query: str) -> dict[str, str | int | bool]:
    """Return what a query says, where the options are not known: numbers and truths as such.

    Raises:
        InputError: it is malformed, or an option is given twice.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise InputError(
            f"{subject}: {query!r} is not of the form option=value&option=value"
        ) from None
    texts = dict(pairs)
    if len(texts) < len(pairs):
        twice = sorted({name for name, _ in pairs if [n for n, _ in pairs].count(name) > 1})
        raise InputError(f"{subject}: given twice: {', '.join(twice)}")
    return {name: plain(text) for name, text in texts.items()}


def plain(text: str) -> str | int | bool:
    """What a text means where its option is not known: a number, a truth, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.isascii() and text.isdigit() else text


def by_table(text: str) -> str | dict[str, str]:
    """What is said of tables by their names, as "edges=;,features=|"; other text as it is."""
    names = "|".join(TABLES)
    if not re.match(rf"({names})=", text):
        return text
    _, *pieces = re.split(rf"(?:^|,)({names})=", text)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def as_query(options: Mapping[str, object]) -> str:
    """Return options as ``?option=value&...``, sorted, or "" where there are none."""
    texts = {name: _text(value) for name, value in options.items()}
    pairs = [f"{name}={quote(texts[name], safe='/,:.-')}" for name in sorted(texts)]
    return "?" + "&".join(pairs) if pairs else ""


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)


def _read(label: str, value: object, option: Option, faults: list[str]) -> Any:
    try:
        # Through text, so that a keyword and a query can not be read differently.
        read = option.read(_text(value))
    except (ValueError, OverflowError):
        kind = option.read.__name__.removeprefix("read_")
        faults.append(f"{label} is {value!r}; it must be of type {kind}")
        return None
    if option.choices and read not in option.choices:
        faults.append(f"{label} is {read!r}; it must be one of {', '.join(option.choices)}")
    if isinstance(read, float) and math.isinf(read):
        faults.append(f"{label} is {read}; it must be finite")
    if isinstance(read, int | float) and not isinstance(read, bool):
        # Negated comparisons, so that NaN is out of range as well.
        if option.least is not None and not read >= option.least:
            faults.append(f"{label} is {read}; the least is {option.least}")
        if option.most is not None and not read <= option.most:
            faults.append(f"{label} is {read}; the most is {option.most}")
    return read

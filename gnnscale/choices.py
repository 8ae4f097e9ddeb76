"""What arguments may be, read from their annotations, and checks in the same words."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from gnnscale.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


_INT64 = 2**63
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Callable: "a function",
}


@dataclass(frozen=True)
class Argument:
    """What an argument may be.

    Attributes:
        name: its name.
        hint: its type; where that has `Any` in it, it may be anything.
        default: its default; `inspect.Parameter.empty` where it must be given.
        written: its type as it is written.
        said: more of it (see `declared.Details`), such as the least number.
    """

    name: str
    hint: Any
    default: Any = inspect.Parameter.empty
    written: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def parts(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The values and the types that its hint names."""
        return parts_of(self.hint)

    def words(self) -> str:
        """What it may be, in words; none where it may be anything."""
        values, kinds = self.parts
        if Any in kinds:
            return ""
        named = [_WORDS.get(kind, kind.__name__) + self._range(kind) for kind in kinds]
        words = [*(repr(value) for value in values if value is not None), *named]
        *most, last = [*words, "None"] if None in values else words
        return f"{', '.join(most)} or {last}" if most else last

    def faults(self, value: Any) -> list[str]:
        """What is wrong with a value, in words."""
        _, kinds = self.parts
        if Any in kinds:
            return []
        if getattr(value, "ndim", 0) and not {Sequence, Mapping} & {*kinds}:
            return [f"{self.name} is one value, not an array: {value!r}"]
        if not self.said.get("checked", True) or self._allows(value):
            return []
        return [f"{self.name}={value!r} must be {self.words()}"]

    def _allows(self, value: Any) -> bool:
        values, kinds = self.parts
        if any(type(value) is type(one) and value == one for one in values):
            return True
        return any(self._is_of(kind, value) for kind in kinds)

    def _is_of(self, kind: Any, value: Any) -> bool:
        if kind is Callable:
            return callable(value)
        if kind not in (int, float):
            return isinstance(value, kind)
        number = isinstance(value, int if kind is int else int | float)
        if not number or isinstance(value, bool) or not math.isfinite(value):
            return False
        least, above = self.said.get("least", -math.inf), self.said.get("above", -math.inf)
        inside = least <= value <= self.said.get("most", math.inf) and value > above
        return inside and (kind is float or abs(value) < _INT64)

    def _range(self, kind: Any) -> str:
        if kind not in (int, float):
            return ""
        said = self.said
        most = f"to {said['most']:.12g}" if "most" in said else "on"
        least = f" from {said['least']:g} {most}" if "least" in said else ""
        return least + (f" above {said['above']:g}" if "above" in said else "")


def choices_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check every argument whose annotation names `bool` or a `Literal`, before the call.

    NumPy's booleans are made Python's.

    Raises:
        InputError: naming each that is none of its values.
    """
    found: list[tuple[int, Argument]] | None = None

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal found
        if found is None:
            found = _choices(function)
        faults = []
        placed: Any = list(args)
        for place, argument in found:
            by_name = argument.name in kwargs
            if not by_name and place >= len(placed):
                continue
            given: Any = kwargs if by_name else placed
            key = argument.name if by_name else place
            value = given[key]
            if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
                value = given[key] = bool(value)
            faults += argument.faults(value)
        if faults:
            raise InputError(faults)
        return function(*placed, **kwargs)

    return checked


def choice_faults(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """What is wrong with arguments, by name, of a function that does not check them itself."""
    return [
        fault
        for _, argument in _choices(function)
        if argument.name in arguments
        for fault in argument.faults(arguments[argument.name])
    ]


def _choices(function: Callable[..., Any]) -> list[tuple[int, Argument]]:
    """The arguments that are checked, each with its place among the positional ones."""
    found = []
    for place, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        written = parameter.annotation
        if not any(word in str(written) for word in ("bool", "Literal")):
            continue
        by_place = parameter.kind is not parameter.KEYWORD_ONLY
        names = getattr(inspect.unwrap(function), "__globals__", {})
        hint = eval(written, names) if isinstance(written, str) else written
        found.append((place if by_place else 2**31, Argument(name, hint)))
    return found


def parts_of(hint: Any) -> tuple[tuple[Any, ...], tuple[type, ...]]:
    """The values and the types that a hint names."""
    if hint is bool:
        return (True, False), ()
    if hint is None or hint is type(None):
        return (None,), ()
    if get_origin(hint) is Literal:
        return get_args(hint), ()
    if get_origin(hint) in (Union, types.UnionType):
        parts = [parts_of(part) for part in get_args(hint)]
        return sum((p[0] for p in parts), ()), sum((p[1] for p in parts), ())
    return (), (get_origin(hint) or hint,)


def whole_faults(name: str, value: Any, least: int, most: int = 2**63 - 1) -> list[str]:
    """Faults of an argument that is a whole number from `least` to `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and least <= value <= most:
        return []
    limit = f"at most {most}" if whole and value > most else f"at least {least}"
    return [f"{name}={value!r} must be a whole number, {limit}"]


def number_faults(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf
) -> list[str]:
    """Faults of an argument that is a finite number from `least` to `most`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if number and abs(value) < 1e300 and least <= value <= most:
        return []
    bounds = "" if math.inf in (-least, most) else f" in [{least:g}, {most:g}]"
    return [f"{name}={value!r} must be a finite number{bounds}"]

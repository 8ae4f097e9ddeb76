"""Arguments that are one of a few values, checked by the annotations that declare them."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

from gnnscale.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


class _Choice(NamedTuple):
    """What an argument may be.

    Attributes:
        name: of the parameter.
        place: its place among the positional ones.
        values: that it may equal.
        kinds: that it may be an instance of.
    """

    name: str
    place: int
    values: tuple[Any, ...]
    kinds: tuple[type, ...]

    def allows(self, value: Any) -> bool:
        same = any(type(value) is type(one) and value == one for one in self.values)
        return same or isinstance(value, self.kinds)

    def fault(self, value: Any) -> str:
        *most, last = [*map(repr, self.values), *(kind.__name__ for kind in self.kinds)]
        words = f"{', '.join(most)} or {last}" if most else last
        return f"{self.name}={value!r} must be {words}"


def choices_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check every argument whose annotation names `bool` or a `Literal`, before the call.

    NumPy's booleans are made Python's.

    Raises:
        InputError: naming each that is none of its values.
    """
    found: list[_Choice] | None = None

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal found
        if found is None:
            found = _choices(function)
        faults = []
        placed: Any = list(args)
        for choice in found:
            by_name = choice.name in kwargs
            if not by_name and choice.place >= len(placed):
                continue
            given: Any = kwargs if by_name else placed
            key = choice.name if by_name else choice.place
            value = given[key]
            if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
                value = given[key] = bool(value)
            if not choice.allows(value):
                faults.append(choice.fault(value))
        if faults:
            raise InputError(faults)
        return function(*placed, **kwargs)

    return checked


def choice_faults(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """What is wrong with arguments, by name, of a function that does not check them itself."""
    return [
        choice.fault(arguments[choice.name])
        for choice in _choices(function)
        if choice.name in arguments and not choice.allows(arguments[choice.name])
    ]


def _choices(function: Callable[..., Any]) -> list[_Choice]:
    found = []
    for place, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        written = parameter.annotation
        if not any(word in str(written) for word in ("bool", "Literal")):
            continue
        by_place = parameter.kind is not parameter.KEYWORD_ONLY
        names = getattr(inspect.unwrap(function), "__globals__", {})
        hint = eval(written, names) if isinstance(written, str) else written
        found.append(_Choice(name, place if by_place else 2**31, *parts_of(hint)))
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
    if number and abs(value) < 1e300 and least <= value <= most:  # type: ignore[arg-type, operator]
        return []
    bounds = "" if math.inf in (-least, most) else f" in [{least:g}, {most:g}]"
    return [f"{name}={value!r} must be a finite number{bounds}"]

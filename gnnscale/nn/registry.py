"""The registry of convolutions: which are propagations, and how far the others reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from gnnscale.errors import InputError
from gnnscale.nn.propagation import OVERRIDABLE, Propagation, is_intercepted

Reading = Callable[[Any], Propagation | None]

_READINGS: dict[type, Reading] = {}
_REACH: dict[type, int] = {}


def register(
    cls: type[nn.Module], *, propagation: Reading | None = None, hops: int | None = None
) -> type[nn.Module]:
    """Tell gnnscale what a convolution class is.

    Args:
        cls: the class.
        propagation: for a convolution that is a fixed propagation and a dense transform: a function
            from an **instance** to its `Propagation`, or to None where its arguments make it
            something else. Such a layer gets the fast sparse kernels.
        hops: for any other: how far an output row reaches. 1 if it depends on the node, its
            in-neighbours and the edges between; 2 if, like a layer that computes the degrees of its
            neighbours, it needs the edges that arrive at them; and so on. Used for exact inference
            in chunks, and checked before first use.

    Returns:
        The class, so that this serves as a decorator through `functools.partial`.

    Raises:
        InputError: neither or both are given, or `hops` is not a positive integer.
    """
    if (propagation is None) == (hops is None):
        raise InputError("register a convolution with either propagation=… or hops=…")
    if propagation is not None:
        _READINGS[cls] = propagation
        _REACH.pop(cls, None)
        return cls
    if not isinstance(hops, int) or isinstance(hops, bool) or hops < 1:
        raise InputError(f"hops={hops!r}: the reach of a convolution is a whole number from 1 on")
    _REACH[cls] = hops
    _READINGS.pop(cls, None)
    return cls


def propagation_of(conv: nn.Module) -> Propagation | None:
    """How an instance reads as a propagation, or None where it must run as it is.

    None for a subclass that overrides any of `forward`, `message`, `message_and_aggregate`,
    `aggregate`, `update`, `edge_update`, `propagate`; for an instance with hooks or parametrizations
    on it or on what it contains; and before lazy parameters are materialised.
    """
    reading = _reading_for(type(conv))
    if reading is None or not is_transparent(conv):
        return None
    return reading(conv)


def is_transparent(conv: nn.Module) -> bool:
    """Whether nothing in an instance watches or replaces the calls that a fast path skips."""
    return not any(is_intercepted(module) for module in conv.modules()) and not any(
        isinstance(p, nn.parameter.UninitializedParameter) for p in conv.parameters()
    )


def reach_of(conv: nn.Module) -> int | None:
    """The reach declared for an opaque convolution, in hops; None where none was declared."""
    for cls in type(conv).__mro__:
        if cls in _REACH:
            return None if _overrides(type(conv), cls) else _REACH[cls]
        if cls in _READINGS:
            return None
    return None


def is_registered(conv: nn.Module) -> bool:
    """Whether the class of `conv`, or a parent of it, has been registered."""
    return any(cls in _READINGS or cls in _REACH for cls in type(conv).__mro__)


def _reading_for(cls: type) -> Reading | None:
    for parent in cls.__mro__:
        if parent in _REACH:
            return None
        if parent in _READINGS:
            return None if _overrides(cls, parent) else _READINGS[parent]
    return None


def _overrides(cls: type, parent: type) -> bool:
    """Whether a class between `cls` and `parent` replaces what `parent` was registered for."""
    for klass in cls.__mro__:
        if klass is parent:
            return False
        if any(_defines(klass, name) for name in OVERRIDABLE):
            return True
    return False


def _defines(cls: type, name: str) -> bool:
    # PyG writes a generated `propagate`, a plain function, into every class it instantiates.
    method = cls.__dict__.get(name)
    generated = (
        name == "propagate"
        and getattr(method, "__qualname__", "") == "propagate"
        and method.__module__.endswith("_propagate")
    )
    return method is not None and not generated

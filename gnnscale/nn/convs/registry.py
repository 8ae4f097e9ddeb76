"""The registry of convolutions: which are propagations, and how far the others reach."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn
from torch_geometric.nn import MessagePassing

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.convs.propagation import Propagation
from gnnscale.nn.modules import OVERRIDABLE, is_intercepted, parameters, required

Reading = Callable[[Any], Propagation | None]
Reach = int | Callable[[Any], int | None]


class _Entry(NamedTuple):
    reading: Reading | None
    hops: Reach | None
    symmetric: bool


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REGISTERED: dict[type, _Entry] = {}


@choices_checked
def register(
    cls: type[nn.Module],
    *,
    propagation: Reading | None = None,
    hops: Reach | None = None,
    symmetric: bool = False,
) -> type[nn.Module]:
    """Tell gnnscale what a convolution class is.

    Args:
        cls: the class.
        propagation: for a convolution that is a fixed propagation and a dense transform: a function
            from an **instance** to its `Propagation`, or to None where its arguments make it
            something else. Such a layer gets the fast sparse kernels.
        hops: for one that runs as it is: how far an output row reaches. 1 if it depends on the
            node, its in-neighbours and the edges between; 2 if, like a layer that computes the
            degrees of its neighbours, it needs the edges that arrive at them; and so on. Used for
            exact inference in chunks. Beside `propagation`, for instances that do not read as one.
            Where arguments decide (K, the number of layers), a function from an instance to its
            reach, or to None where it is not known. Declared or not, it is checked before use.
        symmetric: the reach holds on symmetric graphs only, since edges that leave a node count
            (out-degrees), and chunks are read with the edges that arrive.

    Returns:
        The class, so that this serves as a decorator through `functools.partial`.

    Raises:
        InputError: neither is given, or `hops` is not a positive integer.
    """
    if propagation is None and hops is None:
        raise InputError("register a convolution with propagation=…, with hops=…, or with both")
    if hops is not None and not callable(hops):
        check_hops(hops)
    _REGISTERED[cls] = _Entry(propagation, hops, symmetric)
    return cls


def check_hops(hops: Any) -> None:
    """Raise InputError for a reach that is not a positive integer."""
    if not isinstance(hops, int) or isinstance(hops, bool) or hops < 1:
        raise InputError(f"hops={hops!r}: the reach of a convolution is a whole number from 1 on")


def propagation_of(conv: nn.Module) -> Propagation | None:
    """How an instance reads as a propagation, or None where it must run as it is.

    None for a subclass that overrides any of `forward`, `message`, `message_and_aggregate`,
    `aggregate`, `update`, `edge_update`, `propagate`; for an instance with hooks, parametrizations
    or patched methods on it or on what it contains; and before lazy parameters have a shape.
    """
    entry = _entry_for(type(conv))
    if entry is None or entry.reading is None or not is_transparent(conv):
        return None
    return entry.reading(conv)


def is_transparent(conv: nn.Module) -> bool:
    """Whether nothing in an instance watches or replaces the calls that a fast path skips."""
    return not any(is_intercepted(module) for module in conv.modules()) and not any(
        isinstance(p, nn.parameter.UninitializedParameter) for p in conv.parameters()
    )


def reach_of(conv: nn.Module) -> int | None:
    """The reach declared for an opaque convolution, in hops; None where none was declared."""
    entry = _entry_for(type(conv))
    if entry is None or entry.hops is None:
        return None
    hops = entry.hops(conv) if callable(entry.hops) else entry.hops
    # Against the edges, a neighbour's edge back to the row arrives one hop further out.
    return hops if hops is None or not _runs_backwards(conv) else hops + 1


def needs_symmetry(conv: nn.Module) -> bool:
    """Whether edges that leave a node count, so that its reach holds on symmetric graphs only."""
    entry = _entry_for(type(conv))
    return _runs_backwards(conv) or (entry is not None and entry.symmetric)


def _runs_backwards(conv: nn.Module) -> bool:
    return getattr(conv, "flow", "source_to_target") != "source_to_target"


def is_registered(conv: nn.Module) -> bool:
    """Whether the class of `conv`, or a parent of it, has been registered."""
    return any(cls in _REGISTERED for cls in type(conv).__mro__)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module takes the graph's structure beside the rows."""
    if isinstance(module, MessagePassing) or is_registered(module):
        return True
    places = [name for name in required(module) if parameters(module)[name].kind in _POSITIONAL]
    return len(places) >= 2 or "edge_index" in parameters(module)


def _entry_for(cls: type) -> _Entry | None:
    parent = next((parent for parent in cls.__mro__ if parent in _REGISTERED), None)
    return None if parent is None or _overrides(cls, parent) else _REGISTERED[parent]


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

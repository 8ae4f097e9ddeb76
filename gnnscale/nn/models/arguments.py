"""Models by name, made of functions that build them out of their declared arguments."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from gnnscale.declared import bound, signature_of, with_arguments
from gnnscale.nn.blocks.layered import LayeredGNN

P = ParamSpec("P")
D = TypeVar("D")

# What PyG's constructors raise.
WRONG_ARGUMENT = (TypeError, ValueError, AttributeError, RuntimeError, LookupError, AssertionError)


class TakesMore(Protocol[P]):
    """A model that hands on to PyG's layers what is not declared."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> LayeredGNN: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> LayeredGNN: ...


class named(Generic[P, D]):  # noqa: N801 - a decorator
    """Make a model by name of a function that builds it out of its declared arguments.

    A function of two arguments is given, second, what is not declared, for PyG's layers.

    Args:
        declaration: of its arguments.
    """

    def __init__(self, declaration: Callable[P, D]) -> None:
        self._declaration = declaration

    @overload
    def __call__(self, build: Callable[[D], LayeredGNN]) -> Callable[P, LayeredGNN]: ...

    @overload
    def __call__(self, build: Callable[[D, dict[str, Any]], LayeredGNN]) -> TakesMore[P]: ...

    def __call__(self, build: Callable[..., LayeredGNN]) -> Callable[..., LayeredGNN]:
        """Decorate."""
        name, declaration = build.__name__, self._declaration
        signature = signature_of(declaration)
        shown = [*signature.parameters.values()]
        takes_more = len(inspect.signature(build).parameters) == 2
        if takes_more:
            shown.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))

        @functools.wraps(build)
        def make(*args: object, **kwargs: object) -> LayeredGNN:
            undeclared = kwargs.keys() - signature.parameters if takes_more else ()
            more = {own: kwargs.pop(own) for own in sorted(undeclared)}
            given = bound(name, declaration, signature, args, kwargs)
            model = build(given, more) if takes_more else build(given)
            model.spec = _spec_of(name, {**vars(given), **more})
            return model

        make.__doc__ = with_arguments(build.__doc__ or "", declaration)
        vars(make)["__signature__"] = signature.replace(
            parameters=shown, return_annotation=LayeredGNN
        )
        return make


def _spec_of(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What builds the model again, or None where an argument cannot be written as JSON."""
    try:
        return json.loads(json.dumps({"model": name, "arguments": arguments}))
    except TypeError:
        return None

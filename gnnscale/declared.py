"""Arguments that are declared once: a dataclass is signature, check, saved values and help.

    @dataclass(frozen=True)
    class Options:
        model: Annotated[Any, about("What is trained.")]
        _: KW_ONLY
        epochs: Annotated[int, about("Passes over the data.", least=1)] = 50

    class Trainer:
        '''Trains.'''

        @takes(Options)
        def __init__(self, options: Options) -> None: ...

`Trainer(model, epochs=3)` is what type checkers, editors and `help()` see. Loads neither torch nor
NumPy: `gnnscale --help` is made from declarations.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import difflib
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    get_args,
)

from typing_extensions import Unpack

from gnnscale.choices import Argument
from gnnscale.errors import InputError

A = TypeVar("A")
P = ParamSpec("P")
S = TypeVar("S")


class Details(TypedDict, total=False):
    """What may be said of an argument beside its help.

    Attributes:
        least: the least number.
        most: the greatest, with a least.
        above: what a number is greater than.
        by_rank: whether ranks of one run, on several hosts perhaps, may have values of their own.
        resume: when a run that goes on may have another value: never ("fixed"), always ("free": it
            changes where and how fast, not what is computed), or a greater one ("longer").
        checked: whether a value is checked by type and range here; else what acts on it does that.
        saved: whether it is a part of the configuration that is saved with a run.
        heading: under which the command line lists it; without one it is no option there.
        shown: its default in words, on the command line.
        metavar: its value there, where the type does not tell.
        option: its help there, where that is not the first line.
    """

    least: float
    most: float
    above: float
    by_rank: bool
    resume: Literal["fixed", "free", "longer"]
    checked: bool
    saved: bool
    heading: str
    shown: str
    metavar: str
    option: str


def about(help: str, more: str = "", **details: Unpack[Details]) -> Mapping[str, Any]:
    """What is said of an argument, in the `Annotated` of its field.

    Args:
        help: one line, which documentation and command line share.
        more: what only documentation says.
        details: see `Details`.
    """
    return {"help": help, "more": more, **details}


def _arguments(declaration: Any) -> dict[str, Argument]:
    fields = {f.name: f for f in dataclasses.fields(declaration)}
    empty = inspect.Parameter.empty
    found = {}
    for name in inspect.signature(declaration).parameters:
        field = fields[name]
        default = empty if field.default is dataclasses.MISSING else field.default
        written, module = _written(declaration, name)
        # `Annotated[type, about(…)]`: the type as text, then both as values.
        annotated = ast.parse(written, mode="eval").body
        assert isinstance(annotated, ast.Subscript) and isinstance(annotated.slice, ast.Tuple)
        kind = ast.unparse(annotated.slice.elts[0])
        hint, said = get_args(eval(written, {}, _Names(vars(module))))
        found[name] = Argument(name, hint, default, kind, said)
    return found


arguments_of: Callable[[Any], dict[str, Argument]] = functools.cache(_arguments)
"""The arguments of a declaration by name, in the order of its signature."""


def signature_of(declaration: Callable[..., Any]) -> inspect.Signature:
    """The signature of a declaration, or of a function in its place, with plain types."""
    signature = inspect.signature(declaration)
    if not dataclasses.is_dataclass(declaration):
        return signature
    kinds = {name: one.written for name, one in arguments_of(declaration).items()}
    taken = [p.replace(annotation=kinds[p.name]) for p in signature.parameters.values()]
    return signature.replace(parameters=taken)


def faults_of(declared: Any) -> list[str]:
    """Every argument of an instance of a declaration that is of no type or out of range."""
    given = arguments_of(declared.__class__).items()
    return [fault for name, one in given for fault in one.faults(getattr(declared, name))]


def plain_numbers(declared: Any) -> None:
    """Make numbers of NumPy and torch Python's, in an instance that is being made."""
    for name, value in [*vars(declared).items()]:
        if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
            with contextlib.suppress(ValueError, RuntimeError):
                object.__setattr__(declared, name, value.item())


class UnknownArgument(InputError, TypeError):
    """An argument that is not declared."""


def takes(
    declaration: Callable[P, A],
) -> Callable[[Callable[[S, A], None]], Callable[Concatenate[S, P], None]]:
    """Give a constructor the signature of a declaration, of which it is called with an instance.

    The docstring of its class gets a section "Args" from the help.
    """

    def decorate(function: Callable[[S, A], None]) -> Callable[Concatenate[S, P], None]:
        signature = signature_of(declaration)
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
            function(self, bound(name, declaration, signature, args, kwargs))

        own = next(iter(inspect.signature(function).parameters.values()))
        taken = [own, *signature.parameters.values()]
        vars(call)["__signature__"] = signature.replace(parameters=taken)
        constructor: Any = _Constructor(call, declaration)
        return constructor

    return decorate


class _Constructor:
    """Takes the place of a constructor until its class is made, whose docstring it completes."""

    def __init__(self, call: Callable[..., Any], declaration: Any) -> None:
        self._call, self._declaration = call, declaration

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, self._call)
        if owner.__doc__ is not None:
            owner.__doc__ = with_arguments(owner.__doc__, self._declaration)


def bound(
    name: str,
    make: Callable[..., A],
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> A:
    """What a declaration makes of given arguments.

    Raises:
        UnknownArgument: naming every argument that there is not, and the nearest that there is.
        TypeError: one is missing, or given twice.
    """
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        names = signature.parameters
        if not any(p.kind is p.VAR_KEYWORD for p in names.values()) and kwargs.keys() - names:
            faults = [f"{name}: {fault}" for fault in unknown(kwargs, names)]
            raise UnknownArgument(faults) from None
        raise TypeError(f"{name}: {error}") from None
    return make(*args, **kwargs)


def unknown(given: Sequence[str] | Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """In words, every name that is not known, with the nearest that is."""
    faults = []
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            faults.append(
                f"there is no argument {name!r}"
                + (f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}")
            )
    return faults


def with_arguments(docstring: str, declaration: Any) -> str:
    """A docstring with a section "Args", before the section that comes after it by convention."""
    own = inspect.cleandoc(docstring)
    lines = ["Args:"]
    for name, argument in arguments_of(declaration).items():
        text = f"{name}: {argument.said['help']} {argument.said['more']}".strip()
        lines += textwrap.wrap(
            text, 96, initial_indent="    ", subsequent_indent="        ", break_on_hyphens=False
        )
    section = "\n".join(lines)
    places = [own.find(f"\n{head}:\n") for head in ("Attributes", "Returns", "Raises", "Example")]
    at = min((place for place in places if place >= 0), default=len(own))
    return f"{own[:at].rstrip()}\n\n{section}\n{own[at:]}"


class _Names(dict[str, Any]):
    """The names of a module; those that are there for type checkers alone are `Any`."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _written(declaration: Any, name: str) -> tuple[str, ModuleType]:
    """The type of a field as it is written, and the module where."""
    for cls in declaration.__mro__:
        if name in (annotations := inspect.get_annotations(cls)):
            return annotations[name], sys.modules[cls.__module__]
    raise AttributeError(name)

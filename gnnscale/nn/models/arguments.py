"""The arguments of models by name, in PyG's order and under its names, declared once.

A declaration is what `help()` and type checkers see of a model, what is checked, and, in
`model.spec`, what builds it again.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from gnnscale.declared import bound, faults_of, option, plain_numbers, required, with_arguments
from gnnscale.errors import InputError
from gnnscale.nn.blocks.layered import LayeredGNN

P = ParamSpec("P")
D = TypeVar("D")

# What PyG's constructors raise.
WRONG_ARGUMENT = (TypeError, ValueError, AttributeError, RuntimeError, LookupError, AssertionError)
_WIDEST = 2**31 - 1
_DEEPEST = 10_000  # a number beyond is a mistake, and would be built for hours


# A field is a paragraph.
# fmt: off
@dataclass(frozen=True)
class Widths:
    """What every model takes.

    Raises:
        InputError: naming all that are not valid.
    """

    in_channels: int = field(metadata=required("Features of a node.", least=1, most=_WIDEST))
    hidden_channels: int = field(
        metadata=required("Width of the hidden layers.", least=1, most=_WIDEST)
    )
    num_layers: int = field(metadata=required("Layers.", least=1, most=_DEEPEST))
    out_channels: int | None = option(
        None, "Width of the output; None for that of the hidden layers.", least=1, most=_WIDEST
    )
    dropout: float = option(0.0, "Probability.", least=0, most=1)
    act: str | Callable[..., Any] | None = option(
        "relu", "Activation: a name that PyG's resolver knows, a module or a function."
    )

    def __post_init__(self) -> None:
        plain_numbers(self)
        if faults := faults_of(self):
            raise InputError(faults)


@dataclass(frozen=True)
class Layers(Widths):
    """What models with a norm and residuals take."""

    norm: str | Callable[..., Any] | None = option(
        None, "Normalization of hidden layers: a name that PyG's resolver knows."
    )
    _: KW_ONLY
    residual: bool = option(
        False, "Add a hidden layer's input to its output, where both have the same width."
    )


@dataclass(frozen=True)
class PyGLayers(Widths):
    """What PyG's models take, and `residual`."""

    in_channels: int | Literal[-1] = field(metadata=required(
        "Features of a node; -1 reads them off the first batch.", least=1, most=_WIDEST
    ))
    act_first: bool = option(False, "Whether the activation comes before the norm.")
    act_kwargs: Mapping[str, Any] | None = option(None, "Arguments of an activation by name.")
    norm: str | Callable[..., Any] | None = option(
        None, "Normalization after every layer but the last: a name, a module or a function."
    )
    norm_kwargs: Mapping[str, Any] | None = option(None, "Arguments of a norm by name.")
    jk: Literal["last", "cat", "max", "lstm"] | None = option(None, "Jumping knowledge.")
    _: KW_ONLY
    residual: bool = option(
        False, "Add a hidden layer's input to its output, where both have the same width."
    )


@dataclass(frozen=True, kw_only=True)
class ClusterGCNLayers(PyGLayers):
    """What `ClusterGCNConv` takes, too."""

    propagation: str = option("self_loops", "The propagation matrix, eq. 9 or 10.")
    diag_lambda: float = option(0.0, "λ of eq. 11.")
    concatenated: bool = option(False, "The concatenated form of the authors' code.")
    propagated_dropout: float = option(0.0, "Dropout between propagation and weights.")
    bias: bool = option(True, "Whether layers add one.")


@dataclass(frozen=True, kw_only=True)
class SGCLayers(PyGLayers):
    """What `SGConv` takes, too."""

    K: int = option(2, "Hops of a layer.", least=0, most=_DEEPEST)


@dataclass(frozen=True, kw_only=True)
class SSGCLayers(PyGLayers):
    """What `SSGConv` takes, too."""

    alpha: float = option(0.05, "The weight of X itself.", least=0, most=1)
    K: int = option(16, "Hops of a layer.", least=0, most=_DEEPEST)


@dataclass(frozen=True, kw_only=True)
class TAGCNLayers(PyGLayers):
    """What `TAGConv` takes, too, which sizes one of its maps alone where features are (2.8.1)."""

    in_channels: int = field(
        kw_only=False, metadata=required("Features of a node.", least=1, most=_WIDEST)
    )
    K: int = option(3, "Hops of a layer.", least=0, most=_DEEPEST)


@dataclass(frozen=True, kw_only=True)
class APPNPLayers(Layers):
    """What PyG's `APPNP` takes, too."""

    K: int = option(10, "Steps of propagation.", least=0, most=_DEEPEST)
    alpha: float = option(0.1, "The probability of teleport.", least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class SIGNLayers(Layers):
    """What the branches of SIGN take, too."""

    hops: int = option(2, "K.", least=1, most=_DEEPEST)
    add_self_loops: bool = option(
        True, "False for P = D^-1/2 A D^-1/2, as PyG's transform of the same name has it."
    )


@dataclass(frozen=True)
class DeepLayers(Widths):
    """What models for many layers take."""

    out_channels: int = field(metadata=required("Width of the output.", least=1, most=_WIDEST))


@dataclass(frozen=True)
class GCNIILayers(DeepLayers):
    """What GCNII takes, too."""

    norm: str | Callable[..., Any] | None = option(
        None, "Normalization before the activation; none in the paper."
    )
    _: KW_ONLY
    alpha: float = option(0.1, "The weight of x_0.", least=0, most=1)
    theta: float = option(0.5, "θ.", above=0)
    shared_weights: bool = option(True, "False gives x_0 a Θ of its own (GCNII*).")


@dataclass(frozen=True)
class DeepGCNLayers(DeepLayers):
    """What DeepGCN takes, too."""

    norm: str | Callable[..., Any] | None = option(
        "layer_norm", "Normalization, a name that PyG's resolver knows."
    )
    _: KW_ONLY
    conv: Literal["gcn", "sage", "gen"] = option(
        "gcn", '"gen" is the paper\'s: softmax aggregation, opaque.'
    )


# fmt: on
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
        signature = inspect.signature(declaration)
        shown = [*signature.parameters.values()]
        takes_more = len(inspect.signature(build).parameters) == 2
        if takes_more:
            shown.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))

        @functools.wraps(build)
        def make(*args: Any, **kwargs: Any) -> LayeredGNN:
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

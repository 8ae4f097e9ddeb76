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
from typing import Annotated, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from gnnscale.declared import about, bound, faults_of, plain_numbers, signature_of, with_arguments
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

    in_channels: Annotated[int, about("Features of a node.", least=1, most=_WIDEST)]
    hidden_channels: Annotated[int, about("Width of the hidden layers.", least=1, most=_WIDEST)]
    num_layers: Annotated[int, about("Layers.", least=1, most=_DEEPEST)]
    out_channels: Annotated[int | None, about(
        "Width of the output; None for that of the hidden layers.",
        least=1, most=_WIDEST,
    )] = None
    dropout: Annotated[float, about("Probability.", least=0, most=1)] = 0.0
    act: Annotated[str | Callable[..., Any] | None, about(
        "Activation: a name that PyG's resolver knows, a module or a function.",
    )] = "relu"

    def __post_init__(self) -> None:
        plain_numbers(self)
        if faults := faults_of(self):
            raise InputError(faults)


@dataclass(frozen=True)
class Layers(Widths):
    """What models with a norm and residuals take."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization of hidden layers: a name that PyG's resolver knows.",
    )] = None
    _: KW_ONLY
    residual: Annotated[bool, about(
        "Add a hidden layer's input to its output, where both have the same width.",
    )] = False


@dataclass(frozen=True)
class PyGLayers(Widths):
    """What PyG's models take, and `residual`."""

    in_channels: Annotated[int | Literal[-1], about(
        "Features of a node; -1 reads them off the first batch.",
        least=1, most=_WIDEST,
    )]
    act_first: Annotated[bool, about("Whether the activation comes before the norm.")] = False
    act_kwargs: Annotated[Mapping[str, Any] | None, about(
        "Arguments of an activation by name.",
    )] = None
    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization after every layer but the last: a name, a module or a function.",
    )] = None
    norm_kwargs: Annotated[Mapping[str, Any] | None, about("Arguments of a norm by name.")] = None
    jk: Annotated[Literal["last", "cat", "max", "lstm"] | None, about("Jumping knowledge.")] = None
    _: KW_ONLY
    residual: Annotated[bool, about(
        "Add a hidden layer's input to its output, where both have the same width.",
    )] = False


@dataclass(frozen=True, kw_only=True)
class ClusterGCNLayers(PyGLayers):
    """What `ClusterGCNConv` takes, too."""

    propagation: Annotated[str, about("The propagation matrix, eq. 9 or 10.")] = "self_loops"
    diag_lambda: Annotated[float, about("λ of eq. 11.")] = 0.0
    concatenated: Annotated[bool, about("The concatenated form of the authors' code.")] = False
    propagated_dropout: Annotated[float, about("Dropout between propagation and weights.")] = 0.0
    bias: Annotated[bool, about("Whether layers add one.")] = True


@dataclass(frozen=True, kw_only=True)
class SGCLayers(PyGLayers):
    """What `SGConv` takes, too."""

    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 2


@dataclass(frozen=True, kw_only=True)
class SSGCLayers(PyGLayers):
    """What `SSGConv` takes, too."""

    alpha: Annotated[float, about("The weight of X itself.", least=0, most=1)] = 0.05
    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 16


@dataclass(frozen=True, kw_only=True)
class TAGCNLayers(PyGLayers):
    """What `TAGConv` takes, too, which sizes one of its maps alone where features are (2.8.1)."""

    in_channels: Annotated[int, about("Features of a node.", least=1, most=_WIDEST)] = field(
        kw_only=False
    )
    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 3


@dataclass(frozen=True, kw_only=True)
class APPNPLayers(Layers):
    """What PyG's `APPNP` takes, too."""

    K: Annotated[int, about("Steps of propagation.", least=0, most=_DEEPEST)] = 10
    alpha: Annotated[float, about("The probability of teleport.", least=0, most=1)] = 0.1


@dataclass(frozen=True, kw_only=True)
class SIGNLayers(Layers):
    """What the branches of SIGN take, too."""

    hops: Annotated[int, about("K.", least=1, most=_DEEPEST)] = 2
    add_self_loops: Annotated[bool, about(
        "False for P = D^-1/2 A D^-1/2, as PyG's transform of the same name has it.",
    )] = True


@dataclass(frozen=True)
class DeepLayers(Widths):
    """What models for many layers take."""

    # Without the default of above.
    out_channels: Annotated[int, about("Width of the output.", least=1, most=_WIDEST)] = field()


@dataclass(frozen=True)
class GCNIILayers(DeepLayers):
    """What GCNII takes, too."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization before the activation; none in the paper.",
    )] = None
    _: KW_ONLY
    alpha: Annotated[float, about("The weight of x_0.", least=0, most=1)] = 0.1
    theta: Annotated[float, about("θ.", above=0)] = 0.5
    shared_weights: Annotated[bool, about("False gives x_0 a Θ of its own (GCNII*).")] = True


@dataclass(frozen=True)
class DeepGCNLayers(DeepLayers):
    """What DeepGCN takes, too."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization, a name that PyG's resolver knows.",
    )] = "layer_norm"
    _: KW_ONLY
    conv: Annotated[Literal["gcn", "sage", "gen"], about(
        "\"gen\" is the paper's: softmax aggregation, opaque.",
    )] = "gcn"


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
        signature = signature_of(declaration)
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

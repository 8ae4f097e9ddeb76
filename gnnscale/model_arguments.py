"""The arguments of models by name, in PyG's order and under its names, declared once.

A declaration is what `help()` and type checkers see of a model, what is checked, what the command
line offers and, in `model.spec`, what builds it again. Read without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal

from gnnscale.declared import about, faults_of, plain_numbers
from gnnscale.errors import InputError

MODEL = "Model"  # the heading on the command line

_WIDEST = 2**31 - 1
_DEEPEST = 10_000  # a number beyond is a mistake, and would be built for hours


# A field is a paragraph.
# fmt: off
@dataclass(frozen=True)
class ModelArguments:
    """What every model takes.

    Raises:
        InputError: naming all that are not valid.
    """

    in_channels: Annotated[int, about("Features of a node.", least=1, most=_WIDEST)]
    hidden_channels: Annotated[int, about(
        "Width of the hidden layers.",
        least=1, most=_WIDEST, heading=MODEL, option="Width of its layers.",
    )]
    num_layers: Annotated[int, about(
        "Layers.",
        least=1, most=_DEEPEST, heading=MODEL, option="Layers; hops seen.",
    )]
    out_channels: Annotated[int | None, about(
        "Width of the output; None for that of the hidden layers.",
        least=1, most=_WIDEST,
    )] = None
    dropout: Annotated[float, about(
        "Probability in [0, 1].",
        least=0, most=1, heading=MODEL,
    )] = 0.0
    act: Annotated[str | Callable[..., Any] | None, about(
        "Activation: a name that PyG's resolver knows, a module or a function.",
        heading=MODEL, metavar="NAME", option="Activation, a name PyG knows; or none.",
    )] = "relu"

    def __post_init__(self) -> None:
        plain_numbers(self)
        if faults := faults_of(self):
            raise InputError(faults)


@dataclass(frozen=True)
class PerceptronArguments(ModelArguments):
    """What models with a norm and residuals take."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization of hidden layers: a name that PyG's resolver knows.",
    )] = None
    _: KW_ONLY
    residual: Annotated[bool, about(
        "Add a hidden layer's input to its output, where both have the same width.",
    )] = False


@dataclass(frozen=True)
class PyGArguments(ModelArguments):
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
        heading=MODEL, metavar="NAME",
        option="Normalisation: layer_norm, batch_norm, graph_norm … (names PyG knows); or none.",
    )] = None
    norm_kwargs: Annotated[Mapping[str, Any] | None, about(
        "Arguments of a norm by name.",
        heading=MODEL, metavar="K=V,…", shown="",
        option="Its arguments, name=value: mode=node for layer_norm over each node by itself.",
    )] = None
    jk: Annotated[Literal["last", "cat", "max", "lstm"] | None, about("Jumping knowledge.")] = None
    _: KW_ONLY
    residual: Annotated[bool, about(
        "Add a hidden layer's input to its output, where both have the same width.",
        heading=MODEL, option="Add a layer's input to its output.",
    )] = False


@dataclass(frozen=True, kw_only=True)
class ClusterGCNArguments(PyGArguments):
    """What `ClusterGCNConv` takes, too."""

    propagation: Annotated[str, about("The propagation matrix, eq. 9 or 10.")] = "self_loops"
    diag_lambda: Annotated[float, about("λ of eq. 11.")] = 0.0
    concatenated: Annotated[bool, about("The concatenated form of the authors' code.")] = False
    propagated_dropout: Annotated[float, about("Dropout between propagation and weights.")] = 0.0
    bias: Annotated[bool, about("Whether layers add one.")] = True


@dataclass(frozen=True, kw_only=True)
class SGCArguments(PyGArguments):
    """What `SGConv` takes, too."""

    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 2


@dataclass(frozen=True, kw_only=True)
class SSGCArguments(PyGArguments):
    """What `SSGConv` takes, too."""

    alpha: Annotated[float, about("The weight of X itself.", least=0, most=1)] = 0.05
    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 16


@dataclass(frozen=True, kw_only=True)
class TAGCNArguments(PyGArguments):
    """What `TAGConv` takes, too, which sizes one of its maps alone where features are (2.8.1)."""

    in_channels: Annotated[int, about("Features of a node.", least=1, most=_WIDEST)] = field(
        kw_only=False
    )
    K: Annotated[int, about("Hops of a layer.", least=0, most=_DEEPEST)] = 3


@dataclass(frozen=True, kw_only=True)
class APPNPArguments(PerceptronArguments):
    """What PyG's `APPNP` takes, too."""

    K: Annotated[int, about("Steps of propagation.", least=0, most=_DEEPEST)] = 10
    alpha: Annotated[float, about("The probability of teleport.", least=0, most=1)] = 0.1


@dataclass(frozen=True, kw_only=True)
class SIGNArguments(PerceptronArguments):
    """What the branches of SIGN take, too."""

    hops: Annotated[int, about("K.", least=1, most=_DEEPEST)] = 2
    add_self_loops: Annotated[bool, about(
        "False for P = D^-1/2 A D^-1/2, as PyG's transform of the same name has it.",
    )] = True


@dataclass(frozen=True)
class DeepArguments(ModelArguments):
    """What models for many layers take."""

    # Without the default of above.
    out_channels: Annotated[int, about("Width of the output.", least=1, most=_WIDEST)] = field()


@dataclass(frozen=True)
class GCNIIArguments(DeepArguments):
    """What GCNII takes, too."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization before the activation; none in the paper.",
    )] = None
    _: KW_ONLY
    alpha: Annotated[float, about("The weight of x_0.", least=0, most=1)] = 0.1
    theta: Annotated[float, about("θ.", above=0)] = 0.5
    shared_weights: Annotated[bool, about("False gives x_0 a Θ of its own (GCNII*).")] = True


@dataclass(frozen=True)
class DeepGCNArguments(DeepArguments):
    """What DeepGCN takes, too."""

    norm: Annotated[str | Callable[..., Any] | None, about(
        "Normalization, a name that PyG's resolver knows.",
    )] = "layer_norm"
    _: KW_ONLY
    conv: Annotated[Literal["gcn", "sage", "gen"], about(
        "\"gen\" is the paper's: softmax aggregation, opaque.",
    )] = "gcn"


# fmt: on

"""Models by name, with PyG's argument order and state-dict keys, as LayeredGNN."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnscale.choices import choice_faults, choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.layer_names import make_act
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.convert.pyg_models import as_layered
from gnnscale.nn.models import conv_models
from gnnscale.nn.models.arguments import check_arguments, spec_of
from gnnscale.nn.models.deep import GCNII, DeepGCN
from gnnscale.nn.models.places import Place
from gnnscale.nn.models.readout import GraphModel
from gnnscale.nn.models.replacing import rewrite
from gnnscale.nn.models.sign import SIGN
from gnnscale.nn.models.twins import Norms


@choices_checked
def GCN(  # noqa: N802 - a model's name, as in PyG
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph convolutional network (Kipf & Welling, ICLR 2017). PyG's arguments, plus `residual`.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.GCN(100, 64, num_layers=3, out_channels=47, norm="graph_norm")
    """
    return _build(pyg.GCN, locals())


@choices_checked
def GraphSAGE(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """GraphSAGE (Hamilton et al., NeurIPS 2017). Arguments are PyG's, plus `residual`."""
    return _build(pyg.GraphSAGE, locals())


@choices_checked
def GIN(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph isomorphism network (Xu et al., ICLR 2019). Arguments are PyG's, plus `residual`.

    As in PyG, `norm` also stands inside every layer's MLP; there it is a phase of its own.
    """
    return _build(pyg.GIN, locals())


@choices_checked
def GAT(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    **kwargs: Any,
) -> LayeredGNN:
    """Graph attention network (Veličković et al., ICLR 2018). Arguments are PyG's, plus `residual`.

    Attention is no fixed propagation, so the layers run PyG's own forward (opaque).
    """
    return _build(pyg.GAT, locals())


@choices_checked
def ClusterGCN(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    propagation: str = "self_loops",
    diag_lambda: float = 0.0,
    concatenated: bool = False,
    propagated_dropout: float = 0.0,
    bias: bool = True,
) -> LayeredGNN:
    """The layers of Cluster-GCN (Chiang et al., KDD 2019).

    Arguments are those of PyG's models, plus `residual`, plus those of
    :class:`~gnnscale.nn.ClusterGCNConv`: the propagation matrix (eq. 9, 10, 11), the concatenated
    form, and dropout between propagation and weights beside the usual one after the activation.

    Example:
        Eq. 11 with λ = 1, and the layers of the authors' released code:

        >>> import gnnscale as gs
        >>> model = gs.nn.ClusterGCN(100, 64, 5, out_channels=47, diag_lambda=1.0)
        >>> model = gs.nn.ClusterGCN(
        ...     100, 64, 3, out_channels=47, norm="layer_norm", norm_kwargs={"mode": "node"},
        ...     propagation="mean", concatenated=True, propagated_dropout=0.2, bias=False,
        ... )
    """
    return _build(conv_models.ClusterGCN, locals())


@choices_checked
def SGC(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    K: int = 2,  # noqa: N803 - as in PyG
    **kwargs: Any,
) -> LayeredGNN:
    """Layers Pᴷ X W of simple graph convolution (Wu et al., ICML 2019, eq. 8).

    `num_layers=1` is the paper's model. Arguments are those of PyG's models and of its `SGConv`,
    plus `residual`.
    """
    return _build(conv_models.SGC, locals())


@choices_checked
def SSGC(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    alpha: float = 0.05,
    K: int = 16,  # noqa: N803
    **kwargs: Any,
) -> LayeredGNN:
    """Layers (α X + (1 − α)/K Σₖ Pᵏ X) W of simple spectral convolution (Zhu & Koniusz, ICLR 2021).

    `num_layers=1` is the paper's model. Arguments are those of PyG's models and of its `SSGConv`,
    plus `residual`.
    """
    return _build(conv_models.SSGC, locals())


@choices_checked
def TAGCN(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    act_first: bool = False,
    act_kwargs: dict[str, Any] | None = None,
    norm: str | Callable | None = None,
    norm_kwargs: dict[str, Any] | None = None,
    jk: Literal["last", "cat", "max", "lstm"] | None = None,
    *,
    residual: bool = False,
    K: int = 3,  # noqa: N803
    **kwargs: Any,
) -> LayeredGNN:
    """Layers Σₖ Pᵏ X Wₖ of the topology adaptive GCN (Du et al., arXiv 1710.10370).

    Arguments are those of PyG's models and of its `TAGConv`, plus `residual`.
    """
    check_arguments(locals(), lazy=False)  # PyG's TAGConv sizes one of its layers alone (2.8.1)
    return _build(conv_models.TAGCN, locals())


@choices_checked
def MLP(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    norm: str | None = None,
    *,
    residual: bool = False,
) -> LayeredGNN:
    """A multi-layer perceptron on the node features: the baseline that sees no edge."""
    check_arguments(locals(), lazy=False)
    out_channels = hidden_channels if out_channels is None else out_channels
    widths = [in_channels] + [hidden_channels] * (num_layers - 1) + [out_channels]
    blocks = []
    for i in range(num_layers):
        linear = nn.Linear(widths[i], widths[i + 1])
        if i == num_layers - 1:
            blocks.append(Block(linear, act=None))
        else:
            blocks.append(Block(linear, norm, act, dropout, residual=residual and i > 0))
    model = LayeredGNN(blocks)
    model.spec = spec_of("MLP", {k: v for k, v in locals().items() if k in _MLP_ARGUMENTS})
    return model


@choices_checked
def APPNP(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    norm: str | None = None,
    *,
    residual: bool = False,
    K: int = 10,  # noqa: N803
    alpha: float = 0.1,
    **kwargs: Any,
) -> LayeredGNN:
    """Predict, then propagate: an MLP, then personalised PageRank (Gasteiger et al., ICLR 2019).

    Arguments are those of `MLP` and of PyG's `APPNP`, eq. 4: Z ← (1 − α) P Z + α H, K times.
    """
    arguments = dict(locals())
    arguments |= arguments.pop("kwargs")
    check_arguments(arguments, lazy=False)
    widths = (in_channels, hidden_channels, num_layers, out_channels)
    mlp = MLP(*widths, dropout, act, norm, residual=residual)
    try:
        propagation = pyg.APPNP(K, alpha, **kwargs)
    except _WRONG_ARGUMENT as error:
        raise InputError(f"APPNP cannot be built: {error}") from error
    model = LayeredGNN([*mlp.blocks, Block(propagation, act=None)])
    model.spec = spec_of("APPNP", arguments)
    return model


_MLP_ARGUMENTS = frozenset(inspect.signature(MLP).parameters)
MODELS: dict[str, Callable[..., LayeredGNN]] = {
    "gcn": GCN,
    "sage": GraphSAGE,
    "gin": GIN,
    "gat": GAT,
    "cluster_gcn": ClusterGCN,
    "sgc": SGC,
    "ssgc": SSGC,
    "tagcn": TAGCN,
    "appnp": APPNP,
    "sign": SIGN,
    "gcnii": GCNII,
    "deepgcn": DeepGCN,
    "mlp": MLP,
}


def from_spec(spec: dict[str, Any]) -> LayeredGNN | GraphModel:
    """Rebuild a model, with fresh parameters, from `model.spec`.

    Raises:
        InputError: no model has that name.
    """
    if spec.get("model") == "GraphModel":
        arguments = dict(spec["arguments"])
        return GraphModel(from_spec(arguments.pop("encoder")), **arguments)
    for build in MODELS.values():
        if build.__name__ == spec.get("model"):
            return build(**spec["arguments"])
    raise InputError(f"no model {spec.get('model')!r}; there are {sorted(MODELS)}")


_WRONG_ARGUMENT = (TypeError, ValueError, AttributeError, RuntimeError, LookupError, AssertionError)


def _build(cls: type[BasicGNN], arguments: dict[str, Any]) -> LayeredGNN:
    arguments.update(arguments.pop("kwargs", {}))
    spec = spec_of(cls.__name__, arguments)
    check_arguments(arguments)
    tables = ((name, arguments[name]) for name in ("act_kwargs", "norm_kwargs"))
    if wrong := [(name, given) for name, given in tables if not isinstance(given, Mapping | None)]:
        raise InputError([f"{name}={given!r}: a mapping or None" for name, given in wrong])
    if isinstance(arguments["act"], str) and not arguments["act_kwargs"]:
        make_act(arguments["act"])  # refuses what has no such name, or cannot be built without more
    residual, norm = arguments.pop("residual"), arguments["norm"]
    norms = None
    if norm is not None and not isinstance(norm, nn.Module):
        # By our resolver: PyG's knows none of our arguments, and gives PairNorm a width for scale.
        place: Place = "after_act" if arguments["act_first"] else "after_conv"
        norms = Norms(arguments.pop("norm"), arguments.pop("norm_kwargs"), place)
    elif arguments["norm_kwargs"]:
        raise InputError(
            f"norm_kwargs={arguments['norm_kwargs']!r} go with a norm given by name; norm={norm!r}"
        )
    try:
        network = cls(**arguments)
    except _WRONG_ARGUMENT as error:  # PyG's own word on it
        raise InputError(f"{cls.__name__} cannot be built: {error}") from error
    if faults := choice_faults(type(network.convs[0]).__init__, arguments):  # of no word of PyG's
        raise InputError(faults)
    model = as_layered(network, residual=residual)
    if norms is not None:
        model = rewrite(model, norms)
    model.spec = spec
    return model

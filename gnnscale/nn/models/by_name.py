"""Models by name, with PyG's argument order and state-dict keys, as LayeredGNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnscale.choices import choice_faults
from gnnscale.errors import InputError
from gnnscale.model_arguments import (
    ClusterGCNArguments,
    PyGArguments,
    SGCArguments,
    SSGCArguments,
    TAGCNArguments,
)
from gnnscale.nn.blocks.block import make_act
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.convert.pyg_models import as_layered
from gnnscale.nn.models import conv_models
from gnnscale.nn.models.arguments import WRONG_ARGUMENT, named
from gnnscale.nn.models.deep import GCNII, DeepGCN
from gnnscale.nn.models.perceptrons import APPNP, MLP, SIGN
from gnnscale.nn.models.readout import GraphModel
from gnnscale.nn.models.replacing import rewrite
from gnnscale.nn.models.twins import Norms, Place


@named(PyGArguments)
def GCN(given: PyGArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802 - a model's name
    """Graph convolutional network (Kipf & Welling, ICLR 2017). PyG's arguments, plus `residual`.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.GCN(100, 64, num_layers=3, out_channels=47, norm="graph_norm")
    """
    return _of_pyg(pyg.GCN, given, more)


@named(PyGArguments)
def GraphSAGE(given: PyGArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """GraphSAGE (Hamilton et al., NeurIPS 2017). Arguments are PyG's, plus `residual`."""
    return _of_pyg(pyg.GraphSAGE, given, more)


@named(PyGArguments)
def GIN(given: PyGArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Graph isomorphism network (Xu et al., ICLR 2019). Arguments are PyG's, plus `residual`.

    As in PyG, `norm` also stands inside every layer's MLP; there it is a phase of its own.
    """
    return _of_pyg(pyg.GIN, given, more)


@named(PyGArguments)
def GAT(given: PyGArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Graph attention network (Veličković et al., ICLR 2018). Arguments are PyG's, plus `residual`.

    Attention is no fixed propagation, so the layers run PyG's own forward (opaque).
    """
    return _of_pyg(pyg.GAT, given, more)


@named(ClusterGCNArguments)
def ClusterGCN(given: ClusterGCNArguments) -> LayeredGNN:  # noqa: N802
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
    return _of_pyg(conv_models.ClusterGCN, given, {})


@named(SGCArguments)
def SGC(given: SGCArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Layers Pᴷ X W of simple graph convolution (Wu et al., ICML 2019, eq. 8).

    `num_layers=1` is the paper's model. Arguments are those of PyG's models and of its `SGConv`,
    plus `residual`.
    """
    return _of_pyg(conv_models.SGC, given, more)


@named(SSGCArguments)
def SSGC(given: SSGCArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Layers (α X + (1 − α)/K Σₖ Pᵏ X) W of simple spectral convolution (Zhu & Koniusz, ICLR 2021).

    `num_layers=1` is the paper's model. Arguments are those of PyG's models and of its `SSGConv`,
    plus `residual`.
    """
    return _of_pyg(conv_models.SSGC, given, more)


@named(TAGCNArguments)
def TAGCN(given: TAGCNArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Layers Σₖ Pᵏ X Wₖ of the topology adaptive GCN (Du et al., arXiv 1710.10370).

    Arguments are those of PyG's models and of its `TAGConv`, plus `residual`.
    """
    return _of_pyg(conv_models.TAGCN, given, more)


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


def _of_pyg(cls: type[BasicGNN], given: PyGArguments, more: dict[str, Any]) -> LayeredGNN:
    """A model of PyG's as layers; its norm by our resolver.

    PyG's knows none of our arguments, and gives PairNorm a width for scale.
    """
    arguments = {**vars(given), **more}
    if isinstance(given.act, str) and not given.act_kwargs:
        make_act(given.act)  # refuses what has no such name, or cannot be built without more
    del arguments["residual"]
    norms = None
    if given.norm is not None and not isinstance(given.norm, nn.Module):
        place: Place = "after_act" if given.act_first else "after_conv"
        norms = Norms(arguments.pop("norm"), arguments.pop("norm_kwargs"), place)
    elif given.norm_kwargs:
        raise InputError(
            f"norm_kwargs={given.norm_kwargs!r} go with a norm given by name; norm={given.norm!r}"
        )
    try:
        network = cls(**arguments)
    except WRONG_ARGUMENT as error:  # PyG's own word on it
        raise InputError(f"{cls.__name__} cannot be built: {error}") from error
    if faults := choice_faults(type(network.convs[0]).__init__, arguments):  # of no word of PyG's
        raise InputError(faults)
    model = as_layered(network, residual=given.residual)
    return model if norms is None else rewrite(model, norms)

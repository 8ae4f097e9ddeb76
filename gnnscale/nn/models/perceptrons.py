"""Models around a perceptron: alone, before a propagation, and on several hops of the features."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import nn
from torch_geometric import nn as pyg

from gnnscale.errors import InputError
from gnnscale.model_arguments import (
    APPNPArguments,
    PerceptronArguments,
    SIGNArguments,
)
from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.models.arguments import WRONG_ARGUMENT, named


@named(PerceptronArguments)
def MLP(given: PerceptronArguments) -> LayeredGNN:  # noqa: N802 - a model's name
    """A multi-layer perceptron on the node features: the baseline that sees no edge."""
    return LayeredGNN(_perceptron(given))


def _perceptron(given: PerceptronArguments) -> list[Block]:
    hidden = [given.hidden_channels] * (given.num_layers - 1)
    widths = [given.in_channels, *hidden, given.out_channels or given.hidden_channels]
    *layers, last = [nn.Linear(*pair) for pair in pairwise(widths)]
    blocks = [
        Block(layer, given.norm, given.act, given.dropout, residual=given.residual and i > 0)
        for i, layer in enumerate(layers)
    ]
    return [*blocks, Block(last, act=None)]


@named(APPNPArguments)
def APPNP(given: APPNPArguments, more: dict[str, Any]) -> LayeredGNN:  # noqa: N802
    """Predict, then propagate: an MLP, then personalised PageRank (Gasteiger et al., ICLR 2019).

    Arguments are those of `MLP` and of PyG's `APPNP`, eq. 4: Z ← (1 − α) P Z + α H, K times.
    """
    try:
        propagation = pyg.APPNP(given.K, given.alpha, **more)
    except WRONG_ARGUMENT as error:
        raise InputError(f"APPNP cannot be built: {error}") from error
    return LayeredGNN([*_perceptron(given), Block(propagation, act=None)])


@named(SIGNArguments)
def SIGN(given: SIGNArguments) -> LayeredGNN:  # noqa: N802
    """Scalable inception graph network (Frasca et al., arXiv 2004.11198, eq. 4).

    Z = σ([X Θ_0 ‖ P X Θ_1 ‖ … ‖ Pᴷ X Θ_K]), then `num_layers` − 1 linear layers; the paper has one.
    P is GCN's D^-1/2 (A + I) D^-1/2. Only the features are propagated, so that what is aggregated
    once (`precompute=True` of `ClusterTrainer`, the `LayerwiseTrainer`) leaves a perceptron to
    train, and neither approximates anything. The first layer is PyG's `MixHopConv`, with branches
    of `hidden_channels` each.

    For several hops in every layer, with [X ‖ P X ‖ … ‖ Pᴷ X] W + b as the layer, see `TAGCN`.

    Raises:
        InputError: an argument is not valid, or there is one layer alone.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.SIGN(100, 256, num_layers=2, out_channels=47, hops=3, dropout=0.5)
    """
    width, hops = given.hidden_channels, given.hops
    if given.num_layers < 2:
        raise InputError(
            f"num_layers={given.num_layers}: SIGN has 2 or more, the branches and the linear "
            "layers that join them. For one linear map of all hops, give "
            f"TAGCN(…, num_layers=1, K={hops})"
        )
    branches: Any = pyg.MixHopConv(
        given.in_channels, width, list(range(hops + 1)), given.add_self_loops
    )
    widths = [(hops + 1) * width, *[width] * (given.num_layers - 2), given.out_channels or width]
    *hidden, last = [nn.Linear(*pair) for pair in pairwise(widths)]
    blocks = [Block(branches, given.norm, given.act, given.dropout)]
    for layer in hidden:
        residual = given.residual and layer.in_features == layer.out_features
        blocks.append(Block(layer, given.norm, given.act, given.dropout, residual=residual))
    return LayeredGNN([*blocks, Block(last, act=None)])

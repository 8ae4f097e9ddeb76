"""SIGN: several hops aggregated once, and a perceptron on all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import nn
from torch_geometric.nn import MixHopConv

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.models.arguments import check_arguments, spec_of


@choices_checked
def SIGN(  # noqa: N802 - a model's name
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int | None = None,
    dropout: float = 0.0,
    act: str | Callable | None = "relu",
    norm: str | None = None,
    *,
    residual: bool = False,
    hops: int = 2,
    add_self_loops: bool = True,
) -> LayeredGNN:
    """Scalable inception graph network (Frasca et al., arXiv 2004.11198, eq. 4).

    Z = σ([X Θ_0 ‖ P X Θ_1 ‖ … ‖ Pᴷ X Θ_K]), then `num_layers` − 1 linear layers; the paper has one.
    P is GCN's D^-1/2 (A + I) D^-1/2. Only the features are propagated, so that what is aggregated
    once (`precompute=True` of `ClusterTrainer`, the `LayerwiseTrainer`) leaves a perceptron to
    train, and neither approximates anything. The first layer is PyG's `MixHopConv`.

    For several hops in every layer, with [X ‖ P X ‖ … ‖ Pᴷ X] W + b as the layer, see `TAGCN`.

    Args:
        in_channels: features of a node.
        hidden_channels: width of each of the K + 1 branches, and of the hidden layers after them.
        num_layers: 2 or more: the branches, and the linear layers.
        out_channels: width of the output; None for `hidden_channels`.
        dropout: probability, after the activation of all layers but the last.
        act: their activation.
        norm: normalization before it; a name that PyG's resolver knows, or None.
        residual: add a hidden layer's input to its output, where both have the same width.
        hops: K.
        add_self_loops: False for P = D^-1/2 A D^-1/2, as PyG's transform of the same name has it.

    Raises:
        InputError: a width, the number of layers or `hops` is not valid.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.SIGN(100, 256, num_layers=2, out_channels=47, hops=3, dropout=0.5)
    """
    spec = spec_of("SIGN", locals())
    check_arguments(locals(), lazy=False)  # PyG's MixHopConv sizes one of its layers alone (2.8.1)
    if num_layers < 2:
        raise InputError(
            f"num_layers={num_layers}: SIGN has 2 or more, the branches and the linear layers that "
            f"join them. For one linear map of all hops, give TAGCN(…, num_layers=1, K={hops})"
        )
    out_channels = hidden_channels if out_channels is None else out_channels
    branches: Any = MixHopConv(in_channels, hidden_channels, list(range(hops + 1)), add_self_loops)
    widths = [(hops + 1) * hidden_channels, *[hidden_channels] * (num_layers - 2), out_channels]
    *hidden, last = [nn.Linear(*pair) for pair in pairwise(widths)]
    blocks = [Block(branches, norm, act, dropout)]
    for layer in hidden:
        same = layer.in_features == layer.out_features
        blocks.append(Block(layer, norm, act, dropout, residual=residual and same))
    model = LayeredGNN([*blocks, Block(last, act=None)])
    model.spec = spec
    return model

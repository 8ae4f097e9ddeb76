"""Models for many layers: GCNII and DeepGCN."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch_geometric.nn import conv as pyg

from gnnscale.model_arguments import (
    DeepGCNArguments,
    GCNIIArguments,
)
from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.models.arguments import named


@named(GCNIIArguments)
def GCNII(given: GCNIIArguments) -> LayeredGNN:  # noqa: N802 - a model's name
    """GCNII, deep by an initial residual and identity mapping (Chen et al., ICML 2020, eq. 5).

    A linear layer gives x_0; `num_layers` convolutions ((1 − α)Px + α x_0)((1 − β)I + βΘ) follow,
    with β = ln(θ/l + 1) in layer l, and a linear layer. Dropout comes before each of them, the
    activation after the first and after every convolution.

    Raises:
        InputError: an argument is not valid.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.GCNII(1433, 64, num_layers=64, out_channels=7, dropout=0.6)
    """
    order, width = "dropout-conv-norm-act", given.hidden_channels
    norm, act, dropout = given.norm, given.act, given.dropout
    first = nn.Linear(given.in_channels, width)
    blocks = [Block(first, None, act, dropout, order=order, saves="x0")]
    for layer in range(1, given.num_layers + 1):
        conv = pyg.GCN2Conv(width, given.alpha, given.theta, layer, given.shared_weights)
        blocks.append(Block(conv, norm, act, dropout, order=order, reads="x0"))
    last = nn.Linear(width, given.out_channels)
    return LayeredGNN([*blocks, Block(last, None, None, dropout, order=order)])


_DEEP_CONVS: dict[str, Callable[[int], nn.Module]] = {
    "gcn": lambda width: pyg.GCNConv(width, width),
    "sage": lambda width: pyg.SAGEConv(width, width),
    "gen": lambda width: pyg.GENConv(width, width, learn_t=True),
}


@named(DeepGCNArguments)
def DeepGCN(given: DeepGCNArguments) -> LayeredGNN:  # noqa: N802
    """DeeperGCN: pre-activation residual layers (Li et al., arXiv 2006.07739, res+).

    A linear layer; a convolution; `num_layers` − 1 times x + conv(dropout(act(norm(x)))); then
    norm, activation, dropout and a linear layer. What PyG's example does with `DeepGCNLayer`.

    Raises:
        InputError: an argument is not valid.
    """
    order, width = "norm-act-dropout-conv", given.hidden_channels
    norm, act, dropout = given.norm, given.act, given.dropout
    layers = [_DEEP_CONVS[given.conv](width) for _ in range(given.num_layers)]
    blocks = [Block(nn.Linear(given.in_channels, width), act=None), Block(layers[0], act=None)]
    for layer in layers[1:]:
        blocks.append(Block(layer, norm, act, dropout, order=order, residual=True))
    last = nn.Linear(width, given.out_channels)
    return LayeredGNN([*blocks, Block(last, norm, act, dropout, order=order)])

"""Models for many layers: GCNII and DeepGCN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch_geometric.nn import conv as pyg

from gnnscale.choices import choices_checked, number_faults
from gnnscale.errors import InputError
from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.models.arguments import check_arguments, spec_of


@choices_checked
def GCNII(  # noqa: N802 - a model's name
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int,
    dropout: float = 0.0,
    act: str | None = "relu",
    norm: str | None = None,
    *,
    alpha: float = 0.1,
    theta: float = 0.5,
    shared_weights: bool = True,
) -> LayeredGNN:
    """GCNII, deep by an initial residual and identity mapping (Chen et al., ICML 2020, eq. 5).

    A linear layer gives x_0; `num_layers` convolutions ((1 − α)Px + α x_0)((1 − β)I + βΘ) follow,
    with β = ln(θ/l + 1) in layer l, and a linear layer. Dropout comes before each of them.

    Args:
        in_channels: features of a node.
        hidden_channels: width of all hidden layers.
        num_layers: convolutions.
        out_channels: width of the output.
        dropout: probability.
        act: activation after the first linear layer and after every convolution.
        norm: normalization before it; none in the paper.
        alpha: α, the weight of x_0.
        theta: θ.
        shared_weights: False gives x_0 a Θ of its own (GCNII*).

    Raises:
        InputError: a width, the number of layers, α or θ is not valid.

    Example:
        >>> import gnnscale as gs
        >>> model = gs.nn.GCNII(1433, 64, num_layers=64, out_channels=7, dropout=0.6)
    """
    spec = spec_of("GCNII", locals())
    check_arguments(locals(), lazy=False, output_given=True)
    if number_faults("theta", theta) or theta <= 0:
        raise InputError(f"theta={theta!r} must be a finite number above 0")
    order = "dropout-conv-norm-act"
    first = nn.Linear(in_channels, hidden_channels)
    blocks = [Block(first, None, act, dropout, order=order, saves="x0")]
    for layer in range(1, num_layers + 1):
        conv = pyg.GCN2Conv(hidden_channels, alpha, theta, layer, shared_weights)
        blocks.append(Block(conv, norm, act, dropout, order=order, reads="x0"))
    last = nn.Linear(hidden_channels, out_channels)
    return _model([*blocks, Block(last, None, None, dropout, order=order)], spec)


_DEEP_CONVS: dict[str, Callable[[int], nn.Module]] = {
    "gcn": lambda width: pyg.GCNConv(width, width),
    "sage": lambda width: pyg.SAGEConv(width, width),
    "gen": lambda width: pyg.GENConv(width, width, learn_t=True),
}


def DeepGCN(  # noqa: N802
    in_channels: int,
    hidden_channels: int,
    num_layers: int,
    out_channels: int,
    dropout: float = 0.0,
    act: str | None = "relu",
    norm: str | None = "layer_norm",
    *,
    conv: str = "gcn",
) -> LayeredGNN:
    """DeeperGCN: pre-activation residual layers (Li et al., arXiv 2006.07739, res+).

    A linear layer; a convolution; `num_layers` − 1 times x + conv(dropout(act(norm(x)))); then
    norm, activation, dropout and a linear layer. What PyG's example does with `DeepGCNLayer`.

    Args:
        in_channels: features of a node.
        hidden_channels: width of all hidden layers.
        num_layers: convolutions.
        out_channels: width of the output.
        dropout: probability.
        act: activation.
        norm: normalization, a name that PyG's resolver knows.
        conv: "gcn" or "sage", or the paper's "gen" (softmax aggregation, opaque).

    Raises:
        InputError: a width or the number of layers is not valid, or no convolution has that name.
    """
    spec = spec_of("DeepGCN", locals())
    check_arguments(locals(), lazy=False, output_given=True)
    if not isinstance(conv, str) or conv not in _DEEP_CONVS:
        raise InputError(f"conv={conv!r}: one of {', '.join(sorted(_DEEP_CONVS))}")
    order = "norm-act-dropout-conv"
    layers = [_DEEP_CONVS[conv](hidden_channels) for _ in range(num_layers)]
    blocks = [Block(nn.Linear(in_channels, hidden_channels), act=None), Block(layers[0], act=None)]
    for layer in layers[1:]:
        blocks.append(Block(layer, norm, act, dropout, order=order, residual=True))
    last = nn.Linear(hidden_channels, out_channels)
    return _model([*blocks, Block(last, norm, act, dropout, order=order)], spec)


def _model(blocks: list[Block], spec: dict[str, Any] | None) -> LayeredGNN:
    model = LayeredGNN(blocks)
    model.spec = spec
    return model

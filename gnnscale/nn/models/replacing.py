"""with_norm: a model with other norms, or none, and all its other parameters shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from torch import nn
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.block import Block, Chain
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.widths import channels, holds_matrix
from gnnscale.nn.convert.pyg_models import LayeredPyG, as_layered
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.models.readout import GraphModel
from gnnscale.nn.models.twins import (
    Norms,
    Place,
    container,
    is_layer,
    norm_width,
    nothing,
    shallow,
    takes_batch,
)

GivenNorm = str | nn.Module | Callable[[int], nn.Module] | None

_PLACES = ("after_conv", "after_act", "before_conv")


@overload
def with_norm(
    model: GraphModel,
    norm: GivenNorm,
    place: Place = ...,
    norm_kwargs: Mapping[str, Any] | None = ...,
) -> GraphModel: ...


@overload
def with_norm(
    model: Any,
    norm: GivenNorm,
    place: Place = ...,
    norm_kwargs: Mapping[str, Any] | None = ...,
) -> LayeredGNN: ...


def with_norm(
    model: object,
    norm: GivenNorm,
    place: Place = "after_conv",
    norm_kwargs: Mapping[str, object] | None = None,
) -> LayeredGNN | GraphModel:
    """Put a norm into every hidden layer of a model, as GraphNorm's paper does, or take all away.

    h ← act(norm(conv(h))) (Cai et al., ICML 2021, arXiv 2009.03294): the norm stands
    after the convolution and before the activation, and inside GIN's network after every hidden
    transform, before its activation; residual connections stay as they are. Norms that the model
    has already are replaced, not joined by a second one: afterwards a layer has one norm, at
    `place`.

    A layer is given a norm where an activation follows, or comes first as in DeepGCN's res+, where
    one stood after it, or where there is jumping knowledge; so the output layer has none. Layers
    without a convolution have the norms that they had replaced, and are given new ones only in a
    model whose convolutions have no activation (an MLP, APPNP).

    The model is not changed. What is returned shares its parameters and buffers, all but those of
    norms, and keeps their state-dict keys. The new norms of a PyG model have the keys that
    `norm=…` would have given them (`norms.0.weight`, `convs.0.nn.norms.0.weight`), and `to_pyg()`
    gives such a model. Those of a `Block` have `blocks.<i>.norm`. `spec` is None: build such a
    model again with `with_norm`.

    Args:
        model: of blocks (a `LayeredGNN`, or a list of layers), a PyG `BasicGNN`; or a `GraphModel`,
            whose encoder it is then.
        norm: a name ("graph_norm", "batch_norm", … as `Block` knows them), a function of the width,
            a module that every layer is given a deep copy of, or None, which takes all norms away.
        place: "after_conv"; "after_act": after the activation, before dropout; "before_conv": on
            the rows that enter a convolution, the model's input left alone.
        norm_kwargs: arguments of a norm given by name, beside its width.

    Raises:
        InputError: there is no such norm or place, a module has another width than a layer, or no
            layer has a place for a norm.
        UnsupportedModel: a norm is hidden inside an opaque convolution, naming it; or the model's
            modules are written out one by one (PyG's `Sequential`, a list with norms or
            activations, a `forward` of its own): there, norms are written among them.

    Example:
        >>> import torch_geometric, gnnscale as gs
        >>> gin = torch_geometric.nn.GIN(64, 64, num_layers=5, out_channels=2, norm="batch_norm")
        >>> model = gs.nn.with_norm(gin, "graph_norm")
        >>> plain = gs.nn.with_norm(gin, None)
    """
    if place not in _PLACES:
        raise InputError(f"place={place!r}: one of {', '.join(_PLACES)}")
    if isinstance(model, GraphModel):
        twin = shallow(model)
        twin.encoder = with_norm(model.encoder, norm, place, norm_kwargs)
        return twin
    norms = Norms(norm, norm_kwargs, place)
    rewritten = rewrite(as_layered(model), norms)
    if norm is not None and not norms.made:
        raise InputError(
            f"norm={norm!r}: no layer has a place for it, as none but the output layer has an "
            "activation; give the model more layers, or act=…"
        )
    return rewritten


def rewrite(layered: LayeredGNN, norms: Norms) -> LayeredGNN:
    """The model with these norms wherever one has a place, perhaps nowhere."""
    if any(isinstance(block, Chain) for block in layered.blocks):
        behind = layered._model[0] if isinstance(layered, LayeredPyG) else layered
        raise UnsupportedModel(
            f"{type(behind).__name__} has its modules written out one by one: write norms among "
            "them, or give its layers as gs.nn.LayeredGNN([gs.nn.Block(conv, norm=…), …])"
        )
    return _Rewriter(layered, norms).model()


class _Rewriter:
    """One model with other norms."""

    def __init__(self, layered: LayeredGNN, norms: Norms) -> None:
        self.layered = layered
        self.norms = norms
        self.behind = layered._model[0] if isinstance(layered, LayeredPyG) else None
        # Where convolutions have activations, other layers are encoders and heads.
        self.linear = not any(map(_is_active, layered.blocks))

    def model(self) -> LayeredGNN:
        layered = self.layered
        rewritten = [self.block(block, i) for i, block in enumerate(layered.blocks)]
        head = None if layered.head is None else self.norms.layer(layered.head, False)
        if isinstance(self.behind, BasicGNN):
            return LayeredPyG(self.pyg(self.behind, rewritten), rewritten, head, layered.jk_mode)
        twin = shallow(layered)
        twin.blocks = container(rewritten, layered.training)
        twin.head = head
        twin.spec, twin._compiled = None, None
        return twin

    def pyg(self, model: BasicGNN, blocks: Sequence[Block]) -> BasicGNN:
        """PyG's own model around the blocks' parts."""
        given, twin = self.norms.given, shallow(model)
        norms = [nothing(self.layered.training) if b.norm is None else b.norm for b in blocks]
        twin.convs = container([block.conv for block in blocks], self.layered.training)
        twin.norms = container(norms, self.layered.training)
        twin.training = self.layered.training
        twin.norm = given if isinstance(given, str) else None
        twin.norm_kwargs = self.norms.arguments
        twin.act_first = self.norms.place == "after_act"
        twin.supports_norm_batch = takes_batch(norms)
        return twin

    def block(self, block: Block, i: int) -> Block:
        twin = shallow(block)
        twin.conv = self.norms.layer(block.conv, self.linear)
        twin.norm = None
        if self.has_norm(block, i):
            order = self.order(block)
            side = "in" if order.index("norm") < order.index("conv") else "out"
            width = channels(block.conv, side)
            if width is None and block.norm is not None and order == block.order.split("-"):
                width = norm_width(block.norm)
            twin.norm = self.norms.make(width, block.conv)
            twin.order = "-".join(order)
        return twin

    def has_norm(self, block: Block, i: int) -> bool:
        place, order = self.norms.place, block.order.split("-")
        conv = order.index("conv")
        leading = block.norm is not None and order.index("norm") < conv
        given = self.wanted(block.conv)
        if place == "before_conv":
            return leading or (i > 0 and given and holds_matrix(block.conv))
        if isinstance(self.behind, BasicGNN):  # as PyG does, with an activation or without
            jumps = self.behind.jk_mode is not None
            return jumps or i < len(self.layered.blocks) - 1
        active = block.act is not None and "act" in order
        if active and order.index("act") < conv:
            # The activation, and the norm, are of the layer before: this one may be the last.
            before = self.layered.blocks[i - 1] if i > 0 else None
            return leading or given or (isinstance(before, Block) and self.wanted(before.conv))
        had = block.norm is not None and not leading
        return had or (given and (active or self.layered.jk_mode is not None))

    def order(self, block: Block) -> list[str]:
        """The block's operations with the norm in its place."""
        order = [operation for operation in block.order.split("-") if operation != "norm"]
        conv = order.index("conv")
        act = order.index("act") if "act" in order and block.act is not None else None
        at = conv + 1
        if self.norms.place == "before_conv":
            at = conv
        elif self.norms.place == "after_act" and act is not None:
            at = act + 1
        elif act is not None and act < conv and not self.norms.takes_message:
            at = act
        return [*order[:at], "norm", *order[at:]]

    def wanted(self, layer: nn.Module) -> bool:
        """Whether a layer without a norm is given one where it has an activation."""
        return is_layer(layer) and (self.linear or is_convolution(layer))


def _is_active(block: Block) -> bool:
    """Whether a block has a convolution and an activation."""
    return is_convolution(block.conv) and block.act is not None and "act" in block.order

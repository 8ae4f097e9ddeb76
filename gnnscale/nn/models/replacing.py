"""with_norm: a model with other norms, or none, and all its other parameters shared.

What holds a norm is copied without its parameters and buffers; what holds none is not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from torch import nn
from torch_geometric.nn import MLP, GINConv, MessageNorm
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.block import Block, Chain
from gnnscale.nn.blocks.layer_names import make_norm, norm_class
from gnnscale.nn.blocks.layered import LayeredGNN
from gnnscale.nn.blocks.widths import channels, holds_matrix, width_after_rows
from gnnscale.nn.convert.pyg_models import LayeredPyG, as_layered
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.registry import is_convolution
from gnnscale.nn.models.readout import GraphModel
from gnnscale.nn.modules import is_intercepted

Place = Literal["after_conv", "after_act", "before_conv"]
GivenNorm = str | nn.Module | Callable[[int], nn.Module] | None
Module = TypeVar("Module", bound=nn.Module)

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
    model: Any,
    norm: GivenNorm,
    place: Place = "after_conv",
    norm_kwargs: Mapping[str, Any] | None = None,
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
        twin = _shallow(model)
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


class Norms:
    """Makes norms, and copies of layers that have them in place of others.

    Args:
        norm: a name, a prototype, a function of the width, or None for none.
        arguments: of the constructor, where a name is given.
        place: where they stand.

    Raises:
        InputError: there is no such norm or place.
    """

    def __init__(self, norm: Any, arguments: Mapping[str, Any] | None, place: Place) -> None:
        kind = norm_class(norm) if isinstance(norm, str) else norm
        messages = isinstance(kind, MessageNorm) or (
            isinstance(kind, type) and issubclass(kind, MessageNorm)
        )
        if messages and place != "after_conv":
            raise InputError(f"place={place!r}: a MessageNorm scales what a convolution gives")
        self.place = place
        self.takes_message = messages
        self.made = 0
        self.given, self.arguments = norm, arguments
        self._twins: dict[int, nn.Module] = {}  # of layers that come again

    def make(self, width: int | None, layer: nn.Module) -> nn.Module | None:
        """A norm for rows beside a layer, in its type, on its device."""
        if isinstance(self.given, nn.Module):
            own = _norm_width(self.given)
            if None not in (own, width) and own != width:
                raise InputError(
                    f"norm={self.given!r} is for {own} channels, and the rows beside "
                    f"{type(layer).__name__} have {width}; give a name or a function of the width"
                )
        unsized = f"{type(layer).__name__} does not say how wide the rows are"
        made = make_norm(self.given, width, self.arguments, unsized)
        if made is None:
            return None
        if made is self.given:
            made = copy.deepcopy(made)
        if not isinstance(made, nn.Module):
            raise InputError(f"norm={self.given!r} gives {type(made).__name__}, which is no module")
        self.made += 1
        like = next((p for p in layer.parameters() if p.is_floating_point()), None)
        if like is not None:
            made.to(like.device, like.dtype)
        return made.train(layer.training)

    def layer(self, layer: nn.Module, insert: bool) -> nn.Module:
        """A layer with the norms inside it replaced; itself where there is nothing to do.

        GIN's network is given one after every hidden transform, as in the paper and in PyG.

        Args:
            layer: a convolution or a network of rows.
            insert: whether a network of rows that is no part of a convolution is given norms too.

        Raises:
            UnsupportedModel: a norm is hidden inside it.
        """
        if id(layer) not in self._twins:
            self._twins[id(layer)] = self._twin(layer, insert)
        return self._twins[id(layer)]

    def _twin(self, layer: nn.Module, insert: bool) -> nn.Module:
        if type(layer) is GINConv:
            network: nn.Module = layer.get_submodule("nn")
            inner = self.layer(network, True) if not is_convolution(network) else network
            if inner is network:
                return layer
            twin = _shallow(layer)
            twin.nn = inner
            return twin
        if not is_intercepted(layer):
            if type(layer) is MLP:
                return self._mlp(layer, insert)
            if type(layer) is nn.Sequential:
                return self._sequence(layer, insert)
        if hidden := next((part for part in layer.modules() if is_norm(part)), None):
            raise UnsupportedModel(
                f"{type(layer).__name__} holds {type(hidden).__name__}, which cannot be told from "
                "its other parts: build it without a norm, and with_norm puts one after it"
            )
        return layer

    def _sequence(self, network: nn.Sequential, insert: bool) -> nn.Module:
        """A sequence, a norm behind each of its dense layers that had one or has an activation."""
        children: dict[str, nn.Module | None] = {}
        parts = [(name, child) for name, child in network._modules.items() if child is not None]
        begins = [i for i, (_, child) in enumerate(parts) if _is_layer(child)]
        for begin, end in zip([0, *begins], [*begins, len(parts)], strict=True):
            part = parts[begin:end]
            if not part:
                continue
            norms = [name for name, child in part if is_norm(child)]
            kept = [(name, child) for name, child in part if not is_norm(child)]
            acts = [i for i, (_, child) in enumerate(kept) if _is_act(child)]
            if begin in begins and (norms or (insert and acts)):
                at = acts[0] + 1 if self.place == "after_act" and acts else 1
                layer = self.layer(kept[0][1], insert)
                width = channels(layer, "out")
                for _, child in kept[1:at]:
                    width = width_after_rows(child, width)
                new = self._inside(width, layer)
                if new is not None:
                    name = norms[0] if norms else f"{kept[at - 1][0]}_norm"
                    kept.insert(at, (name, new))
            children.update(
                (name, child if is_norm(child) else self.layer(child, insert))
                for name, child in kept
            )
        if list(children.values()) == list(network._modules.values()):
            return network
        twin = _shallow(network)
        twin.__dict__["_modules"] = children
        return twin

    def _mlp(self, mlp: Any, insert: bool) -> nn.Module:
        norms = []
        for old, linear in zip(mlp.norms, mlp.lins, strict=False):  # the last may be plain
            needed = insert or is_norm(old)
            new = self._inside(linear.out_channels, linear) if needed else None
            norms.append(_nothing(mlp.training) if new is None else new)
        if not any(map(is_norm, [*mlp.norms, *norms])) and all(
            isinstance(norm, nn.Identity) for norm in norms
        ):
            return mlp
        twin = _shallow(mlp)
        twin.norms = _container(norms, mlp.training)
        twin.act_first = self.place == "after_act"
        twin.supports_norm_batch = _takes_batch(norms)
        return twin

    def _inside(self, width: int | None, layer: nn.Module) -> nn.Module | None:
        return None if self.takes_message else self.make(width, layer)


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
        twin = _shallow(layered)
        twin.blocks = _container(rewritten, layered.training)
        twin.head = head
        twin.spec, twin._compiled = None, None
        return twin

    def pyg(self, model: BasicGNN, blocks: Sequence[Block]) -> BasicGNN:
        """PyG's own model around the blocks' parts."""
        given, twin = self.norms.given, _shallow(model)
        norms = [_nothing(self.layered.training) if b.norm is None else b.norm for b in blocks]
        twin.convs = _container([block.conv for block in blocks], self.layered.training)
        twin.norms = _container(norms, self.layered.training)
        twin.training = self.layered.training
        twin.norm = given if isinstance(given, str) else None
        twin.norm_kwargs = self.norms.arguments
        twin.act_first = self.norms.place == "after_act"
        twin.supports_norm_batch = _takes_batch(norms)
        return twin

    def block(self, block: Block, i: int) -> Block:
        twin = _shallow(block)
        twin.conv = self.norms.layer(block.conv, self.linear)
        twin.norm = None
        if self.has_norm(block, i):
            order = self.order(block)
            side = "in" if order.index("norm") < order.index("conv") else "out"
            width = channels(block.conv, side)
            if width is None and block.norm is not None and order == block.order.split("-"):
                width = _norm_width(block.norm)
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
        return _is_layer(layer) and (self.linear or is_convolution(layer))


def _is_active(block: Block) -> bool:
    """Whether a block has a convolution and an activation."""
    return is_convolution(block.conv) and block.act is not None and "act" in block.order


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or transforms rows by a matrix."""
    return not is_norm(module) and (is_convolution(module) or holds_matrix(module))


def _is_act(module: nn.Module) -> bool:
    """Whether a module in a sequence is an activation, or the user's row-local map without one."""
    idle = isinstance(module, nn.Dropout | nn.Identity)
    return not (idle or is_norm(module) or _is_layer(module))


def _norm_width(norm: Any) -> int | None:
    """The channels that a norm is made for, or None where it takes any."""
    for name in ("in_channels", "num_features", "num_channels", "normalized_shape"):
        width = getattr(norm, name, None)
        if width is not None:
            return int(width[-1] if isinstance(width, tuple) else width)
    return None


def _takes_batch(norms: Sequence[nn.Module]) -> bool:
    """Whether PyG's models hand their norms what tells graphs apart."""
    return bool(norms) and "batch" in inspect.signature(norms[0].forward).parameters


def _shallow(module: Module) -> Module:
    """A copy with the same parameters, buffers and hooks, and with children of its own choice."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin


def _nothing(training: bool) -> nn.Identity:
    """What stands where no norm is, in a mode."""
    return nn.Identity().train(training)


def _container(modules: Sequence[nn.Module], training: bool) -> nn.ModuleList:
    """A list in a mode, its modules in their own."""
    made = nn.ModuleList(modules)
    made.training = training
    return made

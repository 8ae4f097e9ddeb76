"""Norms: copies of layers that have norms in place of others, and share everything else.

What holds a norm is copied without its parameters and buffers; what holds none is not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from torch import nn
from torch_geometric.nn import MLP, GINConv, MessageNorm

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.block import make_norm, norm_class
from gnnscale.nn.blocks.widths import channels, holds_matrix, width_after_rows
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.propagation import is_convolution
from gnnscale.nn.modules import is_intercepted

Place = Literal["after_conv", "after_act", "before_conv"]
Module = TypeVar("Module", bound=nn.Module)


class Norms:
    """Makes norms, and copies of layers that have them in place of others.

    Args:
        norm: a name, a prototype, a function of the width, or None for none.
        arguments: of the constructor, where a name is given.
        place: where they stand.

    Raises:
        InputError: there is no such norm or place.
    """

    def __init__(self, norm: object, arguments: Mapping[str, object] | None, place: Place) -> None:
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
            own = norm_width(self.given)
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
            twin = shallow(layer)
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
        begins = [i for i, (_, child) in enumerate(parts) if is_layer(child)]
        for begin, end in zip([0, *begins], [*begins, len(parts)], strict=True):
            part = parts[begin:end]
            if not part:
                continue
            norms = [(name, child) for name, child in part if is_norm(child)]
            kept = [(name, child) for name, child in part if not is_norm(child)]
            acts = [i for i, (_, child) in enumerate(kept) if _is_act(child)]
            if begin in begins and (norms or (insert and acts)):
                at = acts[0] + 1 if self.place == "after_act" and acts else 1
                layer = self.layer(kept[0][1], insert)
                width = channels(layer, "out")
                for _, child in kept[1:at]:
                    width = width_after_rows(child, width)
                name, old = norms[0] if norms else (f"{kept[at - 1][0]}_norm", None)
                new = self._inside(width or norm_width(old), layer)
                if new is not None:
                    kept.insert(at, (name, new))
            children.update(
                (name, child if is_norm(child) else self.layer(child, insert))
                for name, child in kept
            )
        if list(children.values()) == list(network._modules.values()):
            return network
        twin = shallow(network)
        twin.__dict__["_modules"] = children
        return twin

    def _mlp(self, mlp: Any, insert: bool) -> nn.Module:
        norms = []
        for old, linear in zip(mlp.norms, mlp.lins, strict=False):  # the last may be plain
            needed = insert or is_norm(old)
            new = self._inside(linear.out_channels, linear) if needed else None
            norms.append(nothing(mlp.training) if new is None else new)
        had = any(map(is_norm, mlp.norms))
        if not had and all(isinstance(norm, nn.Identity) for norm in norms):
            return mlp
        twin = shallow(mlp)
        twin.norms = container(norms, mlp.training)
        twin.act_first = self.place == "after_act"
        twin.supports_norm_batch = takes_batch(norms)
        return twin

    def _inside(self, width: int | None, layer: nn.Module) -> nn.Module | None:
        return None if self.takes_message else self.make(width, layer)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or transforms rows by a matrix."""
    return not is_norm(module) and (is_convolution(module) or holds_matrix(module))


def _is_act(module: nn.Module) -> bool:
    """Whether a module in a sequence is an activation, or the user's row-local map without one."""
    idle = isinstance(module, nn.Dropout | nn.Identity)
    return not (idle or is_norm(module) or is_layer(module))


def norm_width(norm: object) -> int | None:
    """The channels that a norm is made for, or None where it takes any."""
    for name in ("in_channels", "num_features", "num_channels", "normalized_shape"):
        width = getattr(norm, name, None)
        if width is not None:
            return int(width[-1] if isinstance(width, tuple) else width)
    return None


def takes_batch(norms: Sequence[nn.Module]) -> bool:
    """Whether PyG's models hand their norms what tells graphs apart."""
    return bool(norms) and "batch" in inspect.signature(norms[0].forward).parameters


def shallow(module: Module) -> Module:
    """A copy with the same parameters, buffers and hooks, and with children of its own choice."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin


def nothing(training: bool) -> nn.Identity:
    """What stands where no norm is, in a mode."""
    return nn.Identity().train(training)


def container(modules: Sequence[nn.Module], training: bool) -> nn.ModuleList:
    """A list in a mode, its modules in their own."""
    made = nn.ModuleList(modules)
    made.training = training
    return made

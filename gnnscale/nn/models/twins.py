"""Norms: copies of modules that have norms in place of others, and share everything else.

What holds a norm is copied without its parameters and buffers; what holds none is not.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from torch import nn
from torch_geometric.nn import MLP, GINConv, MessageNorm

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn.blocks.layer_names import make_norm, norm_class
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.signature import is_convolution
from gnnscale.nn.models.places import (
    Leaf,
    Place,
    leaves,
    norm_width,
    spots,
)
from gnnscale.nn.modules import is_intercepted

Module = TypeVar("Module", bound=nn.Module)


def shallow(module: Module) -> Module:
    """A copy with the same parameters, buffers and hooks, and with children of its own choice."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    return twin


def nothing(training: bool) -> nn.Identity:
    """What stands where no norm is, in a mode."""
    return nn.Identity().train(training)


def container(kind: type[Module], modules: Any, training: bool) -> Module:
    """A `ModuleList` or `ModuleDict` in a mode, its modules in their own."""
    made = kind(modules)  # type: ignore[call-arg]
    made.training = training
    return made


class Norms:
    """Makes norms, and copies of modules that have them in place of others.

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
        self._twins: dict[int, nn.Module] = {}
        self._inserted: dict[tuple[int, str], nn.Module] = {}

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
        """A layer with the norms inside it replaced.

        GIN's network is given one after every hidden transform, as in the paper and in PyG.

        Args:
            layer: a convolution or a network of rows.
            insert: whether a network of rows that is no part of a convolution is given norms too.

        Raises:
            UnsupportedModel: a norm is hidden inside it.
        """
        if not is_convolution(layer):
            self._network(layer, insert)
        elif type(layer) is GINConv:
            self._network(layer.get_submodule("nn"), True)
        else:
            _check_holds_no_norm(layer)
        return self.twin(layer)

    def replace(self, old: nn.Module, new: nn.Module | None) -> None:
        """Let `twin` have another module where `old` was; None for nothing."""
        self._twins.setdefault(id(old), nothing(old.training) if new is None else new)

    def insert(self, after: Leaf, new: nn.Module) -> bool:
        """Let `twin` have a module after a leaf, if an `nn.Sequential` holds it."""
        if after.parent is not None:
            self._inserted[id(after.parent), after.name] = new
        return after.parent is not None

    def twin(self, module: nn.Module) -> nn.Module:
        """The module with what was replaced and inserted inside it; itself where nothing was."""
        if id(module) in self._twins:
            return self._twins[id(module)]
        children: dict[str, nn.Module | None] = {}
        for name, child in module._modules.items():
            if name not in children:  # unless what was inserted has taken the place of its Identity
                children[name] = None if child is None else self.twin(child)
            if (new := self._inserted.get((id(module), name))) is not None:
                children[f"{name}_norm"] = new
        twin = module
        if len(children) != len(module._modules) or any(
            child is not module._modules.get(name) for name, child in children.items()
        ):
            twin = shallow(module)
            twin.__dict__["_modules"] = children
        self._twins[id(module)] = twin
        return twin

    def _network(self, network: nn.Module, insert: bool) -> None:
        rows = list(leaves(network))
        for leaf in rows:
            if type(leaf.module) is MLP and not is_intercepted(leaf.module):
                self._mlp(leaf.module, insert)
            elif not is_norm(leaf.module):
                _check_holds_no_norm(leaf.module)
        place: Place = "after_act" if self.place == "after_act" else "after_conv"
        modules = [leaf.module for leaf in rows]
        for spot in spots(modules, place, lambda _: insert, pre_activation=False):
            new = self._inside(spot.width, modules[spot.layer])
            if spot.replaces:
                self.replace(modules[spot.at], new)
            elif new is not None:
                self.insert(rows[spot.at - 1], new)
        for module in modules:
            if is_norm(module):
                self.replace(module, None)

    def _mlp(self, mlp: Any, insert: bool) -> None:
        if id(mlp) in self._twins:
            return
        twin = shallow(mlp)
        norms = []
        for old, linear in zip(mlp.norms, mlp.lins, strict=False):  # the last may be plain
            needed = insert or is_norm(old)
            new = self._inside(linear.out_channels, linear) if needed else None
            norms.append(nothing(mlp.training) if new is None else new)
        if any(is_norm(norm) for norm in mlp.norms) or any(
            not isinstance(norm, nn.Identity) for norm in norms
        ):
            twin.norms = container(nn.ModuleList, norms, mlp.training)
            twin.act_first = self.place == "after_act"
            twin.supports_norm_batch = takes_batch(norms)
            self._twins[id(mlp)] = twin

    def _inside(self, width: int | None, layer: nn.Module) -> nn.Module | None:
        return None if self.takes_message else self.make(width, layer)


def takes_batch(norms: Sequence[nn.Module]) -> bool:
    """Whether PyG's models hand their norms what tells graphs apart."""
    return bool(norms) and "batch" in inspect.signature(norms[0].forward).parameters


def _check_holds_no_norm(module: nn.Module) -> None:
    hidden = next((part for part in module.modules() if is_norm(part)), None)
    if hidden is not None:
        raise UnsupportedModel(
            f"{type(module).__name__} holds {type(hidden).__name__}, which cannot be told from its "
            "other parts: build it without a norm, and with_norm puts one after it"
        )

"""Where norms stand among modules that follow one another.

A layer is a convolution or a dense transform; what follows it, up to the next one, is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from torch import nn

from gnnscale.nn.blocks.widths import channels, holds_matrix, width_after_rows
from gnnscale.nn.convs.networks import is_norm
from gnnscale.nn.convs.signature import is_convolution
from gnnscale.nn.modules import is_intercepted

Place = Literal["after_conv", "after_act", "before_conv"]


class Spot(NamedTuple):
    """A place for a norm in a sequence of modules.

    Attributes:
        layer: the position of the layer that it belongs to.
        at: the position of the norm that it replaces, or of what it is put before.
        replaces: which of the two.
        width: channels of the rows there, None where unknown.
    """

    layer: int
    at: int
    replaces: bool
    width: int | None


class Leaf(NamedTuple):
    """A module of a sequence, and the `nn.Sequential` that holds it under a name, if one does."""

    module: nn.Module
    parent: nn.Module | None = None
    name: str = ""


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a convolution or transforms rows by a matrix."""
    return not is_norm(module) and (is_convolution(module) or holds_matrix(module))


def is_act(module: nn.Module) -> bool:
    """Whether a module in a sequence is an activation, or the user's row-local map without one."""
    idle = isinstance(module, nn.Dropout | nn.Identity)
    return not (idle or is_norm(module) or is_layer(module))


def leaves(module: nn.Module, parent: nn.Module | None = None, name: str = "") -> Iterator[Leaf]:
    """The modules that an `nn.Sequential` runs, those of inner ones among them."""
    if type(module) is nn.Sequential and not is_intercepted(module):
        for key, child in module._modules.items():  # named_children skips what comes again
            yield from leaves(child, module, key)
    else:
        yield Leaf(module, parent, name)


def norm_width(norm: Any) -> int | None:
    """The channels that a norm is made for, or None where it takes any."""
    for name in ("in_channels", "num_features", "num_channels", "normalized_shape"):
        width = getattr(norm, name, None)
        if width is not None:
            return int(width[-1] if isinstance(width, tuple) else width)
    return None


def spots(
    modules: Sequence[Any],
    place: Place,
    wanted: Callable[[nn.Module], bool],
    *,
    everywhere: bool = False,
    pre_activation: bool = True,
    first: bool = False,
) -> list[Spot]:
    """Where a sequence of modules has norms in the end: one a layer at most.

    Args:
        modules: in the order in which they run; None for what is no module.
        place: where a norm stands.
        wanted: whether a layer is given a norm where it has an activation. One that has a norm now
            keeps one.
        everywhere: such a layer is given one where it has no activation too.
        pre_activation: whether the activation of a layer may come before it.
        first: whether the sequence begins with the model's input, which "before_conv" leaves alone.
    """
    norms = [i for i, module in enumerate(modules) if module is not None and is_norm(module)]
    layers = [i for i, module in enumerate(modules) if module is not None and is_layer(module)]
    acts = [i for i, module in enumerate(modules) if module is not None and is_act(module)]
    if not layers:
        return [Spot(i, i, True, norm_width(modules[i])) for i in norms]
    found = []
    for k, at in enumerate(layers):
        begin = 0 if k == 0 else at
        end = layers[k + 1] if k + 1 < len(layers) else len(modules)
        before = next((i for i in acts if begin <= i < at), None)
        after = next((i for i in acts if at < i < end), None)
        leading = [i for i in norms if begin <= i < at]
        trailing = [i for i in norms if at < i < end]
        given = wanted(modules[at])
        if place == "before_conv":
            if leading or (given and holds_matrix(modules[at]) and not (first and k == 0)):
                low = max((i + 1 for i in acts if begin <= i < at), default=begin)
                found.append(_spot(modules, at, low, at, at, leading))
            continue
        leads = pre_activation and before is not None and (leading or given)
        if leads:
            assert before is not None
            low, high = (begin, before) if place == "after_conv" else (before + 1, at)
            default = high if place == "after_conv" else low
            found.append(_spot(modules, at, low, high, default, leading))
        active = after is not None or before is not None
        if trailing or (given and not leads and (everywhere or active)):
            low = at + 1 if place == "after_conv" or after is None else after + 1
            high = end if after is None or place == "after_act" else after
            found.append(_spot(modules, at, low, high, low, trailing))
    return found


def _spot(
    modules: Sequence[Any], layer: int, low: int, high: int, default: int, norms: Sequence[int]
) -> Spot:
    """A norm of those that stand from `low` up to `high`, or else a new one at `default`."""
    there = next((i for i in norms if low <= i < high), None)
    width = channels(modules[layer], "out" if default > layer else "in")
    for module in modules[layer + 1 : default]:
        width = None if module is None else width_after_rows(module, width)
    if there is None:
        return Spot(layer, default, False, width)
    return Spot(layer, there, True, norm_width(modules[there]) or width)

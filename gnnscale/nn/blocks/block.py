"""Block: one convolution with its norm, activation and dropout; Chain: one read off a model."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch_geometric.nn import MessageNorm, resolver
from torch_geometric.nn import norm as pyg

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.blocks.operations import Apply, Operation, phases_of
from gnnscale.nn.blocks.phases import Join, Phase, Save, concatenate
from gnnscale.nn.blocks.widths import channels, keeps_width
from gnnscale.nn.convs.networks import Call
from gnnscale.nn.convs.propagation import check_hops, is_convolution
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.modules import as_written
from gnnscale.nn.norms import layers as ours

# Our own where there is one. PyG's for nodes of several types take more than rows.
_NORMS: dict[str, type[nn.Module]] = {
    name: getattr(ours, name, getattr(pyg, name))
    for name in pyg.__all__
    if not name.startswith("Hetero")
}
_SHORT = {"msg": "MessageNorm"}
# What norms call their width. Others take none: PyG's resolver would read it as PairNorm's scale
# and as MessageNorm's `learn_scale` (PyG 2.8.1).
_WIDTHS = frozenset(("channels", "in_channels", "num_features"))


def norm_class(name: str) -> type[nn.Module]:
    """The norm of a name; "graph_norm", "GraphNorm" and "graph" are one.

    Raises:
        InputError: there is none, naming what is near.
    """
    folded = {_folded(known): cls for known, cls in _NORMS.items()}
    folded |= {short: _NORMS[known] for short, known in _SHORT.items()}
    if (found := folded.get(_folded(name))) is not None:
        return found
    raise _unknown("norm", name, _NORMS)


def make_norm(
    norm: Any, width: int | None, arguments: Mapping[str, Any] | None, unsized: str
) -> nn.Module | None:
    """A norm for a layer, out of what the user gives.

    Args:
        norm: a module or None, returned as they are; a function of the width; or a name.
        width: channels of the rows that it normalises, None where the layer does not say.
        arguments: of the constructor, beside the width, where a name is given.
        unsized: where the width is missing, why: "EdgeConv has no out_channels".

    Raises:
        InputError: no norm has that name, the width is needed and unknown, or arguments are wrong.
    """
    if arguments is not None and not isinstance(arguments, Mapping):
        raise InputError(f"norm_kwargs={arguments!r}: a mapping of arguments by name, or None")
    if arguments and not isinstance(norm, str):
        raise InputError(f"norm_kwargs={dict(arguments)!r} go with a norm given by name")
    if norm is None or isinstance(norm, nn.Module):
        return norm
    cls = norm_class(norm) if isinstance(norm, str) else None
    if cls is None and not callable(norm):
        raise InputError(f"norm={norm!r}: a module, a function, a name or None")
    widths = () if cls is not None and not _takes_width(cls) else (width,)
    if None in widths:
        raise InputError(f"norm={norm!r}: {unsized} to size it by; give a module")
    if cls is None:
        return norm(*widths)
    try:
        return cls(*widths, **(arguments or {}))
    except (TypeError, ValueError) as error:
        parameters = list(inspect.signature(cls).parameters)[len(widths) :]
        raise InputError(
            f"norm={norm!r} cannot be built ({error}); norm_kwargs={{…}} may hold "
            f"{', '.join(parameters) or 'nothing'}"
        ) from error


def make_act(act: Any) -> nn.Module | None:
    """An activation, out of a module, a function, a name that PyG's resolver knows, or None.

    Raises:
        InputError: no activation has that name.
    """
    if act is None or isinstance(act, nn.Module):
        return act
    if isinstance(act, str):
        try:
            act = resolver.activation_resolver(act)
        except ValueError as error:
            known = re.findall(r"'(\w+)'", str(error).partition("among choices")[2])
            if not known:
                raise
            raise _unknown("act", act, known) from None
    elif not callable(act):
        raise InputError(f"act={act!r}: a module, a function, a name or None")
    return act if isinstance(act, nn.Module) else Call(act)


def _takes_width(cls: type[nn.Module]) -> bool:
    return next(iter(inspect.signature(cls).parameters), None) in _WIDTHS


def _folded(name: str) -> str:
    return re.sub("[_ -]|norm$", "", name.lower())


def _unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    folded = {_folded(found): found for found in sorted(known)}
    close = difflib.get_close_matches(_folded(name), folded, n=3)
    near = " or ".join(folded[key] for key in close) or ", ".join(sorted(known))
    return InputError(f"{kind}={name!r}: there is no such layer; did you mean {near}?")


PARTS = ("conv", "norm", "act", "dropout", "residual")
DEFAULT_ORDER = "conv-norm-act-dropout"


class Block(nn.Module):
    """A convolution with what surrounds it.

    Args:
        conv: a PyG convolution, a user's own `forward(x, edge_index, …)`, or a row-local module
            such as `nn.Linear` (a block of an MLP).
        norm: a normalization layer; a name ("graph_norm", "pair_norm", …) or a function of the
            width, for which the convolution gives it; None for none. A `MessageNorm`, s·‖x‖·m/‖m‖
            (Li et al., arXiv 2006.07739), is given what enters the convolution as x and what leaves
            it as the message m.
        act: an activation module or function, or a name that PyG's resolver knows; None for none.
        dropout: probability in [0, 1].
        order: its parts, joined by "-", each at most once: "conv-norm-act-dropout",
            "norm-act-dropout-conv" (DeepGCN's res+), "dropout-conv-norm-act" …; "residual" among
            them where it does not come last, as in "conv-norm-act-residual-dropout".
        residual: True adds the block's input to its output (widths must agree); "dense" puts it
            before its output, side by side (DeepGCN's dense connection).
        hops: the reach of an opaque convolution, where its class does not declare it.
        reads: the slot whose values the convolution takes after x (GCNII's x_0).
        saves: a slot in which the block's output is kept, for later blocks to read.
        norm_kwargs: arguments of a norm given by name, beside its width: `{"scale": 0.5}`.
        takes: what the convolution may be given of "edge_weight", "edge_attr", "edge_type",
            "node_type" and "batch"; None for all that its `forward` takes.

    Raises:
        InputError: the order, the dropout or the reach is not valid, no norm or activation has that
            name, a norm or dropout is given that the order leaves out, a message norm comes before
            its convolution, or a residual joins different widths.
    """

    @choices_checked
    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module | Callable[[int], nn.Module] | str | None = None,
        act: nn.Module | Callable | str | None = "relu",
        dropout: nn.Dropout | float = 0.0,
        *,
        order: str = DEFAULT_ORDER,
        residual: bool | Literal["dense"] = False,
        hops: int | None = None,
        reads: str | None = None,
        saves: str | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        takes: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        conv = as_written(conv)
        parts = order.split("-") if isinstance(order, str) else []
        if "conv" not in parts or len(set(parts)) < len(parts) or set(parts) - set(PARTS):
            raise InputError(
                f"order {order!r}: name conv and any of norm, act, dropout once each (and residual "
                "after conv, where it is not last), joined by '-'"
            )
        probability = dropout.p if isinstance(dropout, nn.Dropout) else dropout
        if not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise InputError(f"dropout={probability!r}: a probability lies in [0, 1]")
        for part, given in (("norm", norm is not None), ("dropout", probability > 0)):
            if given and part not in parts:
                raise InputError(f"order {order!r} leaves out the {part} that is given")
        if "residual" in parts and (not residual or parts.index("residual") < parts.index("conv")):
            raise InputError(f"order {order!r} has a residual: after conv, and with residual=…")
        if hops is not None:
            check_hops(hops)
        if takes is not None and not (isinstance(takes, Collection) and CARRIED.issuperset(takes)):
            raise InputError(f"takes={takes!r}: some of {', '.join(sorted(CARRIED))}, or None")
        narrow, wide = channels(conv, "in"), channels(conv, "out")
        if residual is True and None not in (narrow, wide) and narrow != wide:
            raise InputError(f"residual=True: the convolution maps {narrow} channels to {wide}")
        before = "norm" in parts and parts.index("norm") < parts.index("conv")
        self.conv = conv
        unsized = f"{type(conv).__name__} has no {'in' if before else 'out'}_channels"
        self.norm = make_norm(norm, narrow if before else wide, norm_kwargs, unsized)
        if before and isinstance(self.norm, MessageNorm):
            raise InputError(
                f"order {order!r}: a MessageNorm scales what the convolution gives, so that norm "
                "comes after conv"
            )
        self.act = make_act(act)
        self.dropout = dropout if isinstance(dropout, nn.Dropout) else nn.Dropout(dropout)
        self.order = order
        self.residual = residual
        self.hops = hops
        self.takes = CARRIED if takes is None else frozenset(takes)
        self.reads = reads
        self.saves = saves

    @property
    def in_channels(self) -> int | None:
        """The width of the block's input, or None where its convolution does not say."""
        return channels(self.conv, "in")

    def operations(self, index: int) -> list[Operation]:
        """What the block runs, in order; `index`, its place in the model, names its slots."""
        slot = f"residual{index}"
        order = self.order.split("-")
        if self.residual and "residual" not in order:
            order.append("residual")
        norm = self.norm
        messages = f"message{index}" if isinstance(norm, MessageNorm) else None
        operations: list[Operation] = [Save(slot)] if self.residual else []
        for name in order:
            if name == "conv":
                if messages is not None:
                    operations.append(Save(messages))
                reads = () if self.reads is None else (self.reads,)
                operations.append(Apply(self.conv, reads, self.takes, self.hops))
            elif name == "norm" and norm is not None:
                by_itself = Apply(norm, is_norm=True)
                operations.append(by_itself if messages is None else Join(norm, (messages,)))
            elif name == "act" and self.act is not None:
                operations.append(Apply(self.act))
            elif name == "dropout" and self.dropout.p > 0:
                operations.append(Apply(self.dropout))
            elif name == "residual":
                operations.append(
                    Join(concatenate if self.residual == "dense" else torch.add, (slot,))
                )
        if self.saves is not None:
            operations.append(Save(self.saves))
        return operations

    def phases(self, index: int) -> list[Phase]:
        """The block as phases; `index`, its place in the model, numbers its dropouts and slots."""
        return phases_of(self.operations(index), index)


class Chain(nn.Module):
    """Operations one after another, at most one of them a convolution.

    Args:
        operations: the operations.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        super().__init__()
        self._operations = list(operations)
        parts = [
            own.module if isinstance(own, Apply) else getattr(own, "function", None)
            for own in operations
        ]
        self.layers = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))

    @property
    def in_channels(self) -> int | None:
        """The width of the first module that says one; None where one before may change it."""
        for operation in self._operations:
            if isinstance(operation, Save):
                continue
            if not isinstance(operation, Apply):
                return None
            module = operation.module
            width = channels(module, "in")
            if width is not None or is_convolution(module) or not keeps_width(module):
                return width
        return None

    def operations(self, index: int) -> list[Operation]:
        """What the block runs, in order."""
        return self._operations

    def phases(self, index: int) -> list[Phase]:
        """The block as phases; `index`, its place in the model, numbers its dropouts."""
        return phases_of(self._operations, index)

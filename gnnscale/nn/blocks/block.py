"""Block: one convolution with its norm, activation and dropout; Chain: one read off a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch_geometric.nn import MessageNorm

from gnnscale.choices import choices_checked
from gnnscale.errors import InputError
from gnnscale.nn.blocks.layer_names import make_act, make_norm
from gnnscale.nn.blocks.operations import Apply, Operation, phases_of
from gnnscale.nn.blocks.phases import Join, Phase, Save, concatenate
from gnnscale.nn.blocks.widths import channels, keeps_width
from gnnscale.nn.convs.registry import check_hops, is_convolution
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.nn.modules import as_written

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

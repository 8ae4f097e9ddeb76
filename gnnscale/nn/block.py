"""Block: one convolution with its norm, activation and dropout, in a stated order."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch_geometric.nn import resolver

from gnnscale.errors import InputError
from gnnscale.nn.phases import Join, Phase, Save, concatenate
from gnnscale.nn.pyg_convs import Call
from gnnscale.nn.registry import check_hops
from gnnscale.nn.steps import AnyStep, Step, phases_of
from gnnscale.nn.widths import channels

STEPS = ("conv", "norm", "act", "dropout", "residual")
DEFAULT_ORDER = "conv-norm-act-dropout"


class Block(nn.Module):
    """A convolution with what surrounds it.

    Args:
        conv: a PyG convolution, a user's own `forward(x, edge_index, …)`, or a row-local module
            such as `nn.Linear` (a block of an MLP).
        norm: a normalization layer; a name that PyG's resolver knows ("graph_norm", …) or a
            function of the width, for which the convolution gives it; None for none.
        act: an activation module or function, or a name that PyG's resolver knows; None for none.
        dropout: probability in [0, 1].
        order: the steps, joined by "-", each at most once: "conv-norm-act-dropout",
            "norm-act-dropout-conv" (DeepGCN's res+), "dropout-conv-norm-act" …; "residual" among
            them where it does not come last, as in "conv-norm-act-residual-dropout".
        residual: True adds the block's input to its output (widths must agree); "dense" puts it
            before its output, side by side (DeepGCN's dense connection).
        hops: the reach of an opaque convolution, where its class does not declare it.
        reads: the slot whose values the convolution takes after x (GCNII's x_0).
        saves: a slot in which the block's output is kept, for later blocks to read.

    Raises:
        InputError: the order, the dropout or the reach is not valid, no norm or activation has that
            name, a norm or dropout is given that the order leaves out, or a residual joins
            different widths.
    """

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
    ) -> None:
        super().__init__()
        steps = order.split("-") if isinstance(order, str) else []
        if "conv" not in steps or len(set(steps)) < len(steps) or set(steps) - set(STEPS):
            raise InputError(
                f"order {order!r}: name conv and any of norm, act, dropout once each (and residual "
                "after conv, where it is not last), joined by '-'"
            )
        probability = dropout.p if isinstance(dropout, nn.Dropout) else dropout
        if not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise InputError(f"dropout={probability!r}: a probability lies in [0, 1]")
        for step, given in (("norm", norm is not None), ("dropout", probability > 0)):
            if given and step not in steps:
                raise InputError(f"order {order!r} leaves out the {step} that is given")
        if not isinstance(residual, bool | str) or residual not in (False, True, "dense"):
            raise InputError(f"residual={residual!r}: False, True or 'dense'")
        if "residual" in steps and (not residual or steps.index("residual") < steps.index("conv")):
            raise InputError(f"order {order!r} has a residual: after conv, and with residual=…")
        if hops is not None:
            check_hops(hops)
        narrow, wide = channels(conv, "in"), channels(conv, "out")
        if residual is True and None not in (narrow, wide) and narrow != wide:
            raise InputError(f"residual=True: the convolution maps {narrow} channels to {wide}")
        before = "norm" in steps and steps.index("norm") < steps.index("conv")
        self.conv = conv
        self.norm = _resolve_norm(norm, conv, "in" if before else "out")
        self.act = _resolve_act(act)
        self.dropout = dropout if isinstance(dropout, nn.Dropout) else nn.Dropout(dropout)
        self.order = order
        self.residual = residual
        self.hops = hops
        self.reads = reads
        self.saves = saves

    @property
    def in_channels(self) -> int | None:
        """The width of the block's input, or None where its convolution does not say."""
        return channels(self.conv, "in")

    def steps(self, index: int) -> list[AnyStep]:
        """What the block runs, in order; `index`, its place in the model, names its slots."""
        slot = f"residual{index}"
        order = self.order.split("-")
        if self.residual and "residual" not in order:
            order.append("residual")
        steps: list[AnyStep] = [Save(slot)] if self.residual else []
        for name in order:
            if name == "conv":
                reads = () if self.reads is None else (self.reads,)
                steps.append(Step(self.conv, reads, hops=self.hops))
            elif name == "norm" and self.norm is not None:
                steps.append(Step(self.norm))
            elif name == "act" and self.act is not None:
                steps.append(Step(self.act))
            elif name == "dropout" and self.dropout.p > 0:
                steps.append(Step(self.dropout))
            elif name == "residual":
                steps.append(Join(concatenate if self.residual == "dense" else torch.add, (slot,)))
        if self.saves is not None:
            steps.append(Save(self.saves))
        return steps

    def phases(self, index: int) -> list[Phase]:
        """The block as phases; `index`, its place in the model, numbers its dropouts and slots."""
        return phases_of(self.steps(index), index)


def _resolve_norm(norm: Any, conv: nn.Module, side: str) -> nn.Module | None:
    if norm is None or isinstance(norm, nn.Module):
        return norm
    width = channels(conv, side)
    if width is None:
        raise InputError(
            f"norm={norm!r}: {type(conv).__name__} has no {side}_channels to size it by; "
            "give a module"
        )
    if not isinstance(norm, str):
        _check_callable("norm", norm)
        return norm(width)
    return _resolve("norm", norm, resolver.normalization_resolver, width)


def _resolve_act(act: Any) -> nn.Module | None:
    if act is None or isinstance(act, nn.Module):
        return act
    if not isinstance(act, str):
        _check_callable("act", act)
        return Call(act)
    found = _resolve("act", act, resolver.activation_resolver)
    return found if isinstance(found, nn.Module) else Call(found)


def _check_callable(kind: str, given: Any) -> None:
    if not callable(given):
        raise InputError(f"{kind}={given!r}: a module, a function, a name or None")


def _resolve(kind: str, name: str, resolve: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return resolve(name, *arguments)
    except ValueError as error:
        known = re.findall(r"'(\w+)'", str(error).partition("among choices")[2])
        if not known:
            raise
        folded = {re.sub("_|norm$", "", found.lower()): found for found in sorted(known)}
        close = difflib.get_close_matches(re.sub("[_ -]|norm$", "", name.lower()), folded, n=3)
        near = " or ".join(folded[key] for key in close) or ", ".join(sorted(known))
        raise InputError(f"{kind}={name!r}: there is no such layer; did you mean {near}?") from None

"""Block: one convolution with its norm, activation and dropout, in a stated order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch_geometric.nn import conv as pyg

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn import statistics
from gnnscale.nn.phases import (
    Add,
    Collect,
    Dropout,
    Neighbourhood,
    Phase,
    Propagate,
    Rows,
    Save,
    Statistics,
    fuse,
)
from gnnscale.nn.propagation import is_intercepted
from gnnscale.nn.pyg_convs import Call, is_norm, row_modules
from gnnscale.nn.registry import check_hops, is_registered, propagation_of

STEPS = ("conv", "norm", "act", "dropout")
DEFAULT_ORDER = "conv-norm-act-dropout"


class Block(nn.Module):
    """A convolution with what surrounds it.

    Args:
        conv: a PyG convolution, a user's own `forward(x, edge_index, …)`, or a row-local module
            such as `nn.Linear` (a block of an MLP).
        norm: a normalization layer; a name that PyG's resolver knows ("graph_norm", …) or a
            function of the width, for which `conv.out_channels` gives it; None for none.
        act: an activation module or function, or a name that PyG's resolver knows; None for none.
        dropout: probability in [0, 1].
        order: the steps, joined by "-", each at most once: "conv-norm-act-dropout",
            "norm-act-dropout-conv", "dropout-conv-norm-act", "conv-act-norm-dropout" …
        residual: add the block's input to its output. Widths must agree.
        hops: the reach of an opaque convolution, where its class does not declare it.

    Raises:
        InputError: the order, the dropout or the reach is not valid, a norm or dropout is given
            that the order leaves out, or a residual joins different widths.
    """

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module | Callable[[int], nn.Module] | str | None = None,
        act: nn.Module | Callable | str | None = "relu",
        dropout: nn.Dropout | float = 0.0,
        *,
        order: str = DEFAULT_ORDER,
        residual: bool = False,
        hops: int | None = None,
    ) -> None:
        super().__init__()
        steps = order.split("-")
        if "conv" not in steps or len(set(steps)) < len(steps) or set(steps) - set(STEPS):
            raise InputError(
                f"order {order!r}: name conv and any of norm, act, dropout once each, joined by '-'"
            )
        probability = dropout.p if isinstance(dropout, nn.Dropout) else dropout
        if not 0 <= probability <= 1:
            raise InputError(f"dropout={probability}: a probability lies in [0, 1]")
        for step, given in (("norm", norm is not None), ("dropout", probability > 0)):
            if given and step not in steps:
                raise InputError(f"order {order!r} leaves out the {step} that is given")
        if hops is not None:
            check_hops(hops)
        narrow, wide = channels(conv, "in"), channels(conv, "out")
        if residual and None not in (narrow, wide) and narrow != wide:
            raise InputError(f"residual=True: the convolution maps {narrow} channels to {wide}")
        self.conv = conv
        self.norm = _resolve_norm(norm, conv)
        self.act = _resolve_act(act)
        self.dropout = dropout if isinstance(dropout, nn.Dropout) else nn.Dropout(dropout)
        self.order = order
        self.residual = residual
        self.hops = hops

    def phases(self, index: int, collect: Any = None) -> list[Phase]:
        """The block as phases.

        Args:
            index: its place in the model; numbers its dropouts and slots.
            collect: "cat" or "max": join the output into the slot of the jumping knowledge.
        """
        streams = iter(range(index * 64, (index + 1) * 64))
        phases: list[Phase] = []
        for step in self.order.split("-"):
            if step == "conv":
                phases += self._convolution(index, streams)
            elif step == "norm" and self.norm is not None:
                phases.append(norm_phase(self.norm))
            elif step == "act" and self.act is not None:
                phases.append(Rows(self.act))
            elif step == "dropout" and self.dropout.p > 0:
                phases += row_phases(self.dropout, streams)
        if self.residual:
            slot = f"residual{index}"
            phases = [Save(slot), *phases, Add(slot)]
        if collect is not None:
            phases.append(Collect("jumping_knowledge", collect, first=index == 0))
        return fuse(phases)

    def _convolution(self, index: int, streams: Iterator[int]) -> list[Phase]:
        if not is_convolution(self.conv):
            return row_phases(self.conv, streams)
        propagation = propagation_of(self.conv)
        if propagation is None:
            return [Neighbourhood(self.conv, index, self.hops)]
        phases: list[Phase] = [Propagate(propagation)]
        for module in propagation.then:
            phases += row_phases(module, streams)
        return phases


def row_phases(module: nn.Module, streams: Iterator[int]) -> list[Phase]:
    """A row-local network as phases, its norms and dropouts apart.

    Raises:
        UnsupportedModel: a norm is hidden inside a module that cannot be taken apart.
    """
    steps = row_modules(module)
    if steps is None:
        raise UnsupportedModel(
            f"{type(module).__name__} holds a norm that cannot be separated from it; write it as "
            "nn.Sequential or torch_geometric.nn.MLP, or as blocks of its own"
        )
    phases: list[Phase] = []
    for step in steps:
        if type(step) is nn.Dropout and not is_intercepted(step):
            phases.append(Dropout(step, next(streams)))
        elif is_norm(step):
            phases.append(norm_phase(step))
        elif not isinstance(step, nn.Identity):
            phases.append(Rows(step))
    return phases


def norm_phase(norm: nn.Module) -> Phase:
    """A norm as a phase: row-local where it is, else a reduction and a row-local map."""
    return Rows(norm) if statistics.is_row_local(norm) else Statistics(norm)


def is_convolution(module: nn.Module) -> bool:
    """Whether a module takes the graph's structure beside the rows."""
    if isinstance(module, pyg.MessagePassing) or is_registered(module):
        return True
    parameters = inspect.signature(module.forward).parameters
    required = [p for p in parameters.values() if p.default is p.empty and p.kind in (0, 1)]
    return len(required) >= 2 or "edge_index" in parameters


# Convolutions whose width is that of a network inside. EdgeConv's reads two rows side by side.
_NETWORKS: dict[str, tuple[type[nn.Module], ...]] = {
    "in": (pyg.GINConv, pyg.GINEConv),
    "out": (pyg.GINConv, pyg.GINEConv, pyg.EdgeConv),
}


def channels(conv: Any, side: str) -> int | None:
    """The width of a module's rows on the "in" or "out" side, or None where it does not say."""
    for name in (f"{side}_channels", f"{side}_features"):
        width = getattr(conv, name, None)
        if isinstance(width, tuple | list):
            width = width[0]
        if isinstance(width, int) and width > 0:
            concatenates = side == "out" and getattr(conv, "concat", False)
            return width * getattr(conv, "heads", 1) if concatenates else width
    if type(conv) is nn.Sequential:
        steps = list(conv) if side == "in" else reversed(list(conv))
        return next((w for w in (channels(step, side) for step in steps) if w is not None), None)
    return channels(conv.nn, side) if isinstance(conv, _NETWORKS[side]) else None


def _resolve_norm(norm: Any, conv: nn.Module) -> nn.Module | None:
    if norm is None or isinstance(norm, nn.Module):
        return norm
    from torch_geometric.nn.resolver import normalization_resolver

    width = channels(conv, "out")
    if width is None:
        raise InputError(
            f"norm={norm!r}: {type(conv).__name__} has no out_channels to size it by; give a module"
        )
    return normalization_resolver(norm, width) if isinstance(norm, str) else norm(width)


def _resolve_act(act: Any) -> nn.Module | None:
    if act is None or isinstance(act, nn.Module):
        return act
    if isinstance(act, str):
        from torch_geometric.nn.resolver import activation_resolver

        return activation_resolver(act)
    return Call(act)

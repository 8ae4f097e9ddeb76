"""How many channels a module takes and gives, and the values between phases have."""

from __future__ import annotations

import numpy as np
from torch import nn
from torch_geometric.nn import MessageNorm
from torch_geometric.nn import conv as pyg

from gnnscale.nn.blocks.phases import (
    Collect,
    Join,
    Neighbourhood,
    Phase,
    Propagate,
    Read,
    Rows,
    Save,
    concatenate,
)
from gnnscale.nn.convs.networks import Call, is_norm

# Convolutions whose width is that of a network inside. EdgeConv's reads two rows side by side.
_NETWORKS: dict[str, tuple[type[nn.Module], ...]] = {
    "in": (pyg.GINConv, pyg.GINEConv),
    "out": (pyg.GINConv, pyg.GINEConv, pyg.EdgeConv),
}
# Convolutions that leave the width as it is, under PyG's names for it.
_SAME_WIDTH: dict[type[nn.Module], str] = {
    pyg.GCN2Conv: "channels",
    pyg.FAConv: "channels",
    pyg.CGConv: "channels",
}


def channels(conv: object, side: str) -> int | None:
    """The width of a module's rows on the "in" or "out" side, or None where it does not say."""
    same = next((name for cls, name in _SAME_WIDTH.items() if isinstance(conv, cls)), None)
    for name in (same or f"{side}_channels", f"{side}_features"):
        width = getattr(conv, name, None)
        if isinstance(width, tuple | list):
            width = width[0]
        if isinstance(width, int | np.integer) and width > 0:
            return int(width) * (_multiple(conv) if side == "out" else 1)
    if type(conv) is nn.Sequential:
        modules = list(conv) if side == "in" else reversed(list(conv))
        return next((w for w in (channels(own, side) for own in modules) if w is not None), None)
    return channels(conv.nn, side) if isinstance(conv, _NETWORKS[side]) else None


def _multiple(conv: object) -> int:
    """How many outputs of `out_channels` stand side by side: heads, or MixHop's powers."""
    if isinstance(conv, pyg.MixHopConv):
        return len(conv.powers)
    return getattr(conv, "heads", 1) if getattr(conv, "concat", False) else 1


def width_after(phase: Phase, width: int | None, slots: dict[str, int | None]) -> int | None:
    """The width of the values that leave a phase, None where only running it tells.

    Args:
        phase: the phase.
        width: of the values that enter it.
        slots: widths of the slots so far; updated by phases that write one.
    """
    match phase:
        case Propagate(propagation):
            return propagation.width(width)
        case Neighbourhood(module):
            return channels(module, "out")
        case Rows(nn.Module() as module):
            return width_after_rows(module, width)
        case Join(function, names):
            return joined_width(function, [*(slots[name] for name in names), width])
        case Save(slot):
            slots[slot] = width
        case Collect(slot, mode, first):
            added = mode == "cat" and not first
            slots[slot] = joined_width(concatenate, [slots[slot], width]) if added else width
        case Read(slot):
            return slots[slot]
    return width


def width_after_rows(module: nn.Module, width: int | None) -> int | None:
    """The same for a row-local module: its own word, or as before where that is certain."""
    keeps = isinstance(module, Call) or keeps_width(module)  # an activation given as a function
    return channels(module, "out") or (width if keeps else None)


def keeps_width(module: nn.Module) -> bool:
    """Whether a row-local module is known to give as many channels as it takes."""
    unsure = (part for part in module.modules() if not is_norm(part))
    own = (type(part).__module__.split(".")[0] for part in unsure)
    halves = any(isinstance(part, nn.GLU) for part in module.modules())
    return not halves and not holds_matrix(module) and {"torch", "torch_geometric"}.issuperset(own)


def holds_matrix(module: nn.Module) -> bool:
    """Whether a module transforms rows, where an activation or a norm scales them at most."""
    lazy = nn.parameter.UninitializedParameter
    return any(isinstance(p, lazy) or p.dim() > 1 for p in module.parameters())


def joined_width(function: object, widths: list[int | None]) -> int | None:
    """The same for a function of several values: their sum side by side, else what all have."""
    if function is concatenate:
        return None if None in widths else sum(w for w in widths if w is not None)
    if isinstance(function, MessageNorm):  # of its first argument it takes the length alone
        return widths[-1]
    return widths[-1] if len(set(widths)) == 1 else None

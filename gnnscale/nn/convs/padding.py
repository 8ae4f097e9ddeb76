"""Pieces that a layer can take: some fail where no edge arrives at the first or last node, or any.

Median aggregation, for one, looks for the median of no values before the first one. Such a layer is
given two more nodes in front and two behind, with an edge each way between the two, whose rows are
dropped. That this changes no other row is what the check of a layer finds out.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_PADDED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Padded(NamedTuple):
    """What a layer is given: see `Neighbourhood.run`."""

    rows: list[Tensor]
    edge_index: Tensor
    carried: dict[str, Tensor]


def pad_pieces_of(module: nn.Module, needed: bool) -> None:
    """Say whether a layer is to be given padded pieces."""
    (_PADDED.add if needed else _PADDED.discard)(module)


def takes_padded(module: nn.Module) -> bool:
    """Whether a layer is to be given padded pieces."""
    return module in _PADDED


def padded(rows: Sequence[Tensor], edge_index: Tensor, carried: Mapping[str, Tensor]) -> Padded:
    """Two nodes more at either end, and the edges between them.

    They have the values of the first node and edge, which are in whatever range a layer wants.
    """
    pair = torch.tensor([[1, 0], [0, 1]], device=edge_index.device)
    last = pair + rows[0].size(0) + 2
    values = {name: _longer(value) for name, value in carried.items()}
    if "batch" in carried:
        own = carried["batch"] + 1
        behind = own.max() + 1 if own.numel() else own.new_ones(())
        values["batch"] = torch.cat([own.new_zeros(2), own, behind.expand(2)])
    edge_index = torch.cat([pair, edge_index + 2, last], dim=1)
    return Padded([_longer(x) for x in rows], edge_index, values)


def without_padding(out: Tensor) -> Tensor:
    """The rows of the piece itself."""
    return out[2:-2]


def _longer(values: Tensor) -> Tensor:
    if values.size(0):
        more = values[:1].detach()
    else:
        whole = not values.is_floating_point()
        more = (values.new_zeros if whole else values.new_ones)(1, *values.shape[1:])
    more = more.expand(2, *values.shape[1:])
    return torch.cat([more, values, more])

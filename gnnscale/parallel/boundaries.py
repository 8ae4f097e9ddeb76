"""Boundaries: what goes from a block to the next, and over the wire where a stage ends there."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Adjacency
from gnnscale.loader import Batch
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.context import entering, run_phases
from gnnscale.nn.blocks.crossing import crossing
from gnnscale.nn.convs.propagation import densify
from gnnscale.nn.modules import check_materialised, evaluation_mode

_ROWS = 8  # of a drawn graph; any number tells widths


class Boundary(NamedTuple):
    """What goes from a block to the next: the current rows, and the slots read later on.

    Attributes:
        widths: name and channels of every value; "x", the current rows, first.
        gradients: the names of those that a gradient comes back for: what a parameter made. Raw
            features, and what a fixed propagation makes of them, have none.
        same: slots that hold one of these values under another name, and its name. They do not go
            twice: that saves bytes, and gradients add up in the order in which they do in one
            piece.
        element: bytes of a number.
    """

    widths: tuple[tuple[str, int], ...]
    gradients: frozenset[str]
    same: tuple[tuple[str, str], ...] = ()
    element: int = 4

    @property
    def bytes_forward(self) -> int:
        """Bytes of a node's values."""
        return self.element * sum(width for _, width in self.widths)

    @property
    def bytes_backward(self) -> int:
        """Bytes of the gradients that come back for them."""
        return self.element * sum(width for name, width in self.widths if name in self.gradients)


def boundaries(model: LayeredGNN, sample: Batch | None = None) -> list[Boundary]:
    """What goes from every block but the last to the next.

    Found by running the model once in evaluation mode: only that tells the width of a user's layer.

    Args:
        model: the model, its lazy parameters materialised.
        sample: a small batch for it, on the model's device; None draws a ring of a few nodes.

    Returns:
        `[num_blocks − 1]`.

    Raises:
        InputError: a parameter is lazy, or the model does not run on the ring.
    """
    check_materialised(model, "stages")
    if sample is not None:
        return _run(model, sample.x, Context.of(sample, training=False))
    try:
        return _run(model, *_ring(model))
    except Exception as error:  # a user's layer may raise anything
        raise InputError(
            f"the widths between the blocks could not be found by running the model on a ring of "
            f"{_ROWS} nodes with zeros as features: {error!r}; give sample=, a small batch"
        ) from error


def _run(model: LayeredGNN, x: Any, context: Context) -> list[Boundary]:
    found = []
    x = entering(x, model)
    with evaluation_mode(model), torch.enable_grad():
        for block, phases, same in zip(
            model.blocks, model.phases, crossing(model.phases), strict=False
        ):
            x = run_phases(block, phases, x, context)
            values = {"x": x, **context.slots}
            rows = {name: densify(values[name]) for name, other in same.items() if name == other}
            found.append(
                Boundary(
                    tuple((name, value.size(1)) for name, value in rows.items()),
                    frozenset(name for name, value in rows.items() if value.requires_grad),
                    tuple((name, other) for name, other in same.items() if name != other),
                    max(value.element_size() for value in rows.values()),
                )
            )
    return found


def _ring(model: LayeredGNN) -> tuple[Tensor, Context]:
    if model.in_channels is None:
        raise InputError("its first layer does not say how many features it takes")
    kinds = {(p.device, p.dtype) for p in model.parameters() if p.is_floating_point()}
    device, dtype = next(iter(kinds), (torch.device("cpu"), torch.float32))
    node = torch.arange(_ROWS, device=device)
    both_ways = torch.stack([node.repeat(2), torch.cat([node.roll(1), node.roll(-1)])])
    # Zeros are numbers, and categories that every table has.
    x = torch.zeros(_ROWS, model.in_channels, device=device, dtype=dtype)
    segments = {"cluster": torch.tensor([0, _ROWS], device=device)}
    return x, Context(Adjacency.from_edge_index(both_ways, _ROWS), False, segments=segments)

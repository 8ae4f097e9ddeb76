"""Whether every opaque convolution of a model has room on a graph, asked before any work is done.

A run would else be refused after the layers that come before, or after an epoch of training.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gnnscale.graph import Adjacency, Graph
from gnnscale.graph.adjacency import slice_rows
from gnnscale.inference.layers import Layers
from gnnscale.inference.pieces import Pieces, is_measured
from gnnscale.kernels import CSR
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.blocks.features import entering, type_of
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.invariance.stand_in import copy_of
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.mapped import read_rows

logger = logging.getLogger(__name__)

_FEW = 8  # nodes that are enough to learn how wide every layer is


@torch.no_grad()
def check_room(model: LayeredGNN, graph: Graph, layers: Layers) -> None:
    """Find the row that takes the most in each opaque convolution.

    Args:
        model: the model.
        graph: the graph, with features.
        layers: where its layers will be kept, and what else may be in memory.

    Raises:
        InputError: a row takes more than there is; with the smallest bound that would do.
    """
    phases = [phase for block in model.phases for phase in block]
    opaque = any(isinstance(phase, Neighbourhood) for phase in phases)
    assert layers.budget is not None
    if not (opaque and is_measured(layers.budget, graph.num_nodes, graph.num_edges)):
        return
    with evaluation_mode(model):
        try:
            found, _ = _widths(model, phases, graph, layers.device)
        except Exception:  # on a graph that it was not made for; on its own it says what is wrong
            logger.debug("no widths of %s on a few nodes", type(model).__name__, exc_info=True)
            return
        refusals = []
        for phase, widths, dtype in found:
            carried = {k: v for k, v in graph.carried.items() if k in phase.given}
            refusals.append(Pieces(phase, widths, dtype, carried, graph.adj, layers).refusal())
    if largest := max(filter(None, refusals), key=lambda refusal: refusal[0], default=None):
        raise largest[1]


@torch.no_grad()
def output_bytes(model: LayeredGNN, graph: Graph, device: torch.device) -> int:
    """Bytes of a row of the model's output; 0 where a few nodes do not tell."""
    phases = [phase for block in model.phases for phase in block]
    with evaluation_mode(model), contextlib.suppress(Exception):
        _, out = _widths(model, phases, graph, device)
        return out[:1].nbytes
    return 0


def _widths(
    model: LayeredGNN, phases: list[Any], graph: Graph, device: torch.device
) -> tuple[list[tuple[Neighbourhood, list[int], torch.dtype]], Any]:
    """What each opaque convolution reads: columns of its input and of its slots, and their type.

    The model's output on a few nodes comes with it.
    """
    nodes = min(_FEW, graph.num_nodes)
    each = torch.arange(nodes)
    carried: dict[str, Any] = {
        name: value[(each % value.size(0)).to(value.device)].to(device)
        for name, value in graph.carried.items()
    }
    weight = carried.pop("edge_weight", None)
    ring = Adjacency.from_edge_index(torch.stack([each, (each + 1) % nodes]), nodes).to(device)
    if weight is not None:
        ring = Adjacency(ring.indptr, ring.indices, weight)
    ends = torch.tensor([0, nodes], device=device)
    context = Context(ring, training=False, segments={"cluster": ends, "graph": ends}, **carried)
    assert graph.x is not None
    x: Any = _rows(graph.x, nodes)
    x = entering(x.to(device), model)
    found = []
    for phase in phases:
        if isinstance(phase, Neighbourhood):
            widths = [x.shape[1], *(context.slots[slot].shape[1] for slot in phase.slots)]
            found.append((phase, widths, type_of(x)))
            # The layer itself may keep what it sees first.
            phase = replace(phase, module=copy_of(phase.module).to(device))
        x = phase(x, context)
    return found, x


def _rows(x: Tensor | CSR, count: int) -> Tensor | CSR:
    return slice_rows(x, 0, count) if isinstance(x, CSR) else read_rows(x, 0, count)

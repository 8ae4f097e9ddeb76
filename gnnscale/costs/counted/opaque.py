"""What opaque convolutions cost: as they run, and GAT's and GraphSAGE's products as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import conv as pyg

from gnnscale.costs.counted.amounts import Amount, Depth, Sizes
from gnnscale.costs.counted.facts import (
    POINTER,
    Facts,
    Kernel,
    dense,
    hop,
    over_rows,
    row_gradient,
    weight_gradient,
)
from gnnscale.costs.counted.model import Value
from gnnscale.costs.counted.profiled import Sample, copies_of, ones, profiled
from gnnscale.costs.counted.setting import Setting
from gnnscale.costs.passes import repeated, rings
from gnnscale.graph import Adjacency
from gnnscale.graph.graph import EDGE_VALUES
from gnnscale.nn import Context
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.convs.pyg_convs import sage_by_extremum

# Nodes, edges that arrive at each, and nodes with self-loops, that a layer is run on.
_PIECES = ((8, 1, 0), (16, 1, 0), (8, 1, 3), (16, 2, 4), (20, 16, 0), (40, 16, 0), (40, 32, 0))


def neighbourhood_facts(phase: Neighbourhood, inputs: Sequence[Value], setting: Setting) -> Facts:
    """An opaque convolution, as it runs on small pieces."""
    (copied,) = copies_of([phase.module], setting)
    runs = {}
    own = replace(phase, module=copied)
    if phase.on_adjacency is not None:
        own = replace(own, on_adjacency=sage_by_extremum(copied))
    for nodes, each, loops in _PIECES:
        piece = _piece(nodes, each, loops)
        there: dict[str, Any] = {
            key: repeated(value, piece.nnz if key in EDGE_VALUES else nodes).cpu()
            for key, value in setting.carried.items()
            if key in phase.given
        }
        weights = there.pop("edge_weight", None)
        piece = Adjacency(piece.indptr, piece.indices, weights)
        context = Context(piece, setting.training, **there)
        given = [v for v in (*there.values(), weights) if v is not None]
        given += [piece.edge_index, piece.indptr, piece.indices]
        values = [ones(value, nodes, setting) for value in inputs]
        runs[Sizes(nodes, piece.nnz, loops=loops)] = Sample(
            values, partial(_run, own, context), given
        )
    depth = Depth(own.hops, (inputs[-1].width,), (0,) * own.hops)
    learns = [value.learns for value in inputs]
    name, parts = type(phase.module).__name__, ("node", "edge", "loop", "fixed")
    found = profiled(name, [copied], learns, runs, parts, depth, gradients=setting.training)
    found = replace(found, reads=(sum(value.width for value in inputs),) * own.hops)
    if own.on_adjacency is not None:
        return _by_extremum(phase.module, found, inputs[-1], setting)
    listed = replace(found, lists_edges=True)
    return _attention(phase.module, listed, inputs[-1], setting)


def _run(phase: Neighbourhood, context: Context, inputs: Sequence[Tensor]) -> Tensor:
    *beside, x = inputs
    context.slots.update(zip(phase.slots, beside, strict=True))
    return phase(x, context)


def _piece(nodes: int, each: int, loops: int) -> Adjacency:
    """A ring, the first nodes of which have a self-loop more."""
    ring = rings([nodes], each)
    if not loops:
        return ring
    more = torch.arange(loops).expand(2, -1)
    edges = torch.cat([ring.edge_index, more], dim=1)
    return Adjacency.from_edge_index(edges, nodes)


def _attention(module: Any, found: Facts, x: Value, setting: Setting) -> Facts:
    """GAT's work (Veličković et al., ICLR 2018), whose scores are products that torch hides.

    One projection of rows, two scores a head, and a message for every edge; a node's own takes
    the place of its self-loops.
    """
    if type(module) is not pyg.GATConv or module.edge_dim is not None or module.lin is None:
        return found
    element, wide = setting.element, module.heads * module.out_channels
    arriving = Amount(node=1, edge=1, loop=-1) if module.add_self_loops else Amount(edge=1)
    own = int(module.add_self_loops)
    after = (module.bias is not None) + (not module.concat) + (module.res is not None)
    project = dense(x.width, wide, element)
    scores = over_rows(wide, element, 2, 2)._replace(depth=Depth(1, (module.out_channels,)))
    message = Kernel(
        "sparse",
        arriving.times(wide),
        arriving.times(element * (wide + module.heads) + 2 * POINTER),
        (wide,),
        # Two scores are added and mapped, made a softmax (its largest, its sum), and weigh rows;
        # a bias is added, or the mean over heads taken.
        Depth(6 + after, () if module.concat else (module.heads,), (own, own, own)),
    )
    beside = [] if module.res is None else [dense(x.width, module.res.weight.size(0), element)]
    forward = [
        found.forward[0],
        *(kernel._replace(aside=True) for kernel in beside),
        project,
        scores,
        message,
    ]
    backward: list[Kernel] = []
    if found.backward:
        # Back to the weights of messages, through the softmax to the scores, and to the rows.
        backward = [
            found.backward[0],
            message._replace(depth=Depth(1, (module.out_channels,))),
            scores._replace(depth=Depth(6, arriving=(own, own))),
            message._replace(depth=Depth(1, arriving=(own,)), aside=True),
            scores._replace(depth=Depth(1, rows=1), aside=True),
            *map(weight_gradient, (*beside, project)),
        ]
        if x.learns:
            rows = [row_gradient(kernel, element) for kernel in (*beside, project)]
            backward += [*(kernel._replace(aside=True) for kernel in rows[:-1]), rows[-1]]
    return replace(found, forward=tuple(forward), backward=tuple(backward))


def _by_extremum(module: Any, found: Facts, x: Value, setting: Setting) -> Facts:
    """GraphSAGE's extremum over neighbours: a comparison an entry; back, two walks to its rows."""
    walk = hop(module.lin_l.weight.size(1), setting.element, diagonal=False, vectors=0)
    projected = module.project and any(p.requires_grad for p in module.lin.parameters())
    back = (walk, walk) if x.learns or projected else ()
    return replace(found, forward=(walk, *found.forward), backward=(*found.backward, *back))

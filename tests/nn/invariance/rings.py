"""Rings, and the check of a layer on them."""

from __future__ import annotations

import torch

from gnnscale.graph import Adjacency
from gnnscale.nn import check_invariance
from gnnscale.nn.blocks.phases import Neighbourhood


def ring_of(count: int = 60, *, directed: bool = False) -> Adjacency:
    nodes = torch.arange(count)
    edges = torch.stack([nodes, (nodes + 1) % count])
    if not directed:
        edges = torch.cat([edges, edges.flip(0)], dim=1)
    weight = 0.5 + torch.rand(edges.size(1), generator=torch.Generator().manual_seed(0))
    return Adjacency.from_edge_index(edges, count, weight)


ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
RING, ONE_WAY = ring_of(), ring_of(directed=True)


def check(conv, adj=RING, hops=None, carried=None, **more):
    phase = Neighbourhood(conv, 0, hops)  # as it is, whether or not it reads as a propagation
    check_invariance(phase, [ROWS], adj, carried, **more)

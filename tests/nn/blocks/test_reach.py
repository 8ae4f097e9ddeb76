"""A halo is what it says."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.nn.blocks.reach import halo
from tests.helpers.layers import few
from tests.helpers.strategies import graphs


@few
@given(graphs(), st.integers(1, 4), st.data())
def test_a_halo_holds_every_edge_within_its_hops(graph, hops, data):
    n = graph.num_nodes
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    rows = torch.tensor(chosen)
    scratch = torch.full((n,), -1)
    around = halo(graph.adj, rows, hops, scratch)
    assert torch.equal(scratch, torch.full((n,), -1))
    assert torch.equal(around.nodes[: rows.numel()], rows)
    assert around.nodes.unique().numel() == around.nodes.numel()
    source, target = graph.edge_index
    inside = torch.zeros(n, dtype=torch.bool)
    inside[rows] = True
    arriving = torch.zeros(graph.num_edges, dtype=torch.bool)
    for _ in range(hops):
        arriving = inside[target]
        inside = inside.index_put((source[arriving],), torch.tensor(True))
    assert torch.equal(around.edges.sort().values, arriving.nonzero().squeeze(1))
    assert torch.equal(around.nodes.sort().values, inside.nonzero().squeeze(1))
    assert torch.equal(around.nodes[around.edge_index], graph.edge_index[:, around.edges])
    assert bool((around.edge_index[1].diff() >= 0).all())  # sorted, as some aggregations want

"""An under-declared reach is caught, a right one is not, and a halo is what it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.errors import InexactConvolution
from gnnscale.graph import Adjacency
from gnnscale.nn import check_reach
from gnnscale.nn.phases import Neighbourhood
from gnnscale.nn.reach import halo
from tests.nn.layers import DegreeConv, DifferenceConv, FarConv, few
from tests.strategies import graphs


@pytest.fixture(scope="module")
def ring() -> Adjacency:
    """400 nodes in a ring with some chords: wide, so that no halo is the whole graph."""
    nodes = torch.arange(400)
    near = torch.stack([nodes, (nodes + 1) % 400])
    chords = torch.stack([nodes[::7], (nodes[::7] + 11) % 400])
    edges = torch.cat([near, near.flip(0), chords, chords.flip(0)], dim=1)
    weight = 0.5 + torch.rand(edges.size(1), generator=torch.Generator().manual_seed(0))
    return Adjacency.from_edge_index(edges, 400, weight)


def phase_of(conv: nn.Module, hops: int | None = None) -> Neighbourhood:
    return Neighbourhood(conv, 0, hops)  # as it is, whether or not it reads as a propagation


FAR = {
    "degrees": (lambda: DegreeConv(5, 3), 2),
    "three steps": (lambda: FarConv(5, 3), 3),
    "TAG": (lambda: pyg.TAGConv(5, 3, K=3), 4),
    "Cheb": (lambda: pyg.ChebConv(5, 3, K=3), 4),  # two steps, and out-degrees
    "APPNP": (lambda: pyg.APPNP(K=3, alpha=0.1), 4),
    "SG": (lambda: pyg.SGConv(5, 3, K=2), 3),
    "ARMA": (lambda: pyg.ARMAConv(5, 3, num_layers=2), 3),
    "MixHop": (lambda: pyg.MixHopConv(5, 3, powers=[0, 1, 2]), 3),
    "max-aggregated GCN": (lambda: pyg.GCNConv(5, 3, aggr="max"), 2),
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_reach_is_found_out(ring, name, dtype):
    make, reach = FAR[name]
    conv = make().to(dtype)
    for hops in range(1, reach):
        with pytest.raises(InexactConvolution) as error:
            check_reach(phase_of(conv, hops), 5, ring)
        words = str(error.value)
        assert f"register({type(conv).__name__}, hops={hops + 1})" in words
    check_reach(phase_of(conv, reach), 5, ring)


NEAR = {
    "GAT": lambda: pyg.GATConv(5, 3),
    "GATv2": lambda: pyg.GATv2Conv(5, 3),
    "Transformer": lambda: pyg.TransformerConv(5, 3),
    "Edge": lambda: pyg.EdgeConv(nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4))),
    "PNA": lambda: pyg.PNAConv(5, 3, ["mean", "std"], ["amplification"], torch.tensor([0, 1, 4])),
    "max-aggregated SAGE": lambda: pyg.SAGEConv(5, 3, aggr="max"),
    "difference": lambda: DifferenceConv(5, 3),
}


@pytest.mark.parametrize("name", NEAR)
def test_one_hop_passes(ring, name):
    check_reach(phase_of(NEAR[name]()), 5, ring)


def test_edge_attributes_are_taken_along(ring):
    attr = torch.randn(ring.num_edges, 2)
    check_reach(phase_of(DifferenceConv(5, 3)), 5, ring, {"edge_attr": attr})
    check_reach(phase_of(pyg.GATConv(5, 3, edge_dim=2)), 5, ring, {"edge_attr": attr})


def test_a_known_propagation_with_a_hook_has_its_reach(ring):
    for conv in (pyg.GCNConv(5, 3), pyg.SAGEConv(5, 3), pyg.GINConv(nn.Linear(5, 3))):
        conv.register_forward_hook(lambda module, arguments, out: None)
        check_reach(phase_of(conv), 5, ring)


def test_a_norm_inside_a_layer_is_named_in_the_remedy(ring):
    inner = nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(InexactConvolution, match="take the norm out of it"):
        check_reach(phase_of(pyg.EdgeConv(inner)), 5, ring)


def test_small_graphs_are_not_taken_whole():
    nodes = torch.arange(20)
    edges = torch.stack([nodes, (nodes + 1) % 20])
    with pytest.raises(InexactConvolution, match="DegreeConv"):
        weight = torch.linspace(0.5, 2, 20)
        check_reach(phase_of(DegreeConv(5, 3)), 5, Adjacency.from_edge_index(edges, 20, weight))


@pytest.mark.parametrize("conv", [DegreeConv(5, 3), pyg.EdgeConv(nn.Linear(10, 3))])
def test_modes_are_set_back(ring, conv):
    conv.train()
    list(conv.modules())[-1].eval()
    modes = [module.training for module in conv.modules()]
    seen = []
    conv.register_forward_hook(lambda module, arguments, out: seen.append(module.training))
    try:
        check_reach(phase_of(conv), 5, ring)
    except InexactConvolution:
        assert isinstance(conv, DegreeConv)
    assert seen == [False, False]
    assert [module.training for module in conv.modules()] == modes


def test_torch_is_left_alone(ring):
    phase = phase_of(pyg.GATConv(5, 3, dropout=0.5))
    before = torch.get_rng_state()
    check_reach(phase, 5, ring)
    assert torch.equal(torch.get_rng_state(), before)


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

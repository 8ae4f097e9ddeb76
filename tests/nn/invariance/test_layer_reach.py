"""How far a layer reads is found out; PyG's own layers that read one hop pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import aggr
from torch_geometric.utils import degree

from gnnscale.errors import InexactConvolution
from gnnscale.nn import check_invariance
from gnnscale.nn.blocks.phases import Neighbourhood
from tests.helpers.layers import DegreeConv, DifferenceConv, FarConv
from tests.nn.invariance.rings import ONE_WAY, RING, check

# --- reach ------------------------------------------------------------------------------------

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
def test_a_reach_is_found_out_and_the_advice_is_right(name):
    make, reach = FAR[name]
    for hops in {1, reach - 1}:
        with pytest.raises(InexactConvolution) as error:
            check(make(), hops=hops)
        words = str(error.value)
        assert f"register({type(make()).__name__}, hops={reach})" in words
    check(make(), hops=reach)
    check(make().float().double(), hops=reach + 1)


class OutDegree(nn.Module):
    """Reads the edges that leave a node."""

    def forward(self, x, edge_index):
        return x * (1 + degree(edge_index[0], x.size(0), x.dtype))[:, None]


class Component(nn.Module):
    """Adds the greatest value that reaches a node from anywhere: no reach is enough."""

    def forward(self, x, edge_index):
        for _ in range(x.size(0)):
            x = x.index_reduce(0, edge_index[1], x[edge_index[0]], "amax")
        return x


def test_edges_that_leave_a_node_are_said_to_matter_where_not_all_have_a_reverse():
    check(OutDegree(), RING, hops=2)
    with pytest.raises(InexactConvolution, match=r"hops=2"):
        check(OutDegree(), RING, hops=1)
    for hops in (1, 2):
        with pytest.raises(InexactConvolution, match=r"undirected"):
            check(OutDegree(), ONE_WAY, hops=hops)
    with pytest.raises(InexactConvolution, match=r"edges that leave.*Make the graph undirected"):
        check(pyg.ChebConv(5, 4, K=2), ONE_WAY)


def test_no_reach_is_advised_where_none_is_enough():
    with pytest.raises(InexactConvolution, match=r"No reach up to 16 hops") as error:
        check(Component())
    assert "hops=" not in str(error.value)


# --- PyG's own --------------------------------------------------------------------------------

NEAR = {
    "GAT": lambda: pyg.GATConv(5, 3, dropout=0.5),
    "GATv2": lambda: pyg.GATv2Conv(5, 3),
    "Edge": lambda: pyg.EdgeConv(nn.Sequential(nn.Linear(10, 4), nn.BatchNorm1d(4))),
    "PNA": lambda: pyg.PNAConv(5, 3, ["mean", "std"], ["amplification"], torch.tensor([0, 1, 4])),
    "max-aggregated SAGE": lambda: pyg.SAGEConv(5, 3, aggr="max"),
    "median": lambda: pyg.SAGEConv(5, 3, aggr="median"),
    "set transformer": lambda: pyg.SAGEConv(5, 3, aggr=aggr.SetTransformerAggregation(5, heads=1)),
    "power mean": lambda: pyg.GENConv(5, 3, aggr="powermean", learn_p=True),
    "difference": lambda: DifferenceConv(5, 3),
    "lazy": lambda: pyg.GATConv(-1, 3),
}


@pytest.mark.parametrize("name", NEAR)
@pytest.mark.parametrize("adj", [RING, ONE_WAY], ids=["undirected", "directed"])
def test_one_hop_passes(name, adj):
    check(NEAR[name](), adj)


def test_edge_attributes_are_taken_along():
    attr = torch.randn(RING.num_edges, 2)
    for conv in (DifferenceConv(5, 3), pyg.GATConv(5, 3, edge_dim=2)):
        check(conv, carried={"edge_attr": attr})


def test_a_known_propagation_with_a_hook_has_its_reach():
    for conv in (pyg.GCNConv(5, 3), pyg.SAGEConv(5, 3), pyg.GINConv(nn.Linear(5, 3))):
        conv.register_forward_hook(lambda module, arguments, out: None)
        check(conv)
    conv.register_forward_hook(lambda module, arguments, out: out - out.mean(0))
    with pytest.raises(InexactConvolution, match="GINConv depends on rows"):
        check(conv)


def scripted():
    parts = nn.Linear(10, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
    return torch.jit.script(nn.Sequential(*parts))


class Held(nn.Module):
    """Looks up what is an id, keeps an array and a gate, and draws edges in training."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5)
        self.array = np.arange(3)

    def forward(self, x, edge_index):
        if self.training:
            edge_index = edge_index[:, torch.rand(edge_index.size(1)) > 0.2]
        h = self.embedding(x[:, 0].long())
        return h.index_add(0, edge_index[1], h[edge_index[0]])


class InHalf(nn.Module):
    """Computes in half precision whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SAGEConv(5, 3).to(torch.bfloat16)

    def forward(self, x, edge_index):
        return self.conv(x.to(torch.bfloat16), edge_index).to(x.dtype)


def test_unusual_layers_pass():
    check(InHalf())
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(10, 4))
    for inner in (scripted(), normed):
        check(pyg.EdgeConv(inner))
    ids = torch.randint(0, 7, (9, 5)).float()
    check_invariance(Neighbourhood(Held(), 0), [ids], RING)


ALL_ROWS = {
    "GraphNorm": lambda: pyg.GraphNorm(4),
    "PairNorm": lambda: pyg.PairNorm(),
    "LayerNorm": lambda: pyg.LayerNorm(4),
    "InstanceNorm": lambda: pyg.InstanceNorm(4),
    "MeanSubtractionNorm": lambda: pyg.MeanSubtractionNorm(),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4, track_running_stats=False),
}


@pytest.mark.parametrize("name", ALL_ROWS)
def test_norms_that_read_all_rows_are_refused_inside_other_modules(name):
    inner = nn.Sequential(nn.Linear(10, 4), ALL_ROWS[name]())
    for hops in (None, 9):
        with pytest.raises(InexactConvolution, match=f"EdgeConv holds {name}.*norm of a Block"):
            check(pyg.EdgeConv(inner), hops=hops)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_aggregations_that_pad_to_the_greatest_degree_are_refused(kind):
    own = "lstm" if kind == "lstm" else aggr.GRUAggregation(5, 5)
    for level in ("pieces", "whole"):
        with pytest.raises(InexactConvolution, match=r"'mean', 'max' or 'softmax'") as error:
            check(pyg.SAGEConv(5, 3, aggr=own), hops=9, level=level)
        assert "hops=" not in str(error.value)

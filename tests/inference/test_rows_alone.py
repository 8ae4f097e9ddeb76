"""A few nodes' outputs, from the rows that they depend on, are those of the whole graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GATConv, SAGEConv

import gnnscale as gs
from gnnscale.inference import local, predict
from gnnscale.nn import GCN, GIN, SGC, Block, GraphSAGE, LayeredGNN


def gat(in_channels, layers):
    blocks = [Block(GATConv(in_channels, 6, add_self_loops=False))]
    blocks += [Block(GATConv(6, 6)) for _ in range(layers - 1)]
    return LayeredGNN(blocks, head=torch.nn.Linear(6, 3))


MODELS = {
    "gcn": lambda layers: GCN(4, 6, layers, 3),
    "sage": lambda layers: GraphSAGE(4, 6, layers, 3, norm="batch_norm"),
    "gin": lambda layers: GIN(4, 6, layers, 3, norm="layer_norm"),
    "sgc": lambda layers: SGC(4, 6, layers, 3),
    "gat": lambda layers: gat(4, layers),
    "residual": lambda layers: GCN(4, 6, layers, 3, residual=True, jk="cat"),
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_outputs_are_those_of_the_whole_graph(name, layers, weighted, seed):
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(5, 40))
    edges = rng.integers(0, nodes, (2, int(rng.integers(0, 3 * nodes))))
    weight = rng.random(edges.shape[1], np.float32) if weighted and name == "gcn" else None
    graph = gs.Graph.from_arrays(
        edges, x=rng.random((nodes, 4), np.float32), num_nodes=nodes, edge_weight=weight
    )
    torch.manual_seed(seed)
    model = MODELS[name](layers).eval()
    wanted = torch.from_numpy(rng.integers(0, nodes, 3))
    whole = predict(model, graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "FEWEST", 0)
        patch.setattr(local, "SHARE", 1)
        near = local.around(model, graph, wanted)
        if near is not None:
            small, rows = near
            found = predict(model, small)[rows]
            torch.testing.assert_close(found, whole[wanted], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            predict(model, graph, nodes=wanted), whole[wanted], rtol=1e-4, atol=1e-5
        )


def test_only_what_is_depended_on_is_read(monkeypatch):
    monkeypatch.setattr(local, "FEWEST", 0)
    ring = np.arange(200)
    graph = gs.Graph.from_arrays(
        np.stack([ring, (ring + 1) % 200]), x=np.eye(200, 4, dtype=np.float32)
    )
    model = GCN(4, 6, 2, 3).eval()
    near = local.around(model, graph, torch.tensor([50]))
    assert near is not None
    assert near[0].num_nodes == 4 and near[1].tolist() == [3]  # two hops, and a third's degrees
    assert local.around(GCN(4, 6, 2, 3, norm="graph_norm").eval(), graph, near[1]) is None
    assert local.around(model, graph, torch.arange(100)) is None  # much of the graph


def test_what_may_read_other_rows_is_left_to_the_whole(monkeypatch):
    """Whose reach is declared, or not known, is checked where all rows are computed."""
    monkeypatch.setattr(local, "FEWEST", 0)
    ring = np.arange(200)
    graph = gs.Graph.from_arrays(np.stack([ring, (ring + 1) % 200]), x=np.eye(200, 4))
    rows = torch.tensor([50])
    assert local.around(gat(4, 2), graph, rows) is None

    class Centred(torch.nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    blocks = [Block(SAGEConv(4, 6), act=Centred()), Block(SAGEConv(6, 3))]
    assert local.around(LayeredGNN(blocks), graph, rows) is None
    several = gs.Graph.from_arrays(graph.edge_index, x=np.eye(200, 4), node_ptr=[0, 200])
    assert local.around(GCN(4, 6, 2, 3), several, rows) is None

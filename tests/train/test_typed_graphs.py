"""Types of `to_homogeneous()`: training and prediction equal PyG's on the full graph."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional
from torch_geometric.data import HeteroData
from torch_geometric.nn import FiLMConv, HEATConv, RGATConv, RGCNConv

import gnnscale as gs


def homogeneous():
    torch.manual_seed(0)
    hetero = HeteroData()
    for name in ("paper", "author"):
        hetero[name].x = torch.randn(30, 6)
        hetero[name].y = torch.randint(3, (30,))
        hetero[name].train_mask = torch.rand(30) < 0.5
    for ends in (("paper", "by", "author"), ("author", "wrote", "paper"), ("paper", "to", "paper")):
        hetero[ends].edge_index = torch.randint(30, (2, 70))
        hetero[ends].edge_attr = torch.randn(70, 2)
    return hetero.to_homogeneous()


MODELS = {
    "RGCN": lambda: [RGCNConv(6, 8, 3), RGCNConv(8, 3, 3)],
    "FiLM": lambda: [FiLMConv(6, 8, 3), FiLMConv(8, 3, 3)],
    "RGAT": lambda: [RGATConv(6, 8, 3), RGATConv(8, 3, 3, edge_dim=2)],
    "HEAT": lambda: [HEATConv(6, 8, 2, 3, 2, 2, 4), HEATConv(8, 3, 2, 3, 2, 2, 4)],
}


def theirs(convs, data):
    x = data.x
    for number, conv in enumerate(convs):
        types = {"edge_type": data.edge_type}
        if isinstance(conv, HEATConv):
            types["node_type"] = data.node_type
        if isinstance(conv, HEATConv) or getattr(conv, "edge_dim", None):
            types["edge_attr"] = data.edge_attr
        x = conv(x, data.edge_index, **types)
        x = x.relu() if number == 0 else x
    return x


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_all_clusters_and_prediction_in_chunks(name, where, tmp_path):
    data, convs = homogeneous(), MODELS[name]()
    plain = copy.deepcopy(convs)
    optimizer = torch.optim.SGD([p for conv in plain for p in conv.parameters()], lr=0.1)
    out = theirs(plain, data)[data.train_mask]
    functional.cross_entropy(out, data.y[data.train_mask]).backward()
    optimizer.step()
    graph = gs.Graph.from_data(data)
    part = gs.partition(graph, 4, method="random")
    clustered = gs.cluster(graph, part, tmp_path / "store" if where == "disk" else None)
    trainer = gs.ClusterTrainer(
        convs, clustered, clusters_per_batch=4, epochs=1, optimizer="sgd", lr=0.1, chunk_rows=16,
        progress=False,
    )  # fmt: skip
    trainer.fit()
    with torch.no_grad():
        expected = theirs(plain, data)
    torch.testing.assert_close(trainer.predict(), expected, rtol=1e-4, atol=1e-4)


def test_layers_one_by_one_and_graph_by_graph():
    data = homogeneous()
    convs = MODELS["RGCN"]()
    trainer = gs.LayerwiseTrainer(convs, data, controller=gs.FixedEpochs(1), progress=False)
    trainer.fit()
    with torch.no_grad():
        expected = theirs(convs, data)
    torch.testing.assert_close(trainer.predict(), expected, rtol=1e-4, atol=1e-4)
    several = [homogeneous() for _ in range(3)]
    for number, one in enumerate(several):
        one.y = torch.tensor([number % 2])
        del one.train_mask
    encoder = MODELS["HEAT"]()
    graphs = gs.GraphTrainer(
        encoder, several, split={"train": [0, 1], "test": [2]}, epochs=1, progress=False
    )
    graphs.fit()
    with torch.no_grad():
        expected = torch.stack([theirs(encoder, one).mean(0) for one in several])
    torch.testing.assert_close(graphs.predict(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_missing_or_beyond_is_said_before_training():
    data = homogeneous()
    with pytest.raises(gs.GnnscaleError, match="build it with num_relations=3"):
        gs.ClusterTrainer([RGCNConv(6, 3, 2)], data, num_parts=2, progress=False).fit()
    data.edge_type = None
    trainer = gs.ClusterTrainer([RGCNConv(6, 3, 3)], data, num_parts=2, progress=False)
    with pytest.raises(gs.GnnscaleError, match="RGCNConv needs edge_type"):
        trainer.predict()
    with pytest.raises(gs.GnnscaleError, match="RGCNConv needs edge_type"):
        trainer.fit()

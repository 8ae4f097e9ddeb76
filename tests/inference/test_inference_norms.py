"""Every norm is exact in chunks: what a full forward pass gives, whatever it runs over."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCNConv

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.inference import stream
from tests.helpers.layers import assert_equal, shaken

WIDTH, PARTS = 6, 5
NORMS = {
    "batch": lambda: gs.nn.BatchNorm(WIDTH),
    "batch, none kept": lambda: gs.nn.BatchNorm(WIDTH, track_running_stats=False),
    "groups": lambda: gs.nn.DiffGroupNorm(WIDTH, 2),
    "groups, none kept": lambda: gs.nn.DiffGroupNorm(WIDTH, 2, track_running_stats=False),
    "graph, running": lambda: gs.nn.GraphNorm(WIDTH, over="cluster", running=True),
    "instance, running": lambda: gs.nn.InstanceNorm(WIDTH, track_running_stats=True),
    "layer, by node": lambda: gs.nn.LayerNorm(WIDTH, mode="node"),
    "of channels": lambda: nn.GroupNorm(2, WIDTH),  # PyG has none; known to nobody
}
OVER = {
    "graph": lambda over: gs.nn.GraphNorm(WIDTH, over=over),
    "graph size": lambda over: gs.nn.GraphSizeNorm(over=over),
    "instance": lambda over: gs.nn.InstanceNorm(WIDTH, over=over),
    "layer": lambda over: gs.nn.LayerNorm(WIDTH, over=over),
    "mean": lambda over: gs.nn.MeanSubtractionNorm(over=over),
    "pair": lambda over: gs.nn.PairNorm(over=over),
    "pair, each": lambda over: gs.nn.PairNorm(scale_individually=True, over=over),
}
CASES = [(name, "batch") for name in NORMS]
CASES += [(name, over) for name in OVER for over in ("batch", "cluster", "graph")]


@pytest.fixture(scope="module")
def clustered():
    """Three graphs of 20, 1 and 39 nodes in five clusters."""
    torch.manual_seed(0)
    ptr = torch.tensor([0, 20, 21, 60])
    edges = torch.cat([torch.randint(a, b, (2, 3 * (b - a))) for a, b in ((0, 20), (21, 60))], 1)
    graph = gs.Graph.from_arrays(
        edges[:, edges[0] != edges[1]], x=torch.randn(60, 4), num_nodes=60, node_ptr=ptr
    )
    return gs.cluster(graph, gs.partition(graph, num_parts=PARTS, method="random", seed=0))


@pytest.mark.parametrize(("name", "over"), CASES)
def test_chunks_equal_the_full_forward(clustered, name, over, tmp_path):
    make = NORMS[name] if name in NORMS else lambda: OVER[name](over)
    blocks = [
        gs.nn.Block(GCNConv(4, WIDTH), norm=make()),
        gs.nn.Block(GCNConv(WIDTH, WIDTH), norm=make(), residual=True),
        gs.nn.Block(nn.Linear(WIDTH, 3), act=None),
    ]
    model, graph = shaken(gs.nn.LayeredGNN(blocks)), clustered.graph
    segments = {"cluster": clustered.offsets, "graph": graph.node_ptr}
    model.train()(graph.x.double(), graph.adj, segments=segments)  # moves what is kept
    model.eval()
    whole = model(graph.x.double(), graph.adj, segments=segments)
    for rows, storage in ((7, None), (7, tmp_path), (60, None)):
        chunks = stream(
            model, graph, chunk_rows=rows, storage=storage, segments={"cluster": clustered.offsets}
        )
        assert_equal(torch.cat([out for *_, out in chunks]), whole, 1e-8)


def test_clusters_are_asked_for(clustered):
    model = gs.nn.GCN(4, WIDTH, 2, 3, norm=gs.nn.GraphNorm(WIDTH, over="cluster"))
    with pytest.raises(InputError, match=r"GraphNorm\(over='cluster'\) needs a ClusteredGraph"):
        list(stream(model, clustered.graph))


def test_batches_say_which_rows_are_of_which_graph(clustered):
    loader = gs.ClusterLoader(clustered, clusters_per_batch=3, prefetch=0)
    ptr = clustered.graph.node_ptr
    for batch in loader:
        owner = torch.searchsorted(ptr, clustered.position[batch.node_id].long(), right=True) - 1
        found = batch.segments["graph"]
        assert torch.repeat_interleave(found.diff()).tolist() == (
            torch.unique(owner, return_inverse=True)[1].tolist()
        )
        assert batch.segments["cluster"] is batch.ptr


@pytest.mark.parametrize("over", ["cluster", "graph"])
def test_a_trained_run_predicts_by_its_own_clusters(clustered, over, tmp_path):
    graph = gs.Graph.from_arrays(
        clustered.original().adj.edge_index,
        x=torch.randn(60, 4),
        y=torch.arange(60) % 3,
        node_ptr=clustered.graph.node_ptr,
        train_mask=torch.arange(60) % 2 == 0,
        val_mask=torch.arange(60) % 2 == 1,
    )
    norm = gs.nn.GraphNorm(WIDTH, over=over)
    model = gs.nn.GCN(4, WIDTH, 2, 3, norm=norm)
    trainer = gs.ClusterTrainer(
        model, graph, num_parts=PARTS, clusters_per_batch=2, epochs=2, run_dir=tmp_path / "run"
    )
    trainer.fit()
    wanted = trainer.predict()
    model = gs.nn.GCN(4, WIDTH, 2, 3, norm=gs.nn.GraphNorm(WIDTH, over=over))
    loaded = gs.load_run(tmp_path / "run", model=model, graph=graph).trainer
    assert_equal(loaded.predict(), wanted, 1e-5)  # perhaps in the original order: sums differ
    # The same in one piece: all of its clusters at once.
    whole = loaded.clustered.graph
    segments = {"cluster": loaded.clustered.offsets, "graph": whole.node_ptr}
    with torch.no_grad():
        out = model.eval()(whole.x, whole.adj, segments=segments)[loaded.clustered.position]
    assert_equal(out, wanted, 1e-5)

"""precompute=True: P·X of the whole view in place of the batch's own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch_geometric.utils import subgraph

import gnnscale as gs
from gnnscale.errors import InputError, StoreError, UnsupportedModel
from gnnscale.graph import Graph, open_graph, verify_store
from gnnscale.graph import subgraph as subgraph_of
from gnnscale.kernels import CSR
from gnnscale.nn import first_propagation
from gnnscale.train import ClusterTrainer
from gnnscale.train.steps import first_hop
from gnnscale.train.steps.first_hop import first_hop as compute
from tests.helpers.graphs import several_graphs
from tests.helpers.memory import linux, resident_file_pages
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, assert_same, weights_of
from tests.helpers.strategies import graphs, partitions

MODELS = {
    "gcn": lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES),
    "gcn-wide": lambda: gs.nn.GCN(IN, 2, 2, CLASSES, norm="batch_norm"),
    "sage": lambda: gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES),
    "gin": lambda: gs.nn.GIN(IN, HIDDEN, 2, CLASSES, train_eps=True),
    "sgc": lambda: gs.nn.LayeredGNN([gs.nn.Block(pyg.SGConv(IN, CLASSES, K=3), act=None)]),
    "tag": lambda: gs.nn.LayeredGNN([pyg.TAGConv(IN, HIDDEN, K=2), pyg.GCNConv(HIDDEN, CLASSES)]),
    "residual": lambda: gs.nn.LayeredGNN(
        [gs.nn.Block(pyg.SAGEConv(IN, IN), residual=True), pyg.GATConv(IN, CLASSES)]
    ),
}


def dense(x):
    return x.to_dense() if isinstance(x, CSR) else x


def trainer_of(model, graph, run_dir=None, **options):
    settings = {"method": "random", "precompute": True, "keep": "last", "progress": False}
    if isinstance(graph, Graph):
        settings["num_parts"] = 6
    return ClusterTrainer(model, graph, run_dir=run_dir, **{**settings, **options})


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize(("sparse", "inductive"), [(False, True), (True, False)])
def test_with_all_clusters_at_once_it_is_full_batch(kind, sparse, inductive):
    graph = several_graphs("masks", sparse=sparse)
    model = MODELS[kind]().double()
    plain = copy.deepcopy(model)
    options = {"clusters_per_batch": 6, "epochs": 4, "inductive": inductive}
    trainer = trainer_of(model, graph, **options)
    trainer.fit()
    trainer_of(plain, graph, precompute=False, **options).fit()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-7, atol=1e-9)
    (batch,) = trainer.loader
    assert isinstance(batch.first_hop, CSR) == sparse


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("kind", ["mean", "gcn"])
def test_batches_carry_rows_of_the_whole(sparse, inductive, kind, monkeypatch):
    """A loop over the same batches, whose first layer reads rows of P·X of the whole graph."""
    monkeypatch.setattr(first_hop, "_PASS_BYTES", 2 * 72 * 8 * 2)  # two columns a pass
    graph = several_graphs("masks", sparse=sparse)
    conv = pyg.SAGEConv(IN, HIDDEN) if kind == "mean" else pyg.GCNConv(IN, HIDDEN)
    second = pyg.GCNConv(HIDDEN, CLASSES)
    model = gs.nn.LayeredGNN([gs.nn.Block(conv), gs.nn.Block(second, act=None)]).double()
    mine = copy.deepcopy(model)
    trainer = trainer_of(model, graph, clusters_per_batch=2, epochs=2, inductive=inductive)
    trainer.fit()

    conv, second = (block.conv for block in mine.blocks)
    seen = graph.train_mask | (not inductive)
    x = dense(graph.x)
    edges = subgraph(seen, graph.edge_index)[0]
    if kind == "mean":
        whole = pyg.SimpleConv("mean")(x, edges)
    else:
        bare = copy.deepcopy(conv)
        bare.lin, bare.bias = nn.Identity(), None
        whole = bare(x, edges)
    step = torch.optim.Adam(mine.parameters(), lr=0.01)
    trainer.loader.epoch = 0
    for batch in [batch for _ in range(2) for batch in trainer.loader]:
        rows, own = whole[batch.node_id], x[batch.node_id]
        torch.testing.assert_close(dense(batch.first_hop), rows)
        h = conv.lin_l(rows) + conv.lin_r(own) if kind == "mean" else conv.lin(rows) + conv.bias
        out = second(h.relu(), batch.edge_index)[batch.train_mask]
        step.zero_grad()
        functional.cross_entropy(out, batch.y[batch.train_mask]).backward()
        step.step()
    for name, value in mine.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("view", ["all", "train"])
def test_a_store_keeps_it(sparse, view, tmp_path, monkeypatch, caplog):
    graph = several_graphs("masks", sparse=sparse)
    part = gs.partition(graph, 6, "random", view=view)
    in_memory = gs.cluster(graph, part).view(view)
    seen = gs.cluster(graph, part, tmp_path / "store").view(view)
    mean = first_propagation(MODELS["sage"]())
    expected = compute(in_memory, mean)
    found = compute(seen, mean)
    assert torch.equal(dense(found), dense(expected))
    kept = tmp_path / "store" / "first_hop"
    (folder,) = kept.iterdir()
    verify_store(seen.path)

    again = gs.open_graph(tmp_path / "store").view(view)
    with monkeypatch.context() as patch:
        patch.setattr(first_hop, "_compute", None)
        assert torch.equal(dense(compute(again, mean)), dense(expected))
    # Another P, another view, another graph: computed, and kept as well.
    compute(again, first_propagation(MODELS["gcn"]()))
    compute(again.view("all" if view == "train" else "train"), mean)
    assert len(list(kept.iterdir())) == 3

    file = max(folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=rf"first_hop/{folder.name}/{file.name}"):
        verify_store(seen.path)
    file.write_bytes(content[:-5])
    assert torch.equal(dense(compute(again, mean)), dense(expected))
    assert "computed again" in caplog.text
    gs.cluster(graph, part, tmp_path / "store")  # replaced with all that was kept in it
    assert not kept.exists()


@pytest.mark.parametrize("view", ["all", "train"])
@pytest.mark.parametrize("kind", ["gcn", "sgc", "tag"])
def test_columns_and_rows_in_passes_give_the_same(kind, view, tmp_path, monkeypatch):
    graph = several_graphs("masks")
    part = gs.partition(graph, 6, "random", view=view)
    propagation = first_propagation(MODELS[kind]())
    expected = compute(gs.cluster(graph, part).view(view), propagation)
    monkeypatch.setattr(first_hop, "_PASS_BYTES", 2 * 72 * 8)
    monkeypatch.setattr(first_hop, "_CHUNK_BYTES", 8 * IN * 5)
    found = compute(gs.cluster(graph, part, tmp_path / "store").view(view), propagation)
    assert torch.equal(found, expected)


@linux
@pytest.mark.parametrize("view", ["all", "train"])
def test_nothing_of_a_store_stays_resident(view, tmp_path):
    nodes, numbers = 20_000, torch.Generator().manual_seed(0)
    graph = Graph.from_arrays(
        torch.randint(nodes, (2, 1_500_000), generator=numbers),  # 6 MB of columns, 1,400 pages
        x=torch.rand(nodes, 200, generator=numbers),  # 16 MB of features
        y=torch.zeros(nodes, dtype=torch.int64),
        train_mask=torch.arange(nodes) % 2 == 0,
    )
    part = gs.Partition(torch.arange(nodes, dtype=torch.int32) % 9, 9)
    seen = gs.cluster(graph, part, tmp_path / "store").view(view)
    gcn = first_propagation(gs.nn.GCN(200, HIDDEN, 2, CLASSES))
    compute(seen, gcn)
    assert resident_file_pages(tmp_path) < 700


@given(
    graphs(features=IN, sparse_x=None),
    st.data(),
    st.sampled_from(["sage", "gcn"]),
    st.sampled_from(["all", "train"]),
)
def test_it_is_that_of_the_view(graph, data, kind, view):
    seen = gs.cluster(graph, data.draw(partitions(graph))).view(view)
    propagation = first_propagation(MODELS[kind]().double())
    nodes = graph.train_mask | (view == "all")
    part = subgraph_of(graph, nodes)
    expected = torch.zeros(graph.num_nodes, IN, dtype=torch.float64)
    expected[nodes] = propagation.aggregate(dense(part.x), part.adj)
    order = seen.node_id[nodes[seen.node_id]]  # the view's: training nodes of cluster 0, of 1, …
    torch.testing.assert_close(dense(compute(seen, propagation)), expected[order])


def test_activations_may_be_computed_twice():
    found = []
    for twice in (False, True):
        torch.manual_seed(0)
        options = {"checkpoint_activations": twice, "epochs": 2, "clusters_per_batch": 2}
        trainer = trainer_of(MODELS["residual"]().double(), several_graphs("masks"), **options)
        trainer.fit()
        found.append(weights_of(trainer))
    assert_same(*found)


def test_a_run_on_a_store_equals_one_in_memory(tmp_path):
    graph = several_graphs("first")
    part = gs.partition(graph, 4, "random", view="train")
    found = []
    for path in (None, tmp_path / "store", tmp_path / "store"):
        data = open_graph(path) if found[1:] else gs.cluster(graph, part, path)
        torch.manual_seed(0)
        trainer = trainer_of(MODELS["gcn"]().double(), data, inductive=True, clusters_per_batch=2)
        trainer.fit()
        found.append(weights_of(trainer))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_what_training_changes_is_not_computed_before():
    graph = several_graphs("masks")
    early = gs.nn.Block(pyg.GCNConv(IN, HIDDEN), dropout=0.5, order="dropout-conv-norm-act")
    normed = gs.nn.Block(pyg.GCNConv(IN, IN), norm="layer_norm", order="norm-act-dropout-conv")
    for first, message in [
        (early, "begins with dropout.*let the first block begin with its convolution"),
        (normed, "begins with LayerNorm"),
        (nn.Linear(IN, HIDDEN), "begins with Linear"),
        (pyg.GATConv(IN, HIDDEN), "begins with GATConv, an opaque convolution"),
    ]:
        with pytest.raises(UnsupportedModel, match=message):
            trainer_of(gs.nn.LayeredGNN([first]), graph)
    bare = Graph.from_arrays(graph.edge_index, y=graph.y, train_mask=graph.train_mask)
    with pytest.raises(InputError, match="precompute=True: the graph has no features"):
        trainer_of(gs.nn.GCN(IN, HIDDEN, 2, CLASSES), bare)


def test_more_than_a_quarter_of_memory_is_refused(monkeypatch):
    monkeypatch.setattr(first_hop.os, "sysconf", lambda _: 8)
    for sparse in (False, True):
        trainer = trainer_of(MODELS["gcn"]().double(), several_graphs("masks", sparse=sparse))
        with pytest.raises(InputError, match=r"takes [\d,]+ bytes or more, and a quarter .* is 16"):
            trainer.fit()

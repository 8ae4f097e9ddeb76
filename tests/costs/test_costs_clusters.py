"""A training step within a bound: the largest batch is known before any is drawn."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.costs.clusters import Batches
from gnnscale.costs.layout import check_layout
from gnnscale.costs.passes import on_rings, pass_cost
from gnnscale.costs.peak import pass_peak
from gnnscale.errors import InputError, MemoryBound
from gnnscale.inference import predict
from gnnscale.loader import Assembler, ClusterLoader
from gnnscale.nn import Block, Context, LayeredGNN
from tests.helpers.small_runs import small_graph
from tests.helpers.strategies import graphs

pytestmark = pytest.mark.usefixtures("code_that_takes_nothing")

few = settings(max_examples=15, deadline=None)


@few
@given(graphs(min_nodes=4, edge_attr=True), st.integers(2, 6), st.integers(1, 4), st.booleans())
def test_no_batch_is_larger_than_is_said(graph, parts, clusters, inductive):
    part = gs.partition(graph, min(parts, graph.num_nodes), method="random", seed=0)
    clustered = gs.cluster(graph, part)
    seen = clustered.view("train") if inductive else clustered
    loader = ClusterLoader(seen, clusters, seed=1)
    batches = Batches(seen, loader.clusters_per_batch)
    said = [batches.largest(loader.clusters_per_batch, counted) for counted in (True, False)]
    for _ in range(3):
        for batch in loader:
            for nodes, edges in said:
                assert batch.num_nodes <= nodes
                assert batch.adj.nnz <= edges
            small = on_rings(batch, [3, 1, 5], 2)
            assert (small.num_nodes, small.adj.nnz) == (len(small.x), len(small.edge_attr))
            assert small.adj.indptr.diff().tolist() == [2] * 9
            assert small.edge_index[:, :6].max() <= 2 and small.ptr.tolist() == [0, 3, 4, 9]


MODELS = {
    "GAT": lambda: gs.nn.GAT(5, 8, 2, 3),
    "GCN": lambda: gs.nn.GCN(5, 8, 2, 3, norm="batch_norm"),
    "PNA": lambda: LayeredGNN(
        [Block(pyg.PNAConv(5, 8, ["max"], ["identity"], torch.tensor([1, 2, 2])), "graph_norm")]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_takes_what_is_said_whatever_its_batch(name):
    model, graph = MODELS[name](), small_graph(nodes=300)
    graph.x = graph.x[:, :5].contiguous()
    clustered = gs.cluster(graph, gs.partition(graph, 6, method="random", seed=0))
    assemble = Assembler(clustered)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def forward(batch):
        return model(batch.x, batch.adj, context=Context.of(batch, training=False))

    sample = assemble(torch.tensor([0]))
    cost = pass_cost(forward, model, sample, "1GB", training=True, copies=2)
    for clusters in ([1], [1, 2], [0, 1, 2, 3, 4, 5]):
        batch = assemble(torch.tensor(clusters))
        taken = pass_peak(forward, model, batch, training=True)
        assert taken <= cost.of(batch.num_nodes, batch.adj.nnz) <= 4 * taken + 10**5
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(parameter.grad is None for parameter in model.parameters())


def trainer_with(memory, clusters=None):
    torch.manual_seed(0)
    graph = small_graph(nodes=600)
    model = gs.nn.GAT(graph.num_features, 16, 2, graph.num_classes)
    return gs.ClusterTrainer(
        model, graph, num_parts=12, clusters_per_batch=clusters, epochs=1, method="random",
        memory=memory, progress=False,
    )  # fmt: skip


def test_a_batch_that_has_no_room_is_refused_with_what_would_do(caplog):
    with pytest.raises(InputError, match="a step on 12 clusters takes up to") as refused:
        trainer_with("1MB", 12).fit()
    said = str(refused.value)
    trainer_with(re.search(r"give memory='(.*?)'", said)[1], 12).fit()
    fewer = int(re.search(r"clusters_per_batch=(\d+)", said)[1])
    trainer = trainer_with("1MB", fewer)
    trainer.fit()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    chosen = trainer_with("1MB")
    wanted = chosen.config.clusters_per_batch
    chosen.fit()
    assert fewer <= chosen.loader.clusters_per_batch < wanted
    assert any("may take more than memory='1MB'" in r.getMessage() for r in caplog.records)


def test_an_opaque_layer_trained_alone_has_the_same_bound(caplog):
    graph = small_graph(nodes=600)
    part = gs.partition(graph, 12, method="random")

    def trained(memory, clusters):
        model = gs.nn.GAT(graph.num_features, 16, 2, graph.num_classes)
        gs.LayerwiseTrainer(
            model, gs.cluster(graph, part), clusters_per_batch=clusters, memory=memory,
            controller=gs.FixedEpochs(1), progress=False,
        ).fit()  # fmt: skip

    with pytest.raises(InputError, match="a step on 12 clusters takes up to") as refused:
        trained("900kB", 12)
    trained(re.search(r"give memory='(.*?)'", str(refused.value))[1], 12)
    trained("900kB", None)
    assert any("may take more than memory='900kB'" in r.getMessage() for r in caplog.records)


def test_a_copy_of_the_graph_counts(tmp_path):
    trainer = trainer_with("10kB", 1)
    with pytest.raises(InputError, match=r"a copy of it, .*laid out in files"):
        check_layout(trainer.graph, 1, "random", "10kB", 0, files=False)
    # Of what has no room that is said which asks for most, before anything is laid out.
    with pytest.raises(MemoryBound) as refused:
        trainer.fit()
    with pytest.raises(InputError, match="not in clusters yet"):
        trainer.clustered  # noqa: B018
    bound = re.search(r"give memory='(.*?)'", str(refused.value))[1]
    trainer_with(bound, 1).prepare()


def test_what_is_predicted_counts_unless_it_goes_to_a_file(tmp_path):
    graph = small_graph(nodes=1000)
    trainer = gs.ClusterTrainer(
        gs.nn.GCN(5, 4, 2, 400), graph, num_parts=4, method="random", memory="1GB", progress=False
    )
    expected = trainer.predict()
    given = {"position": trainer.position, "memory": "1.5MB"}
    with pytest.raises(InputError, match="held already") as refused:
        predict(trainer.model, trainer.graph, **given)
    bound = re.search(r"give memory='(.*?)'", str(refused.value))[1]
    found = predict(trainer.model, trainer.graph, **{**given, "memory": bound})
    assert torch.allclose(found, expected, atol=1e-5)
    found = predict(trainer.model, trainer.graph, out=tmp_path / "out.npy", **given)
    assert torch.allclose(found, expected, atol=1e-5)

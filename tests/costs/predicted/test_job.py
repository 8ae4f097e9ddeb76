"""What is planned for, and the batches that a configuration makes of it."""

import pytest
import torch

import gnnscale as gs
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.memory import run_memory


@pytest.fixture(scope="module")
def graph():
    return gs.load("synthetic:planted?nodes=600")


@pytest.fixture(scope="module")
def model(graph):
    torch.manual_seed(0)
    return gs.nn.GCN(graph.num_features, 16, 2, graph.num_classes)


@pytest.mark.parametrize("trainer", ["cluster", "layerwise"])
def test_a_prediction_names_its_moment_and_its_parts(graph, model, trainer):
    configuration = Configuration(trainer, parts=6, clusters=2, batch_rows=100)
    memory = run_memory(Job(graph, model), configuration)
    assert memory.moment in memory.moments
    assert memory.total == sum(memory.parts.values()) > 0


def test_full_batch_has_all_edges(graph, model):
    batches = Job(graph, model).batches(Configuration())
    assert batches.number == 1 and batches.dropped == 0
    assert batches.mean == batches.largest and batches.mean.edges == graph.num_edges


@pytest.mark.parametrize("inductive", [False, True])
def test_batches_of_clusters_that_there_are_are_those_of_the_loader(graph, model, inductive):
    clustered = gs.cluster(graph, gs.partition(graph, 12, seed=1))
    seen = clustered.view("train") if inductive else clustered
    job = Job(clustered, model, inductive=inductive, seed=3)
    said = job.batches(Configuration(parts=12, clusters=3, epochs=2))
    loader = gs.ClusterLoader(seen, 3, seed=3)
    batches = [batch for _ in range(2) for batch in loader]
    nodes = [batch.num_nodes for batch in batches]
    edges = [batch.adj.num_edges for batch in batches]
    assert said.number == len(loader)
    assert (said.largest.nodes, said.largest.edges) == (max(nodes), max(edges))
    assert said.mean.nodes == pytest.approx(sum(nodes) / len(nodes))
    assert said.mean.edges == pytest.approx(sum(edges) / len(edges))
    among = job.trained.edges
    assert said.dropped == pytest.approx(1 - sum(edges) / 2 / among)


@pytest.mark.parametrize(("parts", "clusters"), [(12, 3), (50, 5), (50, 50)])
def test_batches_of_clusters_yet_to_be_made_are_about_as_they_will_be(
    graph, model, parts, clusters
):
    configuration = Configuration(parts=parts, clusters=clusters)
    clustered = gs.cluster(graph, gs.partition(graph, parts))
    said, there = (Job(data, model).batches(configuration) for data in (graph, clustered))
    assert said.number == there.number
    assert said.mean.nodes == pytest.approx(there.mean.nodes)
    assert said.mean.edges == pytest.approx(there.mean.edges, rel=0.15)
    assert said.largest.edges == pytest.approx(there.largest.edges, rel=0.25)


def test_of_a_large_graph_a_piece_is_cut(graph, model, monkeypatch):
    whole = Job(graph, model).cuts.of(20)
    monkeypatch.setattr("gnnscale.costs.predicted.cuts._LARGEST_CUT", 0)
    monkeypatch.setattr("gnnscale.costs.predicted.cuts._PIECE_EDGES", graph.num_edges // 3)
    assert Job(graph, model).cuts.of(20).share == pytest.approx(whole.share, abs=0.2)

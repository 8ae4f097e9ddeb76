"""Batches of data of every shape: several graphs, hubs, no edges, sets that are empty."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.costs.inference import inference_budget
from gnnscale.costs.layout import array_bytes, partitioner_room
from gnnscale.costs.predicted import cuts
from gnnscale.costs.predicted.arrays import partitioning
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.memory import run_memory
from gnnscale.errors import InputError, MemoryBound
from gnnscale.graph import Graph, Split
from gnnscale.loader.graph_loader import GraphLoader, graphs_as_clusters
from gnnscale.train.graphs import as_graphs

COLUMNS = 3


@st.composite
def several_graphs(draw, most=6):
    """Graphs in one, some without nodes: of each a star, a ring, or no edges."""
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=most).filter(any))
    edges, start = [torch.empty(2, 0, dtype=torch.int64)], 0
    for size in sizes:
        node = torch.arange(start, start + size)
        kind = draw(st.sampled_from(["star", "inwards", "ring", "none"]))
        hub = node[:1].expand(max(0, size - 1))
        if kind != "none":
            edges.append(
                torch.stack([node, node.roll(1)])
                if kind == "ring"
                else torch.stack([node[1:], hub])
            )
        if kind in ("ring", "star"):
            edges.append(edges[-1].flip(0))
        start += size
    return Graph.from_arrays(
        edge_index=torch.cat(edges, 1),
        x=torch.ones(start, COLUMNS),
        node_ptr=torch.tensor([0, *sizes]).cumsum(0),
    )


@given(several_graphs(), st.integers(1, 60), st.sampled_from([1, 4, 1000]), st.booleans())
def test_of_any_graphs_it_is_known_how_they_are_cut(graph, parts, enough, large):
    """Never more than all edges, none where parts are graphs; and a piece is always found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuts, "_PIECE_EDGES", enough)
        patch.setattr(cuts, "_LARGEST_CUT", 0 if large else 1000)
        found = cuts.Cuts(graph, "contiguous", "nodes", 0).of(parts)
    assert 0 <= found.share <= 1
    assert min(found) >= 0
    if parts <= int((graph.node_ptr.diff() > 0).sum()) and parts < graph.num_nodes:
        assert found.share == 0


@given(several_graphs(most=12), st.integers(1, 13), st.data())
def test_batches_of_graphs_are_those_of_the_training_set(graph, drawn, data):
    graphs = graph.num_graphs
    chosen = data.draw(st.lists(st.booleans(), min_size=graphs, max_size=graphs))
    mask = torch.tensor(chosen).repeat_interleave(graph.node_ptr.diff())
    sets = {"train": mask, "val": ~mask, "test": mask ^ mask}
    graph = Graph.from_arrays(
        edge_index=graph.edge_index,
        x=graph.x,
        y=torch.zeros(graphs, dtype=torch.int64),
        y_level="graph",
        node_ptr=graph.node_ptr,
        splits={"default": sets},
    )
    model = gs.nn.GraphModel(gs.nn.GIN(COLUMNS, 4, 1, 2), "sum")
    if not bool(mask.any()):
        with pytest.raises(InputError, match="training set is empty"):
            Job(as_graphs(graph), model)
        return
    said = Job(as_graphs(graph), model).batches(Configuration("graph", graphs=drawn))
    loader = GraphLoader(graphs_as_clusters(graph), drawn, seed=1)
    batches = list(loader)
    assert said.number == len(batches)
    for name, there in (
        ("nodes", [batch.num_nodes for batch in batches]),
        ("edges", [batch.adj.num_edges for batch in batches]),
        ("segments", [batch.clusters.numel() for batch in batches]),
    ):
        assert getattr(said.mean, name) == pytest.approx(sum(there) / len(there))
        assert getattr(said.largest, name) >= max(there)


@pytest.fixture(scope="module")
def graph():
    return gs.load("synthetic:planted?nodes=600")


def test_what_nothing_is_trained_on_is_refused(graph):
    none = torch.zeros(graph.num_nodes, dtype=torch.bool)
    graph = dataclasses.replace(graph, splits={"default": Split(none, ~none, none)})
    model = gs.nn.GCN(graph.num_features, 4, 2, graph.num_classes)
    for data in (graph, gs.cluster(graph, gs.partition(graph, 4, "contiguous"))):
        with pytest.raises(InputError, match="training set is empty"):
            Job(data, model, inductive=True)


def test_without_edges_none_is_dropped():
    graph = Graph.from_arrays(edge_index=torch.empty(2, 0, dtype=torch.int64), x=torch.ones(8, 2))
    clustered = gs.cluster(graph, gs.partition(graph, 4, "contiguous"))
    job = Job(clustered, gs.nn.GCN(2, 4, 2, 2))
    assert job.batches(Configuration(parts=4, clusters=2)).dropped == 0


def test_inductive_sizes_are_counted_without_features(graph):
    job = Job(graph, gs.nn.GCN(graph.num_features, 4, 2, graph.num_classes), inductive=True)
    there = gs.graph.subgraph(graph, graph.split().train)
    assert (job.trained.nodes, job.trained.edges) == (there.num_nodes, there.num_edges)
    assert job.seen.x is None
    assert not job.seen.splits


@pytest.mark.parametrize("name", ["GCN", "GAT"])
def test_layers_are_trained_on_clusters_where_they_are_opaque(graph, name):
    job = Job(graph, getattr(gs.nn, name)(graph.num_features, 8, 2, graph.num_classes))
    chosen = Configuration("layerwise", parts=12, clusters=3, batch_rows=10, memory=10**12)
    found = job.layer_batches(chosen, 0)
    clusters = job.batches(Configuration(parts=12, clusters=3))
    assert (found == clusters) == (name == "GAT")
    assert ("partition" in run_memory(job, chosen).moments) == (name == "GAT")


def test_all_arrays_count(graph):
    more = dataclasses.replace(
        graph,
        edge_time=torch.zeros(graph.num_edges, dtype=torch.int64),
        node_time=torch.zeros(graph.num_nodes, dtype=torch.int64),
    )
    assert array_bytes(more) - array_bytes(graph) == 8 * (graph.num_edges + graph.num_nodes)


@given(st.integers(1, 10**9))
def test_a_partitioner_stays_within_the_bound(graph, memory):
    found = partitioning(graph, graph, 4, "auto", memory, 0.0)
    assert found.get("worker", 0.0) <= partitioner_room(graph, memory, 0)


@given(st.integers(10**4, 10**8), st.sampled_from(["GCN", "GAT"]))
def test_a_bound_that_inference_refuses_is_too_small(graph, memory, name):
    model = getattr(gs.nn, name)(graph.num_features, 16, 2, graph.num_classes)
    found = run_memory(Job(graph, model), Configuration(memory=memory))
    try:
        inference_budget(model, graph, torch.device("cpu"), memory, held=0)
    except MemoryBound:
        assert found.total > memory

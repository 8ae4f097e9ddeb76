"""Clustering to disk in bounded memory: the very bytes that clustering in memory gives."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import (
    ClusteredGraph,
    Graph,
    Partition,
    cluster,
    open_graph,
)
from gnnscale.graph.clustered import write_store
from gnnscale.graph.store import shuffle
from tests.helpers.graphs import assert_same_clustered
from tests.helpers.strategies import graphs, partitions

WHOLE = graphs(edge_attr=None, sparse_x=None, unlabelled=True)


def mapped(graph: Graph, path: Path) -> Graph:
    """The same graph, in the same order, read from files."""
    nodes = graph.num_nodes
    ends = torch.tensor([0, nodes])
    whole = ClusteredGraph(graph, torch.arange(nodes), ends, ends[:1])
    write_store(whole, path)
    return open_graph(path).graph


@settings(max_examples=8)
@given(graph=WHOLE, data=st.data())
@pytest.mark.parametrize("through", ["gathered", "runs"])
@pytest.mark.parametrize("source", ["memory", "disk"])
def test_the_bytes_are_those_of_clustering_in_memory(
    tmp_path_factory, through, source, graph, data
):
    part = data.draw(partitions(graph))
    memory = data.draw(st.sampled_from([1, 200, 2_000, "1MB"]))
    path = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        if through == "runs":  # as where the system has no memory left
            patch.setattr(shuffle, "_cacheable", lambda: -1)
            patch.setattr(shuffle, "_FEW_PASSES", 1)
        write_store(cluster(graph, part), path / "a")
        given_graph = graph if source == "memory" else mapped(graph, path / "source")
        stored = cluster(given_graph, part, path / "b", memory=memory)
    assert_same_clustered(stored, cluster(graph, part))
    expected, written = ({f.name: f.read_bytes() for f in (path / p).iterdir()} for p in "ab")
    assert written == expected


@settings(max_examples=20)
@given(graph=graphs(dtype=torch.float32), data=st.data())
def test_features_in_half_precision(tmp_path_factory, graph, data):
    part = data.draw(partitions(graph))
    path = tmp_path_factory.mktemp("store") / "half"
    stored = cluster(graph, part, path, features="float16", memory=300)
    assert_same_clustered(stored, cluster(graph, part, features="float16"))
    assert stored.graph.x.dtype == torch.float16
    assert open_graph(path, verify=True).original().x.equal(graph.x.half())
    assert '"<f2"' in (path / "meta.json").read_text()


def test_features_that_lie_column_by_column(tmp_path):
    graph = Graph.from_arrays([[0], [1]], torch.rand(5, 30).t())
    graph.x = graph.x.t().contiguous().t()
    part = Partition(torch.arange(30) % 4, 4)
    stored = cluster(graph, part, tmp_path / "s", memory=100)
    assert_same_clustered(stored, cluster(graph, part))


def test_features_that_no_type_holds(tmp_path):
    graph = Graph.from_arrays([[0], [1]], torch.tensor([[1e6], [-7e4]]))
    part = Partition([0, 0], 1)
    for path in (None, tmp_path / "s"):
        with pytest.raises(InputError, match=r"go up to 1e\+06, beyond 65504, .* torch.float16"):
            cluster(graph, part, path, features="float16")
        with pytest.raises(InputError, match="features='int8' must be one of float16, float32"):
            cluster(graph, part, path, features="int8")
        with pytest.raises(InputError, match="this graph has none"):
            cluster(Graph.from_arrays([[0], [1]]), part, path, features="float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("memory", ["many", -1, 0, 1.5, None, True, "5 XB"])
def test_no_amount_of_memory(tmp_path, memory):
    graph = Graph.from_arrays([[0], [1]])
    with pytest.raises(InputError, match=r'must be a number of bytes, or text such as "512MB"'):
        cluster(graph, Partition([0, 0], 1), tmp_path / "s", memory=memory)


def test_a_source_that_is_truncated_meanwhile(tmp_path, monkeypatch):
    """Reading by range finds it; the mapped file would kill the process."""
    monkeypatch.setattr(shuffle, "_cacheable", lambda: -1)
    graph = Graph.from_arrays([[0], [1]], torch.rand(4_000, 50))
    first = cluster(graph, Partition([0] * 4_000, 1), tmp_path / "a")
    part = Partition(torch.arange(4_000) % 7, 7)
    with open(tmp_path / "a" / "x.npy", "r+b") as file:
        file.truncate(5_000)
    with pytest.raises(StoreError, match="truncated after it was opened"):
        cluster(first.graph, part, tmp_path / "b", memory=100_000)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]

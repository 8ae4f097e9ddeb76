"""The layout: clusters contiguous, training nodes first, and nothing lost on the way."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.graph import Graph, Partition, cluster
from gnnscale.kernels import CSR
from tests.helpers.graphs import assert_same_graph
from tests.helpers.strategies import dense_adjacency, graphs, partitions

WHOLE = graphs(edge_attr=None, sparse_x=None, unlabelled=True)


def dense(x):
    return x.to_dense() if isinstance(x, CSR) else x


@settings(max_examples=50)
@given(WHOLE, st.data())
def test_everything_is_renumbered_alike(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    order, stored = clustered.node_id, clustered.graph
    assert order.sort().values.tolist() == list(range(graph.num_nodes))
    expected = dense_adjacency(graph)[order][:, order]
    assert torch.allclose(dense_adjacency(stored), expected)
    assert torch.equal(dense(stored.x), dense(graph.x)[order])
    assert type(stored.x) is type(graph.x)
    assert torch.equal(stored.y, graph.y[order])
    if graph.node_type is not None:
        assert torch.equal(stored.node_type, graph.node_type[order])
    for part in ("train", "val", "test"):
        assert torch.equal(stored.split()[part], graph.split()[part][order])
    # Edges with all that they carry, as a multiset.
    assert edges(stored, order) == edges(graph, torch.arange(graph.num_nodes))
    assert stored.adj.symmetric == graph.adj.symmetric
    for row in range(graph.num_nodes):
        sources = stored.adj.indices[stored.adj.indptr[row] : stored.adj.indptr[row + 1]]
        assert (sources.diff() >= 0).all()
    stored.check()


def edges(graph, ids):
    """Every edge with original ids and all that it carries, sorted."""
    columns = [ids[graph.edge_index].T.double()]
    if graph.edge_weight is not None:
        columns.append(graph.edge_weight[:, None])
    if graph.edge_attr is not None:
        columns.append(graph.edge_attr)
    if graph.edge_type is not None:
        columns.append(graph.edge_type[:, None])
    return sorted(torch.cat(columns, dim=1).tolist())


@given(WHOLE, st.data())
def test_clusters_are_ranges_with_training_nodes_first(graph, data):
    part = data.draw(partitions(graph))
    clustered = cluster(graph, part)
    assert clustered.num_parts == part.num_parts
    assert clustered.offsets.tolist()[0] == 0 and clustered.offsets[-1] == graph.num_nodes
    for c in range(part.num_parts):
        start, end = clustered.offsets[c : c + 2].tolist()
        middle = int(clustered.train_ends[c])
        ids = clustered.node_id[start:end]
        assert (part.assignment[ids] == c).all() and (part.assignment == c).sum() == end - start
        assert graph.train_mask[ids[: middle - start]].all()
        assert not graph.train_mask[ids[middle - start :]].any()
        assert clustered.train_counts[c] == middle - start
        assert (clustered.cluster_of[start:end] == c).all()
    assert torch.equal(clustered.position[clustered.node_id], torch.arange(graph.num_nodes))
    assert torch.equal(clustered.partition.assignment, part.assignment)
    assert (clustered.partition.method, clustered.partition.seed) == ("drawn", 0)


@given(WHOLE, st.data())
def test_the_original_comes_back(graph, data):
    back = cluster(graph, data.draw(partitions(graph))).original()
    assert_same_graph(back, graph)
    assert back.fingerprint() == graph.fingerprint()


@given(WHOLE, st.data())
def test_the_training_view_counts_training_nodes(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    view = clustered.view("train")
    assert view.num_nodes == int(graph.train_mask.sum())
    assert clustered.num_nodes == view.view("all").num_nodes == graph.num_nodes
    assert view.graph is clustered.graph  # the test sees the whole graph
    assert torch.equal(view.train_counts, clustered.train_counts)
    assert "view train" in repr(view) and "view" not in repr(clustered)


def test_there_are_two_views():
    graph = Graph.from_arrays([[0], [1]])
    clustered = cluster(graph, Partition([0, 1], 2))
    with pytest.raises(InputError, match='no view \'test\'; there are "all" and "train"'):
        clustered.view("test")
    assert clustered.view("train").num_nodes == 0  # no splits, no training nodes


def test_edge_labels_move_with_their_edges():
    graph = Graph.from_arrays([[0, 1, 2], [1, 2, 0]], y=[5, 6, 7], y_level="edge", num_nodes=3)
    clustered = cluster(graph, Partition([2, 1, 0], 3))
    stored = clustered.graph
    for (source, target), label in zip(stored.edge_index.T, stored.y, strict=True):
        was = (int(clustered.node_id[source]), int(clustered.node_id[target]))
        assert {(0, 1): 5, (1, 2): 6, (2, 0): 7}[was] == label
    assert_same_graph(clustered.original(), graph)


def test_another_split_set_may_come_first():
    graph = Graph.from_arrays(
        [[], []], num_nodes=4, splits={"a": {"train": [0]}, "b": {"train": [2, 3]}}
    )
    part = Partition([0, 0, 0, 0], 1)
    assert cluster(graph, part).train_ends.tolist() == [1]
    clustered = cluster(graph, part, split="b")
    assert clustered.train_ends.tolist() == [2]
    assert clustered.node_id.tolist() == [2, 3, 0, 1]
    with pytest.raises(InputError, match="no split set 'c'"):
        cluster(graph, part, split="c")


def test_another_graphs_partition():
    with pytest.raises(InputError, match="the partition has 1 nodes, the graph 2"):
        cluster(Graph.from_arrays([[0], [1]]), Partition([0], 1))


def test_a_part_holds_nodes_of_one_graph():
    graph = Graph.from_arrays([[0, 2], [1, 3]], y=[0, 1], node_ptr=[0, 2, 4], y_level="graph",
                              num_nodes=4)  # fmt: skip
    with pytest.raises(InputError, match="1 parts span several graphs"):
        cluster(graph, Partition([0, 1, 1, 2], 3))
    with pytest.raises(InputError, match="number them graph by graph"):
        cluster(graph, Partition([1, 1, 0, 0], 2))
    clustered = cluster(graph, Partition([1, 0, 3, 3], 5))  # parts 2 and 4 are empty
    assert clustered.graph.node_ptr.tolist() == [0, 2, 4]
    assert clustered.graph.y.tolist() == [0, 1]
    assert_same_graph(clustered.original(), graph)


def test_one_node_and_none():
    for nodes in (0, 1):
        graph = Graph.from_arrays([[0] * nodes, [0] * nodes], torch.ones(nodes, 2))
        clustered = cluster(graph, Partition(torch.zeros(nodes, dtype=torch.int64), 3))
        assert clustered.offsets.tolist() == [0, nodes, nodes, nodes]
        assert_same_graph(clustered.original(), graph)

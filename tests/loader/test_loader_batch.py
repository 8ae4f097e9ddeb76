"""A batch is the subgraph that its clusters induce, with all that nodes and edges carry."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.graph import Graph, Partition, cluster
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler
from tests.helpers.strategies import dense_adjacency, graphs, partitions

WHOLE = graphs(edge_attr=None, sparse_x=None, unlabelled=True)


def some_clusters(data, clustered):
    drawn = data.draw(st.sets(st.integers(0, clustered.num_parts - 1), min_size=1))
    return torch.tensor(data.draw(st.permutations(sorted(drawn))))


def assert_induced(batch, graph, nodes):
    """`batch` is the subgraph of `graph` that `nodes` induce, in this order."""
    assert torch.equal(batch.node_id, nodes)
    expected = dense_adjacency(graph)[nodes][:, nodes]
    assert torch.allclose(batch.adj.to_dense(torch.float64), expected)
    assert batch.num_nodes == nodes.numel() == batch.x.shape[0]
    x, whole = (t.to_dense() if isinstance(t, CSR) else t for t in (batch.x, graph.x))
    assert type(batch.x) is type(graph.x) and x.dtype == whole.dtype
    assert torch.equal(x, whole[nodes])
    assert torch.equal(batch.y, graph.y[nodes])
    if graph.node_type is not None:
        assert torch.equal(batch.node_type, graph.node_type[nodes])
    assert torch.equal(batch.train_mask, graph.train_mask[nodes])
    assert torch.equal(batch.train_index, batch.train_mask.nonzero().squeeze(1))
    # Each edge once, with its own weight and attributes.
    inside = torch.zeros(graph.num_nodes, dtype=torch.bool)
    inside[nodes] = True
    kept = inside[graph.edge_index].all(0)
    assert carried(batch, nodes) == carried(graph, torch.arange(graph.num_nodes), kept)
    assert (batch.adj.values is None) == (graph.edge_weight is None)


def carried(of, ids, kept=slice(None)):
    columns = [ids[of.edge_index[:, kept]].T.double()]
    if of.edge_weight is not None:
        columns.append(of.edge_weight[kept][:, None])
    if of.edge_attr is not None:
        columns.append(of.edge_attr[kept])
    if of.edge_type is not None:
        columns.append(of.edge_type[kept][:, None])
    return sorted(torch.cat(columns, dim=1).tolist())


@settings(max_examples=50)
@given(WHOLE, st.data())
def test_a_batch_is_the_induced_subgraph(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    clusters = some_clusters(data, clustered)
    batch = Assembler(clustered)(clusters)
    assert torch.equal(batch.clusters, clusters.sort().values)
    members = torch.isin(clustered.cluster_of, clusters.int())
    assert_induced(batch, graph, clustered.node_id[members])
    assert batch.ptr.tolist()[0] == 0 and batch.ptr[-1] == batch.num_nodes
    for k, c in enumerate(batch.clusters):
        ids = batch.node_id[batch.ptr[k] : batch.ptr[k + 1]]
        assert torch.equal(ids, clustered.node_id[clustered.cluster_of == c])
    assert batch.step_train_nodes == int(batch.train_mask.sum())


@given(WHOLE, st.data())
def test_a_batch_of_all_clusters_is_the_whole_graph(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    batch = Assembler(clustered)(torch.arange(clustered.num_parts))
    assert_induced(batch, graph, clustered.node_id)
    assert torch.equal(batch.edge_index, clustered.graph.edge_index)
    assert batch.adj.symmetric == graph.adj.symmetric


@settings(max_examples=50)
@given(WHOLE, st.data())
def test_the_training_view_holds_training_nodes_only(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    clusters = some_clusters(data, clustered)
    batch = Assembler(clustered.view("train"))(clusters)
    members = torch.isin(clustered.cluster_of, clusters.int()) & clustered.graph.train_mask
    assert_induced(batch, graph, clustered.node_id[members])
    assert batch.train_mask.all()


@given(WHOLE, st.data())
def test_symmetry_of_a_batch_is_never_claimed_wrongly(graph, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    for whole in (clustered, clustered.view("train")):
        batch = Assembler(whole)(some_clusters(data, clustered))
        if batch.adj.symmetric:
            dense = batch.adj.to_dense(torch.float64)
            assert torch.allclose(dense, dense.T)


@given(WHOLE, st.data())
def test_batches_do_not_depend_on_those_before(graph, data):
    """The scratch memory of an assembler is left as it was found."""
    clustered = cluster(graph, data.draw(partitions(graph, min_parts=2)))
    used = Assembler(clustered)
    for _ in range(3):
        clusters = some_clusters(data, clustered)
        batch, fresh = used(clusters), Assembler(clustered)(clusters)
        assert torch.equal(batch.edge_index, fresh.edge_index)
        assert torch.equal(batch.node_id, fresh.node_id)


@settings(max_examples=15)
@given(WHOLE, st.data())
def test_batches_from_disk_equal_those_from_memory(tmp_path_factory, graph, data):
    part = data.draw(partitions(graph))
    memory = cluster(graph, part)
    disk = cluster(graph, part, tmp_path_factory.mktemp("store") / "s")
    clusters = some_clusters(data, memory)
    for view in ("all", "train"):
        one, other = (Assembler(c.view(view))(clusters) for c in (memory, disk))
        assert torch.equal(one.edge_index, other.edge_index)
        for field in ("x", "y", "train_mask", "node_id", "ptr", "edge_attr", "edge_weight"):
            a, b = getattr(one, field), getattr(other, field)
            if isinstance(a, CSR):
                a, b = a.to_dense(), b.to_dense()
            assert (a is b is None) or (a.dtype == b.dtype and torch.equal(a, b)), field


def test_batches_share_no_memory_with_the_graph():
    graph = Graph.from_arrays([[0, 1], [1, 0]], torch.ones(2, 1), [0, 1], train_mask=[1, 0])
    clustered = cluster(graph, Partition([0, 0], 1))
    batch = Assembler(clustered)(torch.tensor([0]))
    for tensor in (batch.x, batch.y, batch.node_id):
        tensor.fill_(7)
    batch.train_mask.fill_(True)
    assert clustered.graph.x.sum() == 2 and clustered.graph.y.tolist() == [0, 1]
    assert clustered.node_id.tolist() == [0, 1] and clustered.graph.train_mask.sum() == 1


def test_edge_labels_come_with_their_edges():
    graph = Graph.from_arrays([[0, 1, 2], [1, 2, 0]], torch.ones(3, 1), [5, 6, 7], y_level="edge")
    batch = Assembler(cluster(graph, Partition([1, 1, 0], 2)))(torch.tensor([1]))
    assert batch.node_id.tolist() == [0, 1]
    assert batch.edge_index.tolist() == [[0], [1]] and batch.y.tolist() == [5]


def test_a_graph_without_anything():
    """No features, no labels, no splits, no edges; some clusters are empty."""
    clustered = cluster(Graph.from_arrays([[], []], num_nodes=2), Partition([1, 1], 3))
    batch = Assembler(clustered)(torch.tensor([0, 1]))
    assert batch.x is None and batch.y is None and not batch.train_mask.any()
    assert batch.edge_index.shape == (2, 0) and batch.ptr.tolist() == [0, 0, 2]
    empty = Assembler(clustered)(torch.tensor([0, 2]))
    assert empty.num_nodes == 0 and empty.adj.symmetric and empty.edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([], "one cluster or more, each once"),
        ([1, 0, 1], "one cluster or more, each once"),
        ([0, 2], r"clusters span \[0, 2\]; there are 2"),
        ([-1], r"clusters span \[-1, -1\]; there are 2"),
    ],
)
def test_clusters_that_are_not_there(clusters, message):
    assembler = Assembler(cluster(Graph.from_arrays([[0], [1]]), Partition([0, 1], 2)))
    with pytest.raises(InputError, match=message):
        assembler(torch.tensor(clusters, dtype=torch.int64))


def test_a_batch_moves_whole():
    graph = Graph.from_arrays([[0], [1]], CSR.from_dense(torch.ones(2, 1)), [0, 1], edge_attr=[1.0])
    batch = Assembler(cluster(graph, Partition([0, 0], 1)))(torch.tensor([0]))
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor | CSR):
            assert getattr(moved, name).device.type == "meta", name
        else:
            assert getattr(moved, name) == value, name
    assert moved.edge_index.device.type == "meta"

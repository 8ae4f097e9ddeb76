"""Batches put together on the device, or copied to it, are those of the host."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.graph import Graph, Partition, cluster
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, ClusterLoader, device_assembler
from gnnscale.loader.device_assembler import DeviceAssembler, make_assembler, resident_bytes
from tests.helpers.strategies import graphs, partitions

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def assert_same(one, other):
    """Equal to the last bit, types included, but for the device."""
    for name, value in vars(one).items():
        assert_equal(value, getattr(other, name), name)


def assert_equal(one, other, name):
    if isinstance(one, CSR):
        assert one.shape == other.shape and type(one) is type(other)
        for part in ("indptr", "indices", "values"):
            assert_equal(getattr(one, part), getattr(other, part), f"{name}.{part}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other.cpu()), name
    else:
        assert one == other, name


def drawn_clusters(data, clustered):
    drawn = data.draw(st.sets(st.integers(0, clustered.num_parts - 1), min_size=1))
    return torch.tensor(data.draw(st.permutations(sorted(drawn))))


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40)
@given(graphs(edge_attr=None, sparse_x=None, unlabelled=True), st.booleans(), st.data())
def test_a_batch_of_the_device_is_that_of_the_host(device, graph, hop_is_sparse, data):
    clustered = cluster(graph, data.draw(partitions(graph)))
    clusters = drawn_clusters(data, clustered)
    for view in (clustered, clustered.view("train")):
        hop = torch.randn(view.num_nodes, 3).relu()
        hop = CSR.from_dense(hop) if hop_is_sparse else hop
        there = DeviceAssembler(view, torch.device(device), hop)
        for _ in range(2):
            assert_same(Assembler(view, hop)(clusters), there(clusters))


@pytest.mark.parametrize("device", DEVICES)
def test_what_graphs_may_lack_or_hold_otherwise(device):
    """No features, labels, splits or edges; labels of edges or graphs; features in half."""
    edges, x = [[0, 1, 2], [1, 2, 0]], torch.ones(3, 1)
    for graph in (
        Graph.from_arrays([[], []], num_nodes=3),
        Graph.from_arrays(edges, x, [5, 6, 7], y_level="edge"),
        Graph.from_arrays(edges, x.half(), [0, 1, 1], train_mask=[1, 0, 1]),
    ):
        clustered = cluster(graph, Partition([1, 1, 3], 4))
        for clusters in ([0, 1], [3], [0], [1, 3], [0, 1, 2, 3]):
            one = Assembler(clustered)(torch.tensor(clusters))
            other = DeviceAssembler(clustered, torch.device(device))(torch.tensor(clusters))
            assert_same(one, other)


@pytest.mark.parametrize("device", DEVICES)
def test_a_graph_on_disk_is_copied_in_blocks(device, tmp_path, monkeypatch):
    monkeypatch.setattr("gnnscale.storage.mapped._BLOCK_BYTES", 100)
    graph = Graph.from_arrays(torch.randint(0, 40, (2, 300)), torch.randn(40, 7), num_nodes=40)
    disk = cluster(graph, Partition(torch.arange(40) % 5, 5), tmp_path / "store")
    clusters = torch.tensor([0, 2, 3])
    assert_same(Assembler(disk)(clusters), DeviceAssembler(disk, torch.device(device))(clusters))


def test_batches_share_no_memory_with_the_graph():
    graph = Graph.from_arrays([[0, 1], [1, 0]], torch.ones(2, 1), [0, 1], train_mask=[1, 0])
    assembler = DeviceAssembler(cluster(graph, Partition([0, 0], 1)), torch.device("cpu"))
    first = assembler(torch.tensor([0]))
    for tensor in (first.x, first.y, first.node_id, first.adj.indices):
        tensor.fill_(7)
    second = assembler(torch.tensor([0]))
    assert second.x.sum() == 2 and second.node_id.tolist() == second.y.tolist() == [0, 1]


def path_of(nodes=60, parts=12):
    """A path, cut into pieces."""
    ids = torch.arange(nodes)
    graph = Graph.from_arrays(
        torch.stack([ids[:-1], ids[1:]]), torch.randn(nodes, 3), ids % 2, train_mask=ids % 3 == 0
    )
    return cluster(graph, Partition(ids * parts // nodes, parts))


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["copied", "resident"])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("device", DEVICES)
def test_a_loader_delivers_the_same_batches(device, prefetch, share, monkeypatch):
    monkeypatch.setattr(device_assembler, "_SHARE_OF_FREE_MEMORY", share)
    clustered = path_of()
    here = ClusterLoader(clustered, 5, prefetch=0)
    there = ClusterLoader(clustered, 5, prefetch=prefetch, device=device)
    for _ in range(2):
        for one, other in zip(here, there, strict=True):
            assert other.adj.device.type == device
            assert_same(one, other)


@needs_cuda
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["copied", "resident"])
def test_the_host_waits_for_no_batch(share, monkeypatch):
    monkeypatch.setattr(device_assembler, "_SHARE_OF_FREE_MEMORY", share)
    loader = ClusterLoader(path_of(), 5, device="cuda")
    list(loader)  # the graph is moved
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(loader)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_fits_is_assembled_on_the_device(monkeypatch):
    clustered = path_of()
    needed = resident_bytes(clustered, torch.zeros(60, 3))
    assert needed >= 60 * (3 * 4 + 8 + 8 + 3 * 4)  # features, labels, ids, the first hop
    taken = []
    monkeypatch.setattr(
        device_assembler, "DeviceAssembler", lambda *arguments: taken.append(arguments)
    )
    for free in (2 * needed, 2 * needed - 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        make_assembler(clustered, torch.zeros(60, 3), torch.device("cuda", 0))
    assert len(taken) == 1
    assert isinstance(make_assembler(clustered, None, torch.device("cpu")), Assembler)

"""The store: on disk is what was in memory; damage is found."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.graph import (
    Graph,
    Partition,
    cluster,
    is_store,
    open_graph,
    store_graph,
    verify_store,
)
from gnnscale.storage import array_folder
from gnnscale.storage.files import read_json, write_json
from tests.helpers.graphs import assert_same_clustered, assert_same_graph, parts, ring, tensors
from tests.helpers.strategies import graphs, partitions

WHOLE = graphs(edge_attr=None, sparse_x=None, unlabelled=True)


@pytest.fixture
def path(tmp_path):
    """A stored ring of 12 nodes."""
    cluster(ring(), parts(ring()), tmp_path / "store")
    return tmp_path / "store"


# --- what is written is what is read --------------------------------------------------------


@given(WHOLE, st.data())
def test_on_disk_equals_in_memory(tmp_path_factory, graph, data):
    part = data.draw(partitions(graph))
    path = tmp_path_factory.mktemp("store") / "a" / "graph"
    stored = cluster(graph, part, path)
    assert_same_clustered(stored, cluster(graph, part))
    assert_same_clustered(open_graph(str(path), verify=True), stored)
    assert_same_graph(stored.original(), graph)
    assert stored.original().fingerprint() == graph.fingerprint()
    assert stored.path == path and str(path) in repr(stored)
    assert [p.name for p in path.parent.iterdir()] == ["graph"]


def test_everything_a_graph_holds_is_kept(path):
    stored = open_graph(path)
    assert_same_clustered(stored, cluster(ring(), parts(ring())))
    assert (stored.method, stored.seed) == ("metis", 3)
    meta = json.loads((path / "meta.json").read_text())
    assert meta["format"] == "gnnscale-clustered-graph" and meta["version"] == 1
    assert {f.name for f in path.iterdir()} == {"meta.json"} | {
        about["file"] for about in meta["arrays"].values()
    }


def test_several_graphs_and_edge_labels(tmp_path):
    several = Graph.from_arrays([[0], [1]], y=[1, 0], num_nodes=3, node_ptr=[0, 2, 3],
                                y_level="graph")  # fmt: skip
    assert_same_graph(cluster(several, Partition([0, 0, 1], 2), tmp_path / "a").original(), several)
    edges = Graph.from_arrays([[0, 1], [1, 0]], y=[1, 0], y_level="edge")
    assert_same_graph(cluster(edges, Partition([1, 0], 2), tmp_path / "b").original(), edges)


def test_columns_of_another_array_are_written(tmp_path):
    columns = torch.eye(3, dtype=torch.bool)
    graph = Graph.from_arrays([[0], [1]], num_nodes=3, train_mask=columns[:, 0], y=columns[:, 1])
    assert_same_graph(store_graph(graph, tmp_path / "graph"), graph)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_types_of_features_are_kept(tmp_path, dtype):
    graph = Graph.from_arrays([[0], [1]], torch.rand(2, 3).to(dtype))
    assert cluster(graph, Partition([0, 1], 2), tmp_path / "s").graph.x.dtype == dtype


def test_types_that_cannot_be_stored(tmp_path):
    graph = Graph.from_arrays([[0], [1]], torch.rand(2, 3).bfloat16())
    with pytest.raises(InputError, match="x: bfloat16 cannot be stored"):
        cluster(graph, Partition([0, 1], 2), tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_files_are_not_written_through(path):
    """Maps are copy-on-write: a change in memory stays there, and does not kill the process."""
    stored = open_graph(path)
    for tensor in tensors(stored.graph).values():
        tensor.zero_()
    verify_store(path)
    assert open_graph(path).graph.x.sum() == 36


# --- what cannot be opened ------------------------------------------------------------------


def test_missing(tmp_path, path):
    with pytest.raises(StoreError, match=r"no gnnscale clustered graph at .*: meta.json is"):
        open_graph(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"meta\.json is missing"):
        verify_store(tmp_path)
    assert is_store(path) and not is_store(tmp_path) and not is_store(tmp_path / "nowhere")
    os.remove(path / "indices.npy")
    for opens in (open_graph, verify_store):
        with pytest.raises(StoreError, match=r"indices.npy is missing or unreadable: No such"):
            opens(path)


def test_a_path_that_is_none():
    for opens in (open_graph, read_json, Partition.load):
        with pytest.raises(InputError, match=r"a path is text or a Path, not 1\.5"):
            opens(1.5)


@pytest.mark.parametrize("content", ["[]", '{"format": "zip"}', "3"])
def test_another_format(path, content):
    (path / "meta.json").write_text(content)
    with pytest.raises(StoreError, match="is not a gnnscale clustered graph"):
        open_graph(path)
    assert not is_store(path)


def test_another_version(path):
    meta = read_json(path / "meta.json")
    write_json(path / "meta.json", {**meta, "version": 2})
    with pytest.raises(StoreError, match="format version 2; this gnnscale reads 1"):
        open_graph(path)


@pytest.mark.parametrize("array", ["indptr", "indices", "x", "y", "node_id", "split0_train"])
def test_truncated_or_grown_files(path, array):
    file = path / f"{array}.npy"
    size = file.stat().st_size
    for changed in (size - 1, 0, size + 1):
        os.truncate(file, changed)
        with pytest.raises(StoreError, match=rf"{array}.npy has {changed} bytes; {size} were"):
            open_graph(path)


def test_a_damaged_meta_file(path):
    """Wherever it is cut or changed, it is not taken for whole."""
    file = path / "meta.json"
    whole = file.read_bytes()
    for size in range(0, len(whole) - 2, 83):
        file.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="is not valid JSON"):
            open_graph(path)
    for place in range(0, len(whole), 17):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError):
            open_graph(path)
    meta = json.loads(whole)
    del meta["arrays"]["y"]
    write_json(file, meta)
    with pytest.raises(StoreError, match=r"meta.json is damaged: its checksum differs"):
        open_graph(path)


def test_any_change_of_the_meta_file_is_found_by_verify(path):
    """Also one that changes nothing of what it says."""
    file = path / "meta.json"
    file.write_bytes(file.read_bytes().replace(b"\n  ", b"\n\t ", 1))
    open_graph(path)
    with pytest.raises(StoreError, match=r"the checksum differs for meta\.json$"):
        verify_store(path)


def test_a_flipped_byte_is_found_by_verify(path, monkeypatch):
    monkeypatch.setattr(array_folder, "VERIFIED", 0)  # as in a large store
    for file in sorted(path.glob("*.npy")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 8]))
        with pytest.raises(StoreError, match=rf"the checksum differs for {file.name}$"):
            verify_store(path)
        with pytest.raises(StoreError, match=file.name):
            open_graph(path, verify=True)
        file.write_bytes(whole)
    verify_store(path)


def test_a_damaged_header_moves_no_data(path, monkeypatch):
    """Headers serve other readers; sizes and types are taken from meta.json."""
    monkeypatch.setattr(array_folder, "VERIFIED", 0)
    file = path / "x.npy"
    whole = file.read_bytes()
    for place in range(128):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 32]) + whole[place + 1 :])
        assert torch.equal(open_graph(path).graph.x, torch.ones(12, 3))
        with pytest.raises(StoreError, match=r"the checksum differs for x\.npy"):
            verify_store(path)


def test_numpy_reads_the_arrays(path):
    stored = open_graph(path)
    assert np.array_equal(np.load(path / "x.npy"), stored.graph.x.numpy())
    assert np.array_equal(np.load(path / "node_id.npy"), stored.node_id.numpy())
    assert np.load(path / "split1_test.npy").dtype == bool


@pytest.mark.parametrize("stored", [False, True])
def test_half_precision_says_what_becomes_0(stored, tmp_path):
    x = torch.ones(12, 3)
    x[:5, 1], x[7, 2], x[3, 0] = 1e-9, -1e-8, 0.0
    graph, path = Graph.from_arrays(np.array([[0], [1]]), x), tmp_path / "s" if stored else None
    part = Partition(torch.arange(12) % 4, 4)
    with pytest.warns(RuntimeWarning, match="6 of 35 .*float16, 5 of them in column 1.*Standard"):
        narrow = cluster(graph, part, path, features="float16")
    assert narrow.graph.x.dtype == torch.float16
    x[0, 2] = 1e5
    with pytest.raises(InputError, match=r"beyond 65504.*\(column 2\)"):
        cluster(Graph.from_arrays(np.array([[0], [1]]), x), part, path, features="float16")

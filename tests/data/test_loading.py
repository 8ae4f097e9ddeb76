from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

import gnnscale.graph
from gnnscale.data import load
from gnnscale.errors import InputError, StoreError
from gnnscale.kernels.csr import CSR
from tests.data.small_data_sets import SHARED, path_graph, write_data_set, write_npz


def write_folder(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path.mkdir(exist_ok=True)
    for key, array in arrays.items():
        np.save(path / f"{key}.npy", array)
    return path


@given(data=st.data())
def test_npz_and_folder_and_dense_and_sparse_are_the_same_graph(tmp_path_factory, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    nodes, edges, width = rng.integers(1, 12), rng.integers(0, 30), rng.integers(1, 5)
    dense = rng.integers(0, 3, (nodes, width))
    arrays = {
        "edge_index": rng.integers(0, nodes, (2, edges)).astype(np.uint16),
        "edge_weight": rng.random(edges),
        "y": rng.integers(0, 3, nodes).astype(np.int8) - (np.arange(nodes) == 1),
        "train_mask": rng.random(nodes) < 0.5,
        "other_test_idx": np.arange(nodes // 2),
        "num_nodes": np.array(nodes),
    }
    sparse = scipy.sparse.csr_array(dense)
    parts = {
        "x_indptr": sparse.indptr,
        "x_indices": sparse.indices,
        "x_data": sparse.data,
        "x_shape": np.array(dense.shape),
    }
    folder = tmp_path_factory.mktemp("arrays")
    np.savez(folder / "dense.npz", **arrays, x=dense)
    np.savez_compressed(folder / "sparse.npz", **arrays, **parts)
    graphs = [
        load(folder / "dense.npz"),
        load(write_folder(folder / "dense", {**arrays, "x": dense})),
        load(folder / "sparse.npz"),
        load(write_folder(folder / "sparse", {**arrays, **parts})),
    ]
    assert graphs[0].fingerprint() == graphs[1].fingerprint()
    assert graphs[2].fingerprint() == graphs[3].fingerprint()
    assert graphs[0].structure_fingerprint() == graphs[2].structure_fingerprint()
    assert torch.equal(graphs[0].x, graphs[2].x.to_dense())
    assert isinstance(graphs[2].x, CSR)
    assert graphs[0].num_edges == edges
    assert torch.equal(graphs[0].train_mask, torch.from_numpy(arrays["train_mask"]))
    assert int(graphs[0].splits["other"].test.sum()) == nodes // 2
    again = load(graphs[0].source)
    assert again.fingerprint() == graphs[0].fingerprint()


def test_a_card_is_applied_and_its_preprocessing_can_be_left_out(tmp_path):
    folder = write_data_set(tmp_path, "mine")
    graph = load("mine", root=tmp_path)
    assert (graph.name, graph.task, graph.metric) == ("mine", "classification", "accuracy")
    assert graph.num_edges == 6
    assert graph.source == str(folder)
    assert torch.allclose(graph.x.sum(1), torch.tensor([1.0, 0, 1, 1]))
    plain = load("mine", root=tmp_path, preprocessing="none")
    assert torch.equal(plain.x, torch.from_numpy(path_graph()["x"]).float())
    assert load(plain.source).fingerprint() == plain.fingerprint()


def test_edges_are_as_listed_unless_said_otherwise(tmp_path):
    file = write_npz(tmp_path / "a.npz")
    assert load(file).num_edges == 3
    assert load(file, undirected=True).num_edges == 6
    assert load(f"{file}?undirected=true").num_edges == 6
    told = write_npz(tmp_path / "b.npz", about=np.array('{"edge_format": "undirected; once"}'))
    assert load(told).num_edges == 6
    assert load(write_npz(tmp_path / "c.npz", undirected=np.array(True))).num_edges == 6


def test_splits_by_fold_and_random_ones(tmp_path):
    codes = np.array([[0, 1, 2, 3], [2, 2, 0, 1]], dtype=np.uint8)
    bare = {"train_idx": None, "val_idx": None, "test_idx": None}
    file = write_npz(tmp_path / "a.npz", split_fold_masks=codes, **bare)
    graph = load(file)
    assert list(graph.splits) == ["fold0", "fold1"]
    assert graph.train_mask.tolist() == [True, False, False, False]
    chosen = load(file, split="fold1")
    assert chosen.train_mask.tolist() == [False, False, True, False]
    drawn = load(f"{file}?split=50/25/25&seed=3")
    assert [int(drawn.split()[part].sum()) for part in ("train", "val", "test")] == [2, 1, 1]
    assert load(drawn.source).fingerprint() == drawn.fingerprint()
    wide = write_npz(tmp_path / "b.npz", **bare, train_mask=codes.T == 0, test_mask=codes.T == 2)
    assert torch.equal(load(wide).splits["fold1"].test, graph.splits["fold1"].test)


def test_unused_labels_make_the_full_split(tmp_path):
    file = write_npz(tmp_path / "a.npz", train_idx=np.array([0]))
    graph = load(file)
    assert graph.splits["full"].train.tolist() == [True, True, False, False]
    chosen = load(file, split="full")
    assert int(chosen.train_mask.sum()) == 2
    assert torch.equal(chosen.splits["stored"].train, graph.train_mask)
    hidden = write_npz(tmp_path / "b.npz", train_idx=np.array([0]), y=np.array([0, -1, 0, 1]))
    assert list(load(hidden).splits) == ["default"]


def test_labels_of_graphs_and_tags(tmp_path):
    arrays = {
        "edge_index": np.array([[0, 2, 3], [1, 3, 4]]),
        "node_ptr": np.array([0, 2, 5]),
        "node_tag": np.array([0, 2, 1, 0, 0]),
        "y": np.array([1, 0]),
        "fold": np.array([0, 1]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    graph = load(tmp_path / "a.npz")
    assert (graph.y_level, graph.num_graphs, graph.x.shape) == ("graph", 2, (5, 3))
    assert graph.splits["fold1"].test.tolist() == [False, False, True, True, True]
    drawn = load(tmp_path / "a.npz", split="50/0/50").split()
    assert int(drawn.train.sum() + drawn.test.sum()) == 5
    assert len(set(drawn.train[2:].tolist())) == 1
    np.savez(tmp_path / "b.npz", **{**arrays, "node_tag": np.zeros(5, dtype=int)})
    degree = load(tmp_path / "b.npz", undirected=True).x.to_dense().argmax(1)
    assert degree.tolist() == [1, 1, 1, 2, 1]


def test_a_store_is_opened(tmp_path, monkeypatch):
    graph = load(write_npz(tmp_path / "a.npz"), undirected=True)
    part = gnnscale.graph.Partition(torch.tensor([0, 1, 0, 1], dtype=torch.int32), 2)
    gnnscale.graph.cluster(graph, part, tmp_path / "store")
    opened = load(tmp_path / "store")
    assert opened.num_nodes == 4
    assert opened.source == str(tmp_path / "store")
    with pytest.raises(InputError, match="unknown option 'split'"):
        load(tmp_path / "store", split="full")


# ---------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wordnett", "no data set is called 'wordnett'. Did you mean 'wordnet'?"),
        ("qqqq", "There are: amazon/computers, "),
        ("ogbn-mag", "has several kinds of nodes and edges"),
        ("planetoid/coral", "no data set 'planetoid/coral'; there are planetoid/cora, "),
        ("./nowhere", "does not exist"),
        ("nowhere.npz", "does not exist"),
        ("wordnet?splt=full", "unknown option 'splt'; did you mean 'split'?"),
        ("wordnet?split", "is not of the form option=value"),
        ("wordnet?seed=x", "option 'seed' is 'x'; it must be of type int"),
        ("wordnet?seed=1&seed=2", "option 'seed' is given twice"),
        ("wordnet?undirected=2", "it must be of type bool"),
        ("wordnet?task=guess", "it must be one of classification"),
        ("wordnet?split=other", "split 'other' is not known; there are: default"),
        ("wordnet?split=60/60/60", "three percentages that add up to at most 100"),
        ("wordnet?preprocessing=polish", "unknown preprocessing 'polish'"),
        ("wordnet?preprocessing=standardise", "would make sparse features dense"),
    ],
)
def test_bad_names_and_options_have_their_own_message(name, message):
    with pytest.raises(InputError) as caught:
        load(name)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": None}, "edge_index is missing; the keys are: y, x"),
        (
            {"edge_index": np.zeros((3, 2), dtype=int)},
            "edge_index: shape [3, 2], expected [2, num_edges]; transpose",
        ),
        ({"edge_index": np.zeros((2, 2))}, "edge_index: float64, expected integers"),
        ({"edge_index": np.array([[0], [4]])}, "out of range (greatest 4)"),
        ({"edge_index": np.array([[0], [-1]])}, "negative"),
        ({"x": np.full((4, 1), np.nan)}, "NaN or infinite"),
        ({"x": np.array(["a", "b", "c", "d"])}, "x: <U1, expected numbers"),
        ({"y": np.array([0, 1])}, "y has 2 rows for 4 nodes"),
        ({"train_idx": np.array([9])}, "train_idx holds ids in [9, 9]; allowed is [0, 3]"),
        ({"train_idx": np.array([0.5])}, "train_idx is torch.float64; ids of nodes are integers"),
        ({"train_mask": np.ones(3, dtype=bool)}, "mask train_mask has shape (3,); it must be [4]"),
        ({"train_mask": np.full(4, 7)}, "mask train_mask holds 7; a mask holds booleans"),
        ({"split_fold_masks": np.zeros((1, 3))}, "split_fold_masks: shape [1, 3]"),
        ({"split_fold_masks": np.full((1, 4), 9)}, "split_fold_masks: codes are"),
        ({"fold": np.zeros(4)}, "fold: shape [4], expected one entry a graph"),
        ({"node_ptr": np.array([0, 3])}, "node_ptr: expected integers from 0 to num_nodes = 4"),
        ({"node_ptr": np.array([0, 3, 2, 4])}, "node_ptr: it decreases"),
        ({"node_ptr": np.array([0, 2, 4])}, "edges connect different graphs"),
        ({"about": np.array("no JSON")}, "about: expected a JSON object"),
        ({"x_indptr": np.array([0])}, "x and x_indptr: features are either dense or sparse"),
        ({"x": None, "x_indptr": np.zeros(5, dtype=int)}, "x_indices, x_shape: missing"),
        ({"x": None, "node_tag": np.array([-1, 0, 0, 0])}, "node_tag: expected 4 integers"),
    ],
)
def test_faulty_arrays_name_file_and_key(tmp_path, changes, message):
    file = write_npz(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError) as caught:
        load(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x_indptr", np.array([0, 1, 2, 3, 9]), "indptr"),
        ("x_indices", np.array([0, 1, 2, 7]), "column indices span"),
        ("x_data", np.ones(3), "x_data: shape [3], where x_indices has [4]"),
        ("x_shape", np.array([4]), "x_shape: [4], expected [num_nodes, num_features]"),
        (
            "x_indices",
            np.zeros(4),
            "x_indices: float64 of shape [4], expected a vector of integers",
        ),
    ],
)
def test_faulty_sparse_features(tmp_path, key, value, message):
    parts = {
        "x_indptr": np.arange(5),
        "x_indices": np.array([0, 1, 2, 0]),
        "x_data": np.arange(1, 5),
        "x_shape": np.array([4, 3]),
    }
    file = write_npz(tmp_path / "a.npz", **{"x": None, **parts, key: value})
    with pytest.raises(InputError) as caught:
        load(file, preprocessing="tf-idf")
    assert message in str(caught.value)


def test_objects_are_never_unpickled(tmp_path):
    objects = np.array([{}, {}, {}, {}], dtype=object)
    file = write_npz(tmp_path / "a.npz", y=objects)
    with pytest.raises(InputError, match=r"a\.npz: key 'y' holds Python objects"):
        load(file)
    folder = write_folder(tmp_path / "folder", path_graph())
    np.save(folder / "y.npy", objects)
    with pytest.raises(InputError, match=r"y\.npy: key 'y' holds Python objects"):
        load(folder)


def test_truncated_and_damaged_files(tmp_path):
    file = write_npz(tmp_path / "a.npz")
    whole = file.read_bytes()
    for content in (b"", b"no archive at all", whole[: len(whole) // 2], whole[:-30]):
        file.write_bytes(content)
        with pytest.raises(StoreError, match=r"a\.npz"):
            load(file)
    position = whole.index(path_graph()["x"].tobytes())
    file.write_bytes(whole[:position] + b"\xff" * 4 + whole[position + 4 :])
    with pytest.raises(StoreError, match=r"a\.npz: key 'x' is damaged or truncated"):
        load(file)
    folder = write_folder(tmp_path / "folder", path_graph())
    content = (folder / "x.npy").read_bytes()
    for cut in (content[:-8], content[:4], b""):
        (folder / "x.npy").write_bytes(cut)
        with pytest.raises(StoreError, match=r"x\.npy: key 'x' is damaged or truncated"):
            load(folder)


def test_a_folder_without_arrays(tmp_path):
    with pytest.raises(InputError, match="is an empty folder"):
        load(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(StoreError, match="single array"):
        load(tmp_path / "x.npy")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared folder of real graphs")
def test_real_graphs():
    counts = {}
    for file in SHARED.glob("*.npz"):
        graph = load(file)
        assert graph.adj.symmetric
        counts[file.stem] = (graph.num_nodes, graph.num_edges // 2, graph.num_features)
    assert counts["cora"] == (2708, 5278, 1433)
    assert counts["twitch7"] == (36_890, 492_575, 3170)
    assert counts["tolokers"] == (11_758, 519_000, 10)
    sizes = [
        int(load(SHARED / "cora.npz").splits["full"][p].sum()) for p in ("train", "val", "test")
    ]
    assert sizes == [1208, 500, 1000]
    assert load(SHARED / "twitch7.npz").num_graphs == 7
    assert len(load(SHARED / "tolokers.npz").splits) == 10
    assert load(SHARED / "tu_mutag.npz").y_level == "graph"


@pytest.mark.parametrize("name", ["what?.csv", "a#b&c=d.csv", "50%20 e.csv", "?.csv"])
def test_signs_in_the_names_of_files(tmp_path, name):
    (tmp_path / name).write_text("source,target\n5,6\n6,7\n")
    for query in ("", "?undirected=False", "?undirected=False&name=who%3F"):
        graph = load(f"{tmp_path}/{name}{query}")
        assert graph.num_nodes == 3 and graph.num_edges == (2 if query else 4)

"""Sets that ogb's own DatasetSaver writes."""

from __future__ import annotations

import contextlib
import io
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import gnnscale as gs
from gnnscale.data.ogb import own
from tests.helpers import ogb_layout
from tests.helpers.same_graph import assert_edges, assert_nodes, assert_split

RNG = np.random.default_rng(0)
EDGES = RNG.integers(0, 12, (2, 30))
X = RNG.standard_normal((12, 4)).astype(np.float32)
Y = RNG.integers(0, 3, (12, 1))
SPLIT = dict(zip(("train", "valid", "test"), np.split(RNG.permutation(12), [6, 9]), strict=True))
SIZES = [3, 1, 5, 2]
GRAPHS = [
    {
        "edge_index": RNG.integers(0, size, (2, 2 * i)),
        "num_nodes": size,
        "node_feat": RNG.integers(0, 5, (size, 2)),
        "edge_feat": RNG.integers(0, 4, (2 * i, 3)),
    }
    for i, size in enumerate(SIZES)
]


def save(root: Path, name: str, graphs: list, labels, split, task="multiclass classification"):
    """What ogb's documentation does, in its order; returns the folder that is to be submitted."""
    from ogb.io import DatasetSaver

    (root / "mapping").mkdir(parents=True)
    (root / "mapping/README.md").write_text("which node is which\n")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        saver = DatasetSaver(name, False, version=1, root=str(root / "submission"))
        saver.save_graph_list(graphs)
        if labels is not None:
            saver.save_target_labels(labels)
        saver.save_split(split, "random")
        saver.copy_mapping_dir(str(root / "mapping"))
        saver.save_task_info(task, "acc", num_classes=3)
        saver.get_meta_dict()
        saver.zip()
    return Path(saver.submission_dir)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    graph = {"edge_index": EDGES, "num_nodes": 12, "node_feat": X}
    return save(tmp_path_factory.mktemp("node"), "ogbn-mine", [graph], Y, SPLIT)


def mask(ids):
    return np.isin(np.arange(12), ids)


@pytest.mark.parametrize("part", ["", "mine", "mine.zip"])
@pytest.mark.parametrize("large", [False, True])
def test_a_node_set_is_read_from_each_of_its_parts(nodes, part, large, monkeypatch):
    if large:
        monkeypatch.setattr(own, "LARGE", 0)
    graph = gs.load(nodes / part)
    assert_edges(graph, EDGES)
    assert_nodes(graph, X, Y[:, 0])
    assert_split(
        graph, train=mask(SPLIT["train"]), val=mask(SPLIT["valid"]), test=mask(SPLIT["test"])
    )
    assert (graph.task, graph.metric, graph.num_classes) == ("classification", "accuracy", 3)


def test_ogb_reads_the_same(nodes):
    from ogb.nodeproppred import NodePropPredDataset

    meta = torch.load(nodes / "meta_dict.pt", weights_only=True)
    copy = Path(shutil.copytree(nodes, nodes.parent / "for_ogb"))
    meta["dir_path"] = str(copy / "mine")
    with pytest.MonkeyPatch.context() as patch:
        load = torch.load
        patch.setattr(torch, "load", lambda path: load(path, weights_only=False))
        patch.setattr("builtins.print", lambda *_, **__: None)
        given = NodePropPredDataset("ogbn-mine", meta_dict=meta)
        split = given.get_idx_split()
    read, labels = given[0]
    graph = gs.load(nodes)
    assert_edges(graph, read["edge_index"])
    assert_nodes(graph, read["node_feat"], labels[:, 0])
    assert_split(graph, train=mask(split["train"]))


def test_edge_features_and_several_labels_with_gaps(tmp_path):
    values = RNG.standard_normal((30, 2)).astype(np.float32)
    graph = {"edge_index": EDGES, "num_nodes": 12, "node_feat": X, "edge_feat": values}
    y = RNG.integers(0, 2, (12, 3)).astype(np.float64)
    y[0, 0] = np.nan
    folder = save(tmp_path, "ogbn-several", [graph], y, SPLIT, "binary classification")
    read = gs.load(folder)
    assert_edges(read, EDGES, edge_attr=values)
    assert_nodes(read, X, y)
    assert read.task == "multilabel"


@pytest.mark.parametrize("part", ["", "small.zip"])
def test_a_set_of_graphs_is_numbered_through(tmp_path, part):
    split = {"train": np.array([3, 0]), "valid": np.array([1]), "test": np.array([2])}
    y = np.array([[0], [1], [1], [2]])
    read = gs.load(save(tmp_path, "ogbg-small", GRAPHS, y, split) / part)
    first = np.cumsum([0, *SIZES])
    edges = [g["edge_index"] + start for g, start in zip(GRAPHS, first, strict=False)]
    assert_edges(
        read,
        np.concatenate(edges, axis=1),
        edge_attr=np.concatenate([g["edge_feat"] for g in GRAPHS]),
    )
    assert_nodes(read, np.concatenate([g["node_feat"] for g in GRAPHS]), y[:, 0])
    assert read.node_ptr.tolist() == first.tolist()
    assert_split(read, train=np.repeat([True, False, False, True], SIZES))


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbn-papers100M", "ogbg-molhiv"])
def test_ogbs_own_sets_are_read_by_their_folders(tmp_path, name, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    if name == "ogbg-molhiv":
        folder = ogb_layout.write_graph_csv(tmp_path, ogb_layout.random_graph_set(), name)
    else:
        write = ogb_layout.write_node_npz if "papers" in name else ogb_layout.write_node_csv
        folder = write(tmp_path, ogb_layout.random_node_set(), name)
    graph, expected = gs.load(folder), gs.load(name, root=tmp_path)
    assert torch.equal(graph.edge_index, expected.edge_index)
    assert torch.equal(graph.x, expected.x)
    assert torch.equal(graph.y.nan_to_num(-1), expected.y.nan_to_num(-1))
    assert torch.equal(gs.load(graph.source).edge_index, expected.edge_index)
    if name == "ogbn-arxiv":
        assert gs.load(folder, undirected=False).num_edges < graph.num_edges


def test_types_are_refused_by_name(tmp_path):
    from ogb.io import DatasetSaver

    (tmp_path / "mapping").mkdir()
    (tmp_path / "mapping/README.md").touch()
    graph = {
        "edge_index_dict": {("a", "to", "b"): np.array([[0, 1], [1, 0]])},
        "num_nodes_dict": {"a": 2, "b": 2},
    }
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        saver = DatasetSaver("ogbn-typed", True, version=1, root=str(tmp_path / "submission"))
        saver.save_graph_list([graph])
        saver.save_target_labels({"b": np.array([[0], [1]])})
        part = {"b": np.array([0])}
        saver.save_split({"train": part, "valid": part, "test": part}, "random")
        saver.copy_mapping_dir(str(tmp_path / "mapping"))
        saver.save_task_info("multiclass classification", "acc", num_classes=2)
        saver.get_meta_dict()
        saver.zip()
    folder = Path(saver.submission_dir)
    for given in (folder, folder / "typed"):
        with pytest.raises(gs.InputError, match="several types"):
            gs.load(given)


def test_links_are_refused_by_name(tmp_path):
    graph = {"edge_index": EDGES, "num_nodes": 12, "node_feat": X}
    folder = save(tmp_path, "ogbl-links", [graph], None, SPLIT, "link prediction")
    with pytest.raises(gs.InputError, match="links"):
        gs.load(folder)


class Touch:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["meta_dict.pt", "mine/split/random/split_dict.pt"])
def test_code_in_it_is_not_run(nodes, tmp_path, file):
    folder = Path(shutil.copytree(nodes, tmp_path / "evil"))
    torch.save({"train": Touch(tmp_path / "run")}, folder / file)
    with pytest.raises(gs.InputError, match="runs no code"):
        gs.load(folder)
    (folder / file).write_bytes(pickle.dumps(Touch(tmp_path / "run")))
    with pytest.raises(gs.GnnscaleError, match=file):
        gs.load(folder)
    assert not (tmp_path / "run").exists()


def test_a_zip_of_a_folder_is_read(nodes, tmp_path):
    """With the folder's name on top, as `zip -r` leaves it."""
    path = tmp_path / "packed.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (nodes / "mine").rglob("*"):
            archive.write(file, f"mine/{file.relative_to(nodes / 'mine').as_posix()}")
    graph = gs.load(path)
    assert_edges(graph, EDGES)
    assert_nodes(graph, X, Y[:, 0])

"""Data sets that PyG reads, from raw files in its own layouts, without a network."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.datasets import Planetoid

import gnnscale as gs
from gnnscale.data import list_cards
from gnnscale.data.pyg import loading
from gnnscale.data.pyg.catalogue import find_pyg
from gnnscale.errors import InputError, StoreError
from gnnscale.kernels import CSR
from gnnscale.storage.mapped import is_mapped
from tests.helpers.graphs import assert_same_graph
from tests.helpers.pyg_layout import write_card, write_planetoid, write_ppi, write_saint, write_tu
from tests.helpers.strategies import graphs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_planetoid(tmp_path, monkeypatch):
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("GNNSCALE_DATASETS", str(root))
    written = write_planetoid(root / "Planetoid" / "Cora" / "raw")
    counts = {"num_nodes": 1520, "num_features": 40, "num_classes": 4}
    write_card(root, "planetoid/cora", **counts)
    graph = gs.load("Planetoid/Cora")
    assert graph.name == "planetoid/cora" and graph.metric == "accuracy"
    assert isinstance(graph.x, CSR)
    assert np.array_equal(graph.y, written["y"])
    by_target = np.lexsort((written["edge_index"][0], written["edge_index"][1]))
    assert np.array_equal(graph.edge_index, written["edge_index"][:, by_target])
    sums = np.maximum(written["x"].sum(1, keepdims=True), 1)
    assert np.allclose(graph.x.to_dense(torch.float32), written["x"] / sums)
    data = Planetoid(root / "Planetoid", "Cora")[0]
    for part in ("train", "val", "test"):
        assert torch.equal(graph.split()[part], data[f"{part}_mask"])
    assert "full" not in graph.splits  # all 20 that are left train already
    assert_same_graph(gs.load(graph.source), graph)
    plain = gs.load("planetoid/cora?preprocessing=none&split=60/20/20&seed=3")
    assert np.array_equal(plain.x.to_dense(torch.float32), written["x"])
    assert_same_graph(gs.load(plain.source), plain)


@pytest.mark.parametrize("by", ["root", "data"])
def test_a_folder_that_pyg_left_is_used_as_it_is(tmp_path, by):
    """Where `root=` was PyG's own, the name spelled in small letters, raw files removed."""
    folder = tmp_path / "mine"
    write_planetoid(folder / "cora" / "raw")
    write_card(tmp_path, "planetoid/cora", num_nodes=1520, num_features=40, num_classes=4)
    Planetoid(folder, "cora")
    for file in (folder / "cora" / "raw").iterdir():
        file.unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    write_card(folder, "planetoid/cora", num_nodes=1520, num_features=40, num_classes=4)
    if by == "root":
        graph = gs.load("planetoid/cora", root=folder)
    else:
        graph = gs.load("planetoid/cora", root=tmp_path, data=folder)
    assert graph.num_nodes == 1520
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("name", "class_name", "multilabel"),
    [("reddit2", "Reddit2", False), ("Yelp", "Yelp", True), ("AmazonProducts",) * 2 + (True,)],
)
def test_sets_of_graphsaint(tmp_path, monkeypatch, name, class_name, multilabel):
    root = tmp_path / "data"
    written = write_saint(root / class_name / "raw", multilabel)
    write_card(root, find_pyg(name).name, num_nodes=60, num_features=5, num_classes=7)
    graph = gs.load(name, root=root)
    assert graph.task == ("multilabel" if multilabel else "classification")
    assert graph.metric == "f1_micro"
    assert np.array_equal(graph.y, written["y"])
    train = graph.x[graph.train_mask]
    assert graph.train_mask.sum() == 30
    assert torch.allclose(train.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.ones(5), atol=1e-5)
    monkeypatch.setattr(loading, "LARGE", 100)
    first = gs.load(name, root=root)
    monkeypatch.setattr(loading, "read_pyg", None)  # the second time, PyG reads nothing
    again = gs.load(name, root=root)
    assert is_mapped(first.x) and is_mapped(again.x) and is_mapped(again.adj.indices)
    assert_same_graph(again, first)
    assert again.fingerprint() == graph.fingerprint()


def test_ppi_is_one_graph_whose_parts_are_graphs(tmp_path):
    written = write_ppi(tmp_path / "raw")
    write_card(tmp_path, "ppi", num_nodes=27)
    graph = gs.load("PPI", root=tmp_path, preprocessing="none")
    assert graph.node_ptr.tolist() == [0, 6, 15, 20, 27]
    assert graph.train_mask.nonzero().squeeze(1).tolist() == list(range(15))
    assert graph.val_mask.nonzero().squeeze(1).tolist() == list(range(15, 20))
    assert np.array_equal(graph.x, np.concatenate(written["x"]).astype(np.float32))
    assert np.array_equal(graph.y, np.concatenate(written["y"]))
    assert graph.task == "multilabel" and graph.adj.symmetric
    assert (graph.edge_index[0] != graph.edge_index[1]).all()


@pytest.mark.parametrize("labels", [True, False])
def test_tu_data_sets(tmp_path, labels):
    written = write_tu(tmp_path / "TUDataset" / "RINGS" / "raw", "RINGS", 24, labels)
    graph = gs.load("tudataset/RINGS", root=tmp_path)
    assert (graph.y_level, graph.num_graphs, graph.num_classes) == ("graph", 24, 2)
    assert graph.node_ptr.tolist() == written["node_ptr"].tolist()
    assert graph.y.tolist() == written["y"].tolist()
    assert graph.num_edges == written["edges"].shape[1]
    if labels:
        tags = graph.x.to_dense(torch.float32) if isinstance(graph.x, CSR) else graph.x
        assert tags.argmax(1).tolist() == written["tags"].tolist()
    else:
        assert graph.x.to_dense(torch.float32).argmax(1).tolist() == [2] * graph.num_nodes
    assert list(graph.splits) == [f"fold{k}" for k in range(10)]
    tested = torch.stack([split.test for split in graph.splits.values()])
    assert (tested.sum(0) == 1).all()


def test_without_files_it_says_what_to_place_where(tmp_path):
    with pytest.raises(StoreError) as caught:
        gs.load("planetoid/pubmed", root=tmp_path)
    message = str(caught.value)
    raw = tmp_path / "Planetoid" / "PubMed" / "raw"
    for part in (f"{raw} lacks ind.pubmed.x, ", "download=True", f"Or place them in {raw}; or"):
        assert part in message
    assert not list(tmp_path.rglob("*PubMed*"))  # nothing is left behind
    raw.mkdir(parents=True)
    (raw / "ind.pubmed.x").write_bytes(b"<html>")
    with pytest.raises(StoreError, match=r"raw lacks ind.pubmed.tx, "):
        gs.load("planetoid/pubmed", root=tmp_path)


def test_damaged_files(tmp_path):
    raw = tmp_path / "Reddit2" / "raw"
    write_saint(raw, False)
    with pytest.raises(InputError, match=r"field .num_nodes. is 232965, but .* has 60"):
        gs.load("reddit2", root=tmp_path)
    (tmp_path / "Reddit2" / "processed" / "data.pt").write_bytes(b"PK")
    with pytest.raises(StoreError, match=r"data.pt is damaged.*remove .*: it is made anew"):
        gs.load("reddit2", root=tmp_path)


def test_names():
    assert find_pyg("Reddit2").name == "reddit2" and find_pyg("reddit3") is None
    assert find_pyg("TUDataset/NCI1").member == "NCI1"
    assert find_pyg("citation-full/Cora_ML").name == "citation_full/cora_ml"
    assert find_pyg("planetoid") is None and find_pyg("wordnet/x") is None
    with pytest.raises(InputError, match="there are coauthor/cs, coauthor/physics"):
        gs.load("coauthor/maths")
    for name in ("OGB_MAG", "imdb"):
        with pytest.raises(InputError, match=r"several kinds of nodes or edges.*to_homogeneous"):
            gs.load(name)
    for card in list_cards():
        if "torch_geometric.datasets" in card.source and card.file == "data.npz":
            assert find_pyg(card.name).name == card.name


def test_cards_are_listed_without_torch():
    code = (
        "import sys; from gnnscale.data.cards import list_cards, find_card\n"
        "names = [card.name for card in list_cards()]\n"
        "assert {'planetoid/cora', 'tudataset/MUTAG', 'ppi'} <= set(names), names\n"
        "assert find_card('coauthor/cs').num_nodes == 18333\n"
        "assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_back_to_pyg():
    """What a Data says is said again, in the same order of edges or ours."""
    edges = torch.tensor([[0, 1, 2, 2, 3], [1, 2, 0, 3, 4]])
    data = Data(
        x=torch.rand(5, 3),
        edge_index=edges,
        edge_attr=torch.rand(5, 2),
        edge_weight=torch.rand(5),
        y=torch.tensor([0, 1]),
        ptr=torch.tensor([0, 0, 5]),
    )
    graph = gs.Graph.from_data(data, y_level="graph")
    back = graph.to_data()
    assert back.batch.tolist() == [1] * 5 and back.num_graphs == 2
    assert_same_graph(gs.Graph.from_data(back), graph)


@settings(deadline=None, max_examples=20)
@given(st.lists(graphs(edge_attr=2, weighted=True), min_size=2, max_size=4))
def test_several_graphs_to_pyg_and_apart(several):
    """The batch comes apart into the graphs that PyG itself would have put together."""
    datas = [
        Data(**{**one.to_data().to_dict(), "y": one.y[:1]}) for one in several if one.y.numel()
    ]
    if len(datas) < 2:
        return
    graph = gs.Graph.from_data(Batch.from_data_list(datas), y_level="graph", num_classes=3)
    batch = graph.to_data()
    assert_same_graph(gs.Graph.from_data(batch, y_level="graph", num_classes=3), graph)
    apart = batch.to_data_list()
    assert len(apart) == len(datas)
    for one, other in zip(apart, datas, strict=True):
        assert one.num_nodes == other.num_nodes
        for key in ("x", "edge_index", "edge_attr", "edge_weight", "edge_type", "node_type", "y"):
            assert torch.equal(one[key], other[key]), key

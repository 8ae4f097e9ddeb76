"""OGB's node-level sets, written in its raw layouts: read as ogb's own reader reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.utils import scatter, to_undirected

import gnnscale as gs
from gnnscale.data.ogb import catalogue, find_entry, loading
from gnnscale.data.ogb.evaluator import official_metric
from gnnscale.errors import GnnscaleError, InputError, StoreError
from gnnscale.graph import Graph
from tests.helpers import ogb_layout
from tests.helpers.ogb_layout import (
    NodeSet,
    random_node_set,
    write_mag,
    write_node_csv,
    write_node_npz,
    zipped,
)

PLAIN = ["ogbn-arxiv", "ogbn-products", "ogbn-proteins", "ogbn-papers100M"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(root: Path, name: str, seed: int = 0) -> tuple[Path, NodeSet]:
    """A small set in the layout of the one whose name it has."""
    if name == "ogbn-proteins":
        data = random_node_set(seed, num_classes=2, num_tasks=112, num_features=0, edge_channels=8)
    else:
        data = random_node_set(seed)
    if name == "ogbn-papers100M":
        data.x = data.x.astype(np.float32)
        data.y = data.y.astype(np.float32)
        data.y[::3] = np.nan
        return write_node_npz(root, data, name), data
    return write_node_csv(root, data, name), data


def as_ogb_reads(folder: Path, name: str) -> tuple[dict, np.ndarray, dict[str, np.ndarray]]:
    """Graph, labels and split as ogb reads them, which prints and shows bars."""
    ogb_raw = pytest.importorskip("ogb.io.read_graph_raw")
    import pandas

    entry = find_entry(name)
    if entry.binary:
        graph = ogb_raw.read_binary_graph_raw(folder / "raw")[0]
        labels = np.load(folder / "raw/node-label.npz")["node_label"]
    else:
        graph = ogb_raw.read_csv_graph_raw(folder / "raw", entry.add_inverse_edge)[0]
        labels = pandas.read_csv(folder / "raw/node-label.csv.gz", header=None).to_numpy()
    split = {
        part: pandas.read_csv(folder / f"split/{entry.split}/{file}.csv.gz", header=None)[0]
        for part, file in (("train", "train"), ("val", "valid"), ("test", "test"))
    }
    return graph, labels, {part: ids.to_numpy() for part, ids in split.items()}


def sorted_edges(edge_index: np.ndarray | torch.Tensor) -> np.ndarray:
    edges = np.asarray(edge_index)
    return edges[:, np.lexsort(edges)]


def assert_same(graph: Graph, other: Graph) -> None:
    assert graph.fingerprint() == other.fingerprint()


def stored(cache: Path) -> list[Path]:
    return [*(cache / "graphs").iterdir()] if (cache / "graphs").exists() else []


# --- equal to ogb -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_is_what_ogb_reads(tmp_path: Path, cache: Path, name: str, packed: bool) -> None:
    folder, _ = write(tmp_path / "made", name)
    theirs, labels, split = as_ogb_reads(folder, name)
    root = tmp_path / "root"
    root.mkdir()
    if packed:
        zipped(folder, root / find_entry(name).archive)
    else:
        folder.rename(root / folder.name)
    graph = gs.load(name, root, undirected=find_entry(name).add_inverse_edge)
    assert np.array_equal(sorted_edges(graph.edge_index), sorted_edges(theirs["edge_index"]))
    assert graph.edge_weight is None and graph.num_nodes == theirs["num_nodes"]
    if name != "ogbn-proteins":
        assert np.array_equal(graph.x, theirs["node_feat"])
    y = labels if graph.task == "multilabel" else np.nan_to_num(labels[:, 0], nan=-1)
    assert np.array_equal(graph.y, y)
    for part, ids in split.items():
        assert np.array_equal(graph.split()[part].nonzero()[:, 0], np.sort(ids))
    entry = find_entry(name)
    assert [*graph.splits] == [entry.split] and graph.num_classes == entry.outputs
    assert graph.metric == {"acc": "accuracy", "rocauc": "roc_auc"}[entry.metric]
    assert len(stored(cache)) == 1  # no scratch file is left beside it


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbn-papers100M"])
def test_directed_sets_are_symmetrised_as_the_leaderboard_does(tmp_path: Path, name: str) -> None:
    folder, data = write(tmp_path, name)
    theirs, _, _ = as_ogb_reads(folder, name)
    expected = to_undirected(torch.from_numpy(theirs["edge_index"]), num_nodes=data.num_nodes)
    graph = gs.load(name, tmp_path)
    assert np.array_equal(sorted_edges(graph.edge_index), sorted_edges(expected))
    assert graph.edge_weight is None and graph.adj.symmetric


@pytest.mark.parametrize("undirected", [True, False])
def test_proteins_have_the_mean_of_their_edges(tmp_path: Path, undirected: bool) -> None:
    folder, data = write(tmp_path, "ogbn-proteins")
    theirs, _, _ = as_ogb_reads(folder, "ogbn-proteins")
    ends, values = theirs["edge_index"], theirs["edge_feat"]
    if not undirected:
        ends, values = data.edge_index, data.edge_attr.astype(np.float32)
    target = torch.from_numpy(ends[1])
    expected = scatter(torch.from_numpy(values), target, dim_size=data.num_nodes, reduce="mean")
    graph = gs.load("ogbn-proteins", tmp_path, undirected=undirected)
    torch.testing.assert_close(graph.x, expected)


@pytest.mark.parametrize("rows", [150, 201])
def test_features_of_edges_that_do_not_fit_the_edges(
    tmp_path: Path, cache: Path, rows: int
) -> None:
    folder, data = write(tmp_path, "ogbn-proteins")
    ogb_layout.write_csv(folder / "raw/edge-feat.csv.gz", np.resize(data.edge_attr, (rows, 8)))
    with pytest.raises(StoreError, match=rf"{min(rows, 200)} rows for 200 edges \(features\)"):
        gs.load("ogbn-proteins", tmp_path)
    assert stored(cache) == []


def test_mag_cites_is_the_papers_of_mag(tmp_path: Path) -> None:
    data = random_node_set(3, num_classes=9)
    folder = write_mag(tmp_path, data)
    ogb_raw = pytest.importorskip("ogb.io.read_graph_raw")
    theirs = ogb_raw.read_csv_heterograph_raw(folder / "raw")[0]
    graph = gs.load("ogbn-mag-cites", tmp_path, undirected=False)
    cites = theirs["edge_index_dict"]["paper", "cites", "paper"]
    assert np.array_equal(sorted_edges(graph.edge_index), sorted_edges(cites))
    assert np.array_equal(graph.x, theirs["node_feat_dict"]["paper"])
    assert np.array_equal(graph.y, data.y[:, 0]) and graph.num_classes == 349
    for part, ids in zip(("train", "val", "test"), data.splits.values(), strict=True):
        assert np.array_equal(graph.split()[part].nonzero()[:, 0], np.sort(ids))


# --- where data are, and the cache ------------------------------------------------------------


def test_is_converted_once_and_the_raw_data_left_alone(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = write(tmp_path, "ogbn-arxiv")
    before = loading.stamp_of(folder)
    graph = gs.load("ogbn-arxiv", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "open_raw", None)
        assert_same(gs.load("ogbn-arxiv", tmp_path), graph)
        assert_same(gs.load(graph.source), graph)  # as in another process, without the root
        monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path))
        assert gs.load("ogbn-arxiv").source == "ogbn-arxiv"
    assert loading.stamp_of(folder) == before
    data.y[0] += 1
    ogb_layout.write_csv(folder / "raw/node-label.csv.gz", data.y)
    assert gs.load("ogbn-arxiv", tmp_path).y[0] == graph.y[0] + 1
    assert len(stored(cache)) == 2


def test_damaged_store_is_made_again(tmp_path: Path, cache: Path) -> None:
    write(tmp_path, "ogbn-arxiv")
    expected = gs.load("ogbn-arxiv", tmp_path).fingerprint()
    (stored(cache)[0] / "indices.npy").write_bytes(b"cut")
    with pytest.warns(RuntimeWarning, match="made again"):
        assert gs.load("ogbn-arxiv", tmp_path).fingerprint() == expected


@pytest.mark.parametrize("place", ["ogbn_arxiv_pyg", "arxiv", "."])
def test_folder_names_that_ogb_uses(tmp_path: Path, place: str) -> None:
    folder, _ = write(tmp_path / "made", "ogbn-arxiv")
    root = folder
    if place != ".":
        root = tmp_path
        folder.rename(tmp_path / place)
    assert gs.load("ogbn-arxiv", root).num_nodes == 60


def test_not_found_says_what_to_place_where(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "ogbn_products/raw").mkdir(parents=True)  # as a stopped download of ogb leaves it
    with pytest.raises(StoreError) as caught:
        gs.load("ogbn-products", tmp_path)
    for part in (
        "download=True",
        find_entry("ogbn-products").url,
        "products.zip",
        "ogbn_products",
        "1.5 GB",
        "GNNSCALE_DATASETS",
        str(tmp_path),
        str(cache / "ogb"),
    ):
        assert part in str(caught.value)


# --- what is wrong ----------------------------------------------------------------------------


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def wrong_checksum(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-8] + bytes(4) + content[-4:])


def replace(file: str, rows: object) -> Callable[[Path], None]:
    return lambda folder: ogb_layout.write_csv(folder / file, rows)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut": (lambda f: cut(f / "raw/edge.csv.gz"), "edge.csv.gz is damaged or truncated"),
    "checksum": (lambda f: wrong_checksum(f / "raw/node-feat.csv.gz"), "node-feat.csv.gz is dam"),
    "page": (lambda f: (f / "raw/edge.csv.gz").write_text("<html>"), "edge.csv.gz is damaged"),
    "no split": (lambda f: (f / "split/time/valid.csv.gz").unlink(), "valid.csv.gz is missing"),
    "no edges": (lambda f: (f / "raw/edge.csv.gz").unlink(), "edge.csv.gz is missing"),
    "no labels": (lambda f: (f / "raw/node-label.csv.gz").unlink(), "node-label.csv.gz is mis"),
    "nodes": (replace("raw/num-node-list.csv.gz", [[61]]), "60 rows for 61 nodes"),
    "fewer nodes": (replace("raw/num-node-list.csv.gz", [[59]]), "more than 59 rows for 59"),
    "edges": (replace("raw/num-edge-list.csv.gz", [[199]]), "more than 199 rows for 199 edges"),
    "graphs": (replace("raw/num-node-list.csv.gz", [[30], [30]]), "lists 2 graphs"),
    "words": (replace("raw/edge.csv.gz", [["a", "b"]]), "does not hold whole numbers"),
    "hole": (replace("raw/edge.csv.gz", [[1, float("nan")]]), "1 empty fields"),
    "triples": (replace("raw/edge.csv.gz", [[1, 2, 3]] * 200), "an edge has 3 columns"),
    "id": (replace("raw/edge.csv.gz", [[0, 60]] * 200), "target id 60"),
    "label": (replace("raw/node-label.csv.gz", [[40]] * 60), "40"),
    "tasks": (replace("raw/node-label.csv.gz", [[1, 2]] * 60), "labels have 2 columns"),
    "split id": (replace("split/time/test.csv.gz", [[60]]), "60"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_raw_data_are_told_and_leave_nothing(
    tmp_path: Path, cache: Path, fault: str
) -> None:
    folder, _ = write(tmp_path, "ogbn-arxiv")
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(GnnscaleError, match=message) as caught:
        gs.load("ogbn-arxiv", tmp_path)
    assert "ogbn_arxiv" in str(caught.value)
    assert stored(cache) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><p>no such file", "a web page, not a zip"),
        (b"PK\3\4 cut", "damaged or no"),
    ],
)
def test_archive_that_is_none(tmp_path: Path, cache: Path, content: bytes, message: str) -> None:
    (tmp_path / "arxiv.zip").write_bytes(content)
    with pytest.raises(StoreError, match=message):
        gs.load("ogbn-arxiv", tmp_path)
    assert stored(cache) == []


@pytest.mark.parametrize("name", ["ogbn-arxiv", "ogbn-papers100M"])
def test_damage_inside_an_archive(tmp_path: Path, cache: Path, name: str) -> None:
    folder, _ = write(tmp_path / "made", name)
    archive = zipped(folder, tmp_path / find_entry(name).archive)
    content = bytearray(archive.read_bytes())
    content[content.index(b"raw/data.npz" if "papers" in name else b"raw/edge.csv") + 200] ^= 255
    archive.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged|does not hold"):
        gs.load(name, tmp_path)
    assert stored(cache) == []


def test_npz_that_is_none_or_lacks_an_array(tmp_path: Path, cache: Path) -> None:
    folder, data = write(tmp_path, "ogbn-papers100M")
    for file, arrays in (
        ("node-label", {"label": data.y}),
        ("data", {"edge_index": data.edge_index, "num_nodes_list": [60]}),
        (
            "data",
            {"edge_index": data.edge_index.T, "num_nodes_list": [60], "num_edges_list": [200]},
        ),
    ):
        whole = (folder / f"raw/{file}.npz").read_bytes()
        np.savez(folder / f"raw/{file}.npz", **arrays)
        with pytest.raises(StoreError, match=r"has no array|expected integers"):
            gs.load("ogbn-papers100M", tmp_path)
        cut(folder / f"raw/{file}.npz")
        with pytest.raises(StoreError, match="damaged or no npz"):
            gs.load("ogbn-papers100M", tmp_path)
        (folder / f"raw/{file}.npz").write_bytes(whole)
    assert stored(cache) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ogbn-mag", "ogbn-mag-cites.*to_homogeneous"),
        ("ogbl-ppa", "link prediction"),
        ("ogbn-arxi", "Did you mean 'ogbn-arxiv'"),
        ("ogbn-arxiv?undirectd=false", "did you mean 'undirected'"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gs.load(name)


def test_root_or_data_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        gs.load("ogbn-arxiv", tmp_path / "none")
    with pytest.raises(StoreError, match="neither an archive"):
        gs.load("ogbn-arxiv", data=tmp_path / "none")


# --- what OGB says ----------------------------------------------------------------------------


def test_catalogue_is_ogbs_and_imports_nothing_of_it() -> None:
    pandas = pytest.importorskip("pandas")
    table = catalogue._master("node")
    path = Path(pytest.importorskip("ogb").__file__).parent / "nodeproppred/master.csv"
    assert table == pandas.read_csv(path, index_col=0, keep_default_na=False).to_dict()
    code = (
        "import sys, json; from gnnscale.data.ogb import find_entry; find_entry('ogbn-arxiv');"
        "print(json.dumps([m for m in ('ogb', 'torch', 'pandas') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_official_metric_is_the_evaluators() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 40, 50)
    scores = torch.from_numpy(rng.standard_normal((50, 40)))
    right = float((scores.argmax(1).numpy() == y)[5:].mean())
    y[:5] = -1  # unlabelled
    assert official_metric("ogbn-arxiv", y, scores) == {"acc": pytest.approx(right)}
    assert official_metric("ogbn-arxiv", y, scores.argmax(1)) == {"acc": pytest.approx(right)}
    truth = rng.integers(0, 2, (50, 112))
    perfect = official_metric("ogbn-proteins", truth, truth * 2.0 - 1)
    assert perfect == {"rocauc": 1.0}
    with pytest.raises(InputError, match="expected"):
        official_metric("ogbn-proteins", truth[:, :3], truth)
    with pytest.raises(InputError, match="no leaderboard"):
        official_metric("ogbn-mag-cites", y, y)

"""OGB's graph-level sets: what ogb's own reader makes of the same files, and clear errors."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gnnscale.data.ogb import graphs
from gnnscale.data.ogb.catalogue import OGBEntry, find_entry
from gnnscale.data.ogb.graphs import read_graphs
from gnnscale.data.ogb.raw import open_raw
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from tests.helpers.ogb_layout import (
    GraphSet,
    random_graph_set,
    write_csv,
    write_graph_csv,
    zipped,
)

HIV = find_entry("ogbg-molhiv")


def read(folder: Path, entry: OGBEntry = HIV) -> Graph:
    with open_raw(folder) as raw:
        return read_graphs(entry, raw, folder.parent / "scratch")


def edges_of(edge_index: Any, edge_attr: Any) -> np.ndarray:
    """Edges with their attributes, sorted: graphs may list them in any order."""
    rows = np.concatenate([np.asarray(edge_index).T, np.asarray(edge_attr)], axis=1)
    return rows[np.lexsort(rows.T)]


def assert_as_ogb_reads(graph: Graph, listed: list[dict[str, Any]], data: GraphSet) -> None:
    assert graph.num_graphs == len(listed)
    assert graph.y_level == "graph"
    at, edge_index = graph.node_ptr.tolist(), graph.edge_index
    for g, theirs in enumerate(listed):
        start, stop = at[g], at[g + 1]
        assert stop - start == theirs["num_nodes"]
        assert np.array_equal(graph.x[start:stop], theirs["node_feat"])
        own = (edge_index[0] >= start) & (edge_index[0] < stop)
        ours = edges_of(edge_index[:, own] - start, graph.edge_attr[own])
        assert np.array_equal(ours, edges_of(theirs["edge_index"], theirs["edge_feat"]))
    for part, theirs_part in (("train", "train"), ("val", "valid"), ("test", "test")):
        chosen = np.isin(np.arange(graph.num_graphs), data.splits[theirs_part])
        assert np.array_equal(graph.split()[part], np.repeat(chosen, np.diff(at)))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_csv_files_are_read_as_ogb_reads_them(tmp_path: Path, seed: int, inside: bool) -> None:
    reader = pytest.importorskip("ogb.io.read_graph_raw")
    data = random_graph_set(seed)
    folder = write_graph_csv(tmp_path, data)
    graph = read(zipped(folder, tmp_path / "hiv.zip") if inside else folder)
    listed = reader.read_csv_graph_raw(str(folder / "raw"), add_inverse_edge=True)
    assert_as_ogb_reads(graph, listed, data)
    assert graph.adj.symmetric
    assert list(graph.splits) == ["scaffold"]
    assert (graph.task, graph.metric, graph.num_classes) == ("multilabel", "roc_auc", 1)
    assert np.array_equal(graph.y, data.y)


@pytest.mark.parametrize("inside", [False, True])
def test_npz_files_are_read_as_ogb_reads_them(tmp_path: Path, inside: bool) -> None:
    reader = pytest.importorskip("ogb.io.read_graph_raw")
    data = random_graph_set(3)
    folder = write_graph_csv(tmp_path, data)
    for file in (folder / "raw").iterdir():
        file.unlink()
    np.savez_compressed(
        folder / "raw/data.npz",
        edge_index=data.edge_index,
        num_nodes_list=data.num_nodes,
        num_edges_list=data.num_edges,
        node_feat=data.x,
        edge_feat=data.edge_attr,
    )
    np.savez_compressed(folder / "raw/graph-label.npz", graph_label=data.y)
    entry = dataclasses.replace(HIV, binary=True, add_inverse_edge=False)
    graph = read(zipped(folder, tmp_path / "hiv.zip") if inside else folder, entry)
    assert_as_ogb_reads(graph, reader.read_binary_graph_raw(str(folder / "raw")), data)
    assert np.array_equal(graph.y, data.y)


def test_unknown_labels_of_several_tasks_are_nan(tmp_path: Path) -> None:
    data = random_graph_set(num_tasks=128)
    y = data.y.astype(float)
    y[np.random.default_rng(0).random(y.shape) < 0.4] = np.nan
    entry = dataclasses.replace(find_entry("ogbg-molpcba"), split=HIV.split)
    graph = read(write_graph_csv(tmp_path, dataclasses.replace(data, y=y)), entry)
    assert np.array_equal(graph.y, y, equal_nan=True)
    assert (graph.task, graph.metric) == ("multilabel", "average_precision")
    assert graph.num_classes == 128


def test_regression_and_classes(tmp_path: Path) -> None:
    data = random_graph_set()
    y = np.linspace(-1, 1, data.y.size).reshape(data.y.shape)
    folder = write_graph_csv(tmp_path, dataclasses.replace(data, y=y))
    graph = read(folder, find_entry("ogbg-molesol"))
    assert (graph.task, graph.metric, graph.y.dtype) == ("regression", "rmse", torch.float32)
    assert np.allclose(graph.y, y)
    write_csv(folder / "raw/graph-label.csv.gz", data.y * 36)
    (folder / "split/scaffold").rename(folder / "split/species")
    graph = read(folder, find_entry("ogbg-ppa"))  # which has no features of nodes
    assert (graph.task, graph.num_classes, graph.x) == ("classification", 37, None)
    assert np.array_equal(graph.y, data.y[:, 0] * 36)


@pytest.mark.parametrize("file", ["edge", "node-feat", "edge-feat", "graph-label", "num-node-list"])
def test_a_missing_and_a_damaged_file_are_named(tmp_path: Path, file: str) -> None:
    folder = write_graph_csv(tmp_path, random_graph_set())
    path = folder / f"raw/{file}.csv.gz"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"<html>", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{file}\.csv\.gz.*[Ff]etch"):
            read(folder)


@pytest.mark.parametrize("file", ["edge", "node-feat", "edge-feat", "graph-label", "num-edge-list"])
@pytest.mark.parametrize("rows", [slice(0, 3), slice(None)])
def test_files_that_do_not_fit_each_other(tmp_path: Path, file: str, rows: slice) -> None:
    data = random_graph_set()
    folder = write_graph_csv(tmp_path, data)
    content = {
        "edge": data.edge_index.T,
        "node-feat": data.x,
        "edge-feat": data.edge_attr,
        "graph-label": data.y,
        "num-edge-list": data.num_edges[:, None],
    }[file]
    other = content[rows] if rows.stop else np.concatenate([content, content])
    write_csv(folder / f"raw/{file}.csv.gz", other)
    with pytest.raises(StoreError, match=r"[Ff]etch"):
        read(folder)


@pytest.mark.parametrize("node", [-1, 100])
def test_an_edge_to_a_node_of_another_graph(tmp_path: Path, node: int) -> None:
    data = random_graph_set()
    data.edge_index[1, 7] = node
    with pytest.raises(StoreError, match=rf"graph \d+ of \d nodes has an edge \[ *\d+ +{node}\]"):
        read(write_graph_csv(tmp_path, data))


def test_labels_of_another_set_and_negative_counts(tmp_path: Path) -> None:
    data = random_graph_set(num_tasks=2)
    folder = write_graph_csv(tmp_path, data)
    with pytest.raises(StoreError, match=r"graph-label has 2 labels a graph, where ogbg-molhiv"):
        read(folder)
    write_csv(folder / "raw/num-node-list.csv.gz", -data.num_nodes[:, None])
    with pytest.raises(StoreError, match="some below 0"):
        read(folder)


def test_a_split_that_is_missing_or_of_other_data(tmp_path: Path) -> None:
    folder = write_graph_csv(tmp_path, random_graph_set())
    file = folder / "split/scaffold/valid.csv.gz"
    write_csv(file, [[3], [12]])
    with pytest.raises(StoreError, match=r"valid\.csv\.gz names graphs 3 to 12; there are 0 to 11"):
        read(folder)
    file.unlink()
    with pytest.raises(StoreError, match=r"valid\.csv\.gz is missing"):
        read(folder)


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    for content in (b"<!DOCTYPE html>", b"PK\x03\x04 and no more"):
        (tmp_path / "hiv.zip").write_bytes(content)
        with pytest.raises(StoreError, match=r"Fetch it again"):
            read(tmp_path / "hiv.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(StoreError, match="no archive of OGB's"):
        read(tmp_path / "other.zip")


def test_what_does_not_fit_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_graph_csv(tmp_path, random_graph_set())
    monkeypatch.setattr(
        graphs.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100})
    )
    with pytest.raises(InputError, match=r"takes at least .* GB of memory, and 0\.0 GB are free"):
        read(folder)


def test_labels_that_are_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels of ogbg-code2 are words"):
        read(write_graph_csv(tmp_path, random_graph_set()), find_entry("ogbg-code2"))

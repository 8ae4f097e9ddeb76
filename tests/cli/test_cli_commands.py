"""The other commands, each on what the ones before it made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import gnnscale as gs
from gnnscale.data.formats.registry import list_formats
from tests.cli.conftest import FAST, GRAPH


@pytest.fixture
def run(gnnscale):
    gnnscale("train", "-d", GRAPH, *FAST, "--epochs", "2", "--run-dir", "run", "--no-baselines")
    return "run"


def test_evaluate_and_predict_say_what_python_says(gnnscale, run):
    opened = gs.load_run(run)
    done = gnnscale("evaluate", run, "--on", "all")
    for where in ("train", "val", "test"):
        assert f"{opened.trainer.evaluate(where)['accuracy']:.4f}" in done.stdout
    assert "train" not in gnnscale("evaluate", run).stdout

    gnnscale("predict", run, "--out", "all.npy")
    outputs = np.load("all.npy")
    assert np.array_equal(outputs, opened.trainer.predict().numpy())
    ids = np.array([7, 3, 7], dtype=np.int32)
    np.save("ids.npy", ids)
    gnnscale("predict", run, "--out", "some.npy", "--nodes", "ids.npy")
    np.testing.assert_allclose(np.load("some.npy"), outputs[ids], rtol=1e-5, atol=1e-6)
    gnnscale("predict", run, "--out", "deep.npy", "--embeddings")
    assert np.array_equal(np.load("deep.npy"), opened.trainer.embed().numpy())


def test_a_graph_that_moved_is_given(gnnscale, tmp_path):
    graph = gs.load(GRAPH)
    masks = {f"{part}_mask": graph.split()[part].numpy() for part in ("train", "val", "test")}
    np.savez("a.npz", edge_index=graph.edge_index, x=graph.x, y=graph.y, **masks)
    gnnscale("train", "-d", "a.npz", *FAST, "--epochs", "1", "--run-dir", "run", "--no-baselines")
    before = gnnscale("evaluate", "run").stdout
    Path("a.npz").rename("b.npz")
    assert "a.npz" in gnnscale("evaluate", "run", code=2).stderr
    assert gnnscale("evaluate", "run", "--dataset", "b.npz").stdout == before


def test_partition_reports_stores_and_saves(gnnscale):
    done = gnnscale(
        *("partition", "-d", GRAPH, "--num-parts", "7", "--method", "streaming"),
        *("--save", "made/parts.npz", "--out", "made/store"),
    )
    graph, part = gs.load(GRAPH), gs.Partition.load("made/parts.npz")
    quality = part.quality(graph)
    assert (
        f"{quality.edge_cut:.4f}" in done.stdout and f"{quality.label_entropy:.3f}" in done.stdout
    )
    stored = gs.open_graph("made/store")
    assert torch.equal(stored.partition.assignment, part.assignment)
    # A stored graph is cut in its original order.
    gnnscale(
        *("partition", "-d", "made/store", "--num-parts", "7", "--method", "contiguous"),
        *("--save", "again.npz"),
    )
    wanted = gs.partition(graph, 7, "contiguous").assignment
    assert torch.equal(gs.Partition.load("again.npz").assignment, wanted)


def test_info_of_a_data_set_a_store_and_a_run(gnnscale, run):
    made = gnnscale("info", GRAPH, "--verify").stdout
    for figure in ("300", "mean 10.00", "4 classes", "train 150 (50.0%)", "all checks"):
        assert figure in made
    gnnscale("partition", "-d", GRAPH, "--num-parts", "7", "--out", "made/store")
    stored = gnnscale("info", "made/store", "--verify").stdout
    assert "7 by" in stored and "every checksum agrees" in stored
    x = Path("made/store/x.npy")
    content = bytearray(x.read_bytes())
    content[-1] ^= 1
    x.write_bytes(content)
    assert "x.npy" in gnnscale("info", "made/store", "--verify", code=2).stderr
    told = gnnscale("info", run, "--verify").stdout
    for figure in ("complete (epochs)", "2 of 2", "GraphSAGE", "readable: checkpoint"):
        assert figure in told
    Path(run, "checkpoint.safetensors").write_bytes(b"short")
    assert "damaged" in gnnscale("info", run, "--verify", code=2).stderr


def test_info_of_a_built_graph(gnnscale):
    gs.build_graph("built", 3, [([0, 1], [1, 2])], x=[np.ones((3, 2), np.float32)])
    told = gnnscale("info", "./built", "--verify").stdout
    assert "every checksum agrees" in told and "4, every edge both ways" in told
    with open("built/x.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert "x.npy" in gnnscale("info", "./built", "--verify", code=2).stderr


def test_info_of_a_card(gnnscale):
    told = gnnscale("info", "wordnet").stdout
    for figure in ("WordNet 3.0 licence", "117,659", "known results", "0.709", "preset"):
        assert figure in told


def test_data_that_are_not_shipped_are_told(gnnscale, monkeypatch):
    monkeypatch.delenv("GNNSCALE_DATASETS", raising=False)
    assert "shipped)" in gnnscale("datasets").stdout
    refused = gnnscale("info", "cora", code=2)
    assert "public: 140 / 500 / 1000" in refused.stdout  # the card is shown all the same
    assert "not shipped" in refused.stderr and "Planetoid" in refused.stderr


def test_formats_are_listed_and_their_files_read(gnnscale):
    listed = gnnscale("formats").stdout
    assert all(made.name in listed for made in list_formats())
    symmetric = "%%MatrixMarket matrix coordinate pattern symmetric\n2 2 1\n2 1\n"
    Path("a.mtx").write_text(symmetric)
    torch.save({"edge_index": torch.ones(2, 1).long(), "x": torch.eye(2)}, "a.pt")
    for name in ("./a.mtx", "./a.pt"):
        assert "directed edges" in gnnscale("info", name).stdout


def test_info_with_signal_leaks_cut_and_picture(gnnscale, run):
    told = gnnscale("info", GRAPH, "--signal", "--leaks", "--cut", "--plot", "made/a.png").stdout
    for figure in (
        "adjusted homophily",
        "features alone",
        "all together",
        "none found",
        "edge cut",
    ):
        assert figure in told
    assert Path("made/a.png").read_bytes()[:4] == b"\x89PNG"
    assert "a PNG" in gnnscale("info", GRAPH, "--plot", "a.svg", code=2).stderr
    assert "is a run" in gnnscale("info", run, "--leaks", code=2).stderr
    assert "no split set" in gnnscale("info", GRAPH, "--split", "fold7", code=2).stderr


def test_info_says_why_there_is_no_signal(gnnscale):
    np.savez("bare.npz", edge_index=np.array([[0, 1], [1, 2]]))
    told = gnnscale("info", "./bare.npz", "--signal", "--leaks").stdout
    assert "no labels" in told and "none found" in told

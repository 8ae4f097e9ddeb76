"""`describe`: any graph at all, on disk as in memory, in words, in clusters and in a picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.graph import Graph
from gnnscale.statistics import Description
from tests.helpers.strategies import graphs

EDGES = np.array([[0, 1, 2, 0], [1, 2, 3, 2]])


@settings(deadline=None)
@given(
    graph=graphs(unlabelled=True, edge_attr=None, sparse_x=None, features=None),
    y=st.sampled_from(["given", "none", "several", "quantity", "one", "edges", "unknown"]),
)
def test_any_graph_is_described(graph, y):
    count, random = graph.num_nodes, torch.Generator().manual_seed(0)
    labels = {
        "given": {"y": graph.y},
        "none": {},
        "several": {"y": torch.rand(count, 4, generator=random) < 0.4, "task": "multilabel"},
        "quantity": {"y": torch.randn(count, generator=random), "task": "regression"},
        "one": {"y": torch.zeros(count, dtype=torch.int64)},
        "edges": {"y": torch.arange(graph.num_edges) % 3, "y_level": "edge"},
        "unknown": {"y": torch.full((count,), -1), "num_classes": 2},
    }[y]
    if y == "several":
        labels["y"] = labels["y"].long()
    made = Graph.from_arrays(
        graph.edge_index,
        graph.x,
        num_nodes=count,
        splits={"a": vars(graph.split())},
        **graph.carried,
        **labels,
    )
    found = gs.describe(made, signal=True, leaks=True, cut=False)
    text = str(found)
    assert f"{count:,}" in text and ("leaks" in text)
    assert found.signal is not None or found.notes


def test_nothing_at_all_is_described():
    empty = gs.describe(Graph.from_arrays(np.zeros((2, 0), int), num_nodes=0), leaks=True)
    assert empty.degrees is None and empty.distances is None and "nodes" in str(empty)
    alone = gs.describe(Graph.from_arrays(np.zeros((2, 0), int), num_nodes=3))
    assert alone.distances.components == 3 and alone.homophily is None and alone.cut is None


def test_a_graph_in_clusters_is_the_graph_and_its_nodes_are_called_as_before(tmp_path):
    graph = gs.load("synthetic:planted?nodes=400&homophily=0.7&features=8")
    part = gs.partition(graph, 8, "streaming")
    stored = gs.cluster(graph, part, path=tmp_path / "store")
    whole, found = (gs.describe(one, signal=True, leaks=True, cut=False) for one in (graph, stored))
    assert found.homophily.edge == pytest.approx(whole.homophily.edge)
    assert found.distances.components == whole.distances.components
    assert found.leaks == whole.leaks == ()
    for name, figure in whole.signal.scores.items():
        assert found.signal.scores[name] == pytest.approx(figure, abs=0.1)
    hub, degree = found.degrees.hubs[0]
    assert int(graph.adj.in_degree()[int(stored.node_id[hub])]) == degree == whole.degrees.greatest
    cut = gs.describe(stored).cut
    assert cut.share == pytest.approx(part.quality(graph).edge_cut) and not cut.chosen
    assert "clusters that it is stored in" in str(gs.describe(stored))


def test_names_of_classes_and_features_are_said():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 200)
    x = np.stack([random.normal(size=200), y], axis=1)
    schema = gs.graph.schema.Schema(classes=("cats", "dogs"), features=("age", "barks"))
    graph = Graph.from_arrays(random.integers(0, 200, (2, 900)), x, y)
    graph.schema = schema
    text = str(gs.describe(graph, leaks=True, cut=False))
    assert "cats" in text and "column 1 (barks)" in text


def test_the_cut_is_that_of_the_clusters_a_trainer_makes_and_bounded(monkeypatch):
    graph = gs.load("synthetic:planted?nodes=3000&homophily=0.7&features=8")
    found = gs.describe(graph)
    assert 0 < found.cut.share < 1 and found.cut.parts > 1 and found.cut.chosen
    monkeypatch.setattr("gnnscale.statistics.description.CUT_AT_MOST", 10)
    assert gs.describe(graph).cut is None and "not measured unasked" in str(gs.describe(graph))
    assert gs.describe(graph, cut=True).cut.share == found.cut.share


def test_what_is_no_graph_is_refused():
    with pytest.raises(gs.InputError, match="from_data"):
        gs.describe(EDGES)
    with pytest.raises(gs.InputError, match="no split set"):
        gs.describe(Graph.from_arrays(EDGES), split="fold7")


@pytest.mark.parametrize("kind", ["classes", "several", "quantity", "nothing", "no edges"])
def test_the_picture_is_a_png(kind, tmp_path):
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    y = {
        "classes": {"y": random.integers(0, 30, 200)},
        "several": {"y": random.integers(0, 2, (200, 3)), "task": "multilabel"},
        "quantity": {"y": random.normal(size=200), "task": "regression"},
    }.get(kind, {})
    edges = random.integers(0, 200, (2, 0 if kind == "no edges" else 900))
    split = {"train": range(50), "val": range(50, 70), "test": range(70, 99)}
    splits = {} if kind == "nothing" else {f"{k}": split for k in range(7)}
    graph = Graph.from_arrays(edges, num_nodes=200, splits=splits, **y)
    found = gs.describe(graph, cut=False)
    assert isinstance(found, Description)
    found.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(gs.InputError, match="a PNG"):
        found.plot(tmp_path / "a.svg")


def test_what_labels_do_not_tell_and_the_graph_does_is_explained():
    """Labels say nothing of neighbours here; the degree does, as features do not."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 600)
    active = random.permutation(np.repeat(np.arange(600), np.where(y, 12, 2)))
    edges = np.stack([active[::2], active[1::2][: len(active[::2])]])
    train, val, test = np.split(random.permutation(600), [300, 500])
    split = {"train": train, "val": val, "test": test}
    graph = Graph.from_arrays(
        edges, random.normal(size=(600, 5)), y, splits={"a": split}, undirected=True
    )
    found = gs.describe(graph, signal=True, cut=False)
    assert "hardly tell" in found.homophily.verdict
    so = found.signal_words()["so"]
    assert "features alone say nothing, the graph does" in so and "Not by neighbours' labels" in so


@pytest.mark.parametrize("undirected", [False, True])
def test_a_graph_on_disk_is_described_as_in_memory(undirected, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    edges, y = random.integers(0, 500, (2, 3000)), random.integers(0, 3, 500)
    x = (random.normal(size=(500, 300)) + np.eye(3, 300)[y]).astype(np.float32)
    train, val, test = np.split(random.permutation(500), [300, 400])
    splits = {"default": {"train": train, "val": val, "test": test}}
    given = {"splits": splits, "undirected": undirected}
    gs.build_graph(tmp_path / "g", 500, [edges], x=[x], y=y, **given)
    stored = gs.load(str(tmp_path / "g"))
    whole = Graph.from_arrays(stored.edge_index, x, y, splits=splits)
    first = gs.describe(whole, signal=True, leaks=True, cut=False)
    monkeypatch.setattr("gnnscale.graph.adjacency._MOST", 100)
    monkeypatch.setattr("gnnscale.statistics.views._BLOCK", 300 * 70)
    second = gs.describe(stored, signal=True, leaks=True, cut=False)
    lines = [
        {name: line for name, line in found.words().items() if name != "memory"}
        for found in (first, second)
    ]
    assert lines[0] == lines[1] and first.leaks == second.leaks
    for name, figure in first.signal.scores.items():
        assert second.signal.scores[name] == pytest.approx(figure, abs=0.03)

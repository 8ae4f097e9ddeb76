"""Report: the table, the picture, the file; and the baselines beside which results stand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.benchmarking import baselines, label_propagation, majority, perceptron
from gnnscale.errors import InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.train import Report
from tests.helpers.small_runs import small_graph, small_trainer
from tests.helpers.strategies import dense_adjacency, graphs


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    folder = tmp_path_factory.mktemp("run")
    found = small_trainer(folder, evaluate_every=2).fit()
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert Report.load(folder / "report.json") == found
    return found


def test_the_table_shows_the_epochs_that_were_evaluated(report):
    table = report.table()
    assert "GCN on graph" in table
    assert f"accuracy {report.final['test']['accuracy']:.4f}" in table
    lines = [line for line in table.splitlines() if line.startswith("│")]
    assert [int(line.split("│")[1]) for line in lines] == [2, 3]
    assert "…" not in table, "no figure is cut off"
    assert Report().table() is not None


def test_the_picture_is_a_png(report, tmp_path, drawn):
    assert report.plot(tmp_path / "curves.png") == tmp_path / "curves.png"
    content = (tmp_path / "curves.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content[12:16] == b"IHDR"
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        report.plot(tmp_path / "file" / "curves.png")
    Report().plot(tmp_path / "empty.png")


figures = st.floats() | st.none() | st.integers(0, 9)


@settings(max_examples=40)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["epoch", "loss", "val_mae"]), figures)),
    final=st.dictionaries(st.sampled_from(["val", "test"]), st.dictionaries(st.text(), figures)),
)
def test_saved_and_loaded(rows, final, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.json"
    written = Report(rows=rows, final=final, headline="mae", best_epoch=3)
    written.save(path)
    loaded = Report.load(path)

    def read(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    assert loaded.rows == [{k: read(v) for k, v in row.items()} for row in rows]
    assert loaded.final == {w: {k: read(v) for k, v in f.items()} for w, f in final.items()}
    assert (loaded.headline, loaded.best_epoch) == ("mae", 3)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    loaded.table()


def test_a_changed_figure_is_found(tmp_path):
    path = tmp_path / "report.json"
    Report(rows=[{"loss": 0.25}]).save(path)
    path.write_text(path.read_text().replace("0.25", "0.24"))
    with pytest.raises(StoreError, match="its checksum differs"):
        Report.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rowz": []}', "\x00"])
def test_a_damaged_report(content, tmp_path):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(StoreError):
        Report.load(tmp_path / "report.json")
    with pytest.raises(StoreError):
        Report.load(tmp_path / "none.json")


# --- baselines ----------------------------------------------------------------------------------


def with_test_nodes(graph: Graph) -> Graph:
    graph.test_mask[-1] = True
    graph.y[-1] = 0
    return graph


@settings(max_examples=30)
@given(graph=graphs(min_nodes=2, unlabelled=True))
def test_majority_is_the_most_frequent_class(graph):
    with_test_nodes(graph)
    train = graph.y[graph.train_mask & (graph.y >= 0)]
    tested = graph.y[graph.test_mask & (graph.y >= 0)]
    counts = torch.bincount(train, minlength=3)
    shares = [float((tested == c).float().mean()) for c in range(3) if counts[c] == counts.max()]
    assert majority(graph) in [pytest.approx(share) for share in shares]


@settings(max_examples=30)
@given(graph=graphs(min_nodes=2), steps=st.integers(1, 8), alpha=st.sampled_from([0.5, 0.9]))
def test_label_propagation_is_its_formula(graph, steps, alpha):
    with_test_nodes(graph)
    adjacency = dense_adjacency(graph)
    degree = adjacency.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1e-30).rsqrt(), 0)
    propagation = scale[:, None] * adjacency * scale[None, :]
    known = torch.zeros(graph.num_nodes, 3, dtype=torch.float64)
    known[graph.train_mask, graph.y[graph.train_mask]] = 1
    scores = known
    for _ in range(steps):
        scores = (alpha * propagation @ scores + (1 - alpha) * known).clamp(0, 1)
    tested = graph.test_mask
    chosen, y = scores[tested], graph.y[tested]
    # Where two classes are level but for rounding, either answer is right.
    own = chosen.gather(1, y[:, None]).squeeze(1)
    best = chosen.max(1).values
    sure = float((own > chosen.topk(2).values[:, 1] + 1e-5).float().mean())
    possible = float((own >= best - 1e-5).float().mean())
    found = label_propagation(graph, steps=steps, alpha=alpha)
    assert sure - 1e-6 <= found <= possible + 1e-6


def test_perceptron_learns_from_the_features_alone():
    graph = small_graph(120)
    graph.x[:, :3] = 4 * torch.nn.functional.one_hot(graph.y, 3)
    state = torch.get_rng_state()
    first = perceptron(graph, progress=False, hidden_channels=16)
    assert first > 0.9
    assert torch.equal(torch.get_rng_state(), state), "the caller's own draws stay as they were"
    other = Graph.from_arrays(
        torch.zeros(2, 0).long(),
        graph.x,
        graph.y,
        **{f"{part}_mask": graph.split()[part] for part in ("train", "val", "test")},
    )
    assert perceptron(other, progress=False, hidden_channels=16) == first


def test_all_three():
    found = baselines(small_graph())
    assert list(found) == ["majority class", "label propagation", "MLP on the features"]
    assert all(0 <= value <= 1 for value in found.values())
    assert found["label propagation"] > found["majority class"]


def test_baselines_that_do_not_apply():
    graph = small_graph()
    graph.metric = "f1_macro"
    assert list(baselines(graph)) == ["MLP on the features"]
    graph = small_graph()
    graph.test_mask.zero_()
    for baseline in (majority, label_propagation):
        with pytest.raises(InputError, match="no labelled test nodes"):
            baseline(graph)
    graph.splits = {}
    with pytest.raises(InputError, match="needs node classes and a split"):
        majority(graph)


def test_training_nodes_without_a_label_do_not_count():
    graph = small_graph()
    graph.y[graph.train_mask.nonzero()[:20]] = -1
    assert majority(graph) > 0
    assert label_propagation(graph) > 0

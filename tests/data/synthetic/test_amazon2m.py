from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gnnscale as gs
from gnnscale.data import amazon2m, load
from gnnscale.data.synthetic.amazon import CLASSES, EDGES, FEATURES, NODES, Drawing
from gnnscale.data.synthetic.hierarchy import divide, draw_edges, power_law_weights
from gnnscale.errors import InputError, StoreError

SCALE = 0.02


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNNSCALE_CACHE", str(tmp_path_factory.mktemp("calibrated")))
        return load(f"synthetic:amazon2m?scale={SCALE}")


# --- the hierarchy ----------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=8),
    least=st.integers(1, 40),
    ratio=st.floats(1, 4),
    seed=st.integers(0, 2**32),
)
def test_pieces_fill_their_ranges(sizes, least, ratio, seed):
    most = round(least * ratio)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    cuts = divide(bounds, least, most, np.random.default_rng(seed))
    assert set(bounds.tolist()) <= set(cuts.tolist())
    pieces = np.diff(cuts)
    assert pieces.min() >= min(least, min(sizes))
    assert pieces.max() < most + least or pieces.max() <= max(sizes)


def row_of(seed, sizes=(300, 100, 600), least=20, most=60):
    rng = np.random.default_rng(seed)
    top = np.array([0, sum(sizes)])
    middle = np.concatenate([[0], np.cumsum(sizes)])
    levels = (top, middle, divide(middle, least, most, rng))
    return power_law_weights(sum(sizes), 2.8, 40.0, rng), levels


@settings(max_examples=20)
@given(seed=st.integers(0, 2**40), chunk=st.integers(100, 7000))
def test_chunks_of_edges_do_not_depend_on_each_other(seed, chunk):
    weight, levels = row_of(seed)
    shares, count = (0.2, 0.3, 0.5), 6000
    whole = np.concatenate(list(map(np.stack, draw_edges(weight, levels, shares, count, seed))), 1)
    parts = draw_edges(weight, levels, shares, count, seed, chunk)
    assert np.array_equal(whole, np.concatenate(list(map(np.stack, parts)), 1))
    assert whole.shape == (2, count)
    assert whole.min() >= 0 and whole.max() < weight.size
    assert not (whole[0] == whole[1]).any()


def test_edges_follow_shares_and_weights():
    weight, levels = row_of(3)
    shares, count = (0.2, 0.3, 0.5), 200_000
    ((source, target),) = draw_edges(weight, levels, shares, count, 0)
    inside = [
        np.searchsorted(level, source, "right") == np.searchsorted(level, target, "right")
        for level in levels
    ]
    assert inside[0].all()
    # Edges of a wide level fall inside the narrow ranges by chance, too.
    assert 0.5 < inside[2].mean() < 0.56
    assert 0.8 < inside[1].mean() < 0.92
    degree = np.bincount(np.concatenate([source, target]), minlength=weight.size)
    assert np.corrcoef(degree, weight)[0, 1] > 0.97


# --- the graph --------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "seed"), [(0.001, 2**40), (0.0033, 0)])
def test_graph_is_what_was_asked_for(scale, seed):
    graph = load(f"synthetic:amazon2m?scale={scale}", seed=seed)
    assert graph.num_nodes == round(NODES * scale)
    assert graph.num_features == FEATURES and graph.x.dtype == torch.float32
    assert graph.num_classes == CLASSES
    # Small classes are dense, and their edges often drawn twice.
    assert 0.6 * EDGES * scale < graph.num_edges / 2 <= round(EDGES * scale)
    assert graph.adj.symmetric
    source, target = graph.edge_index
    assert not bool((source == target).any())
    assert (source * graph.num_nodes + target).unique().numel() == graph.num_edges
    shares = [float(graph.split()[part].float().mean()) for part in ("train", "val", "test")]
    assert shares == pytest.approx([0.70, 0.05, 0.25], abs=0.01)
    drawn = Drawing(scale, seed)
    assert np.array_equal(graph.y, drawn.labels())
    assert np.array_equal(graph.x, np.concatenate(list(drawn.features())))
    assert load(graph.source).fingerprint() == graph.fingerprint()


def test_seeds_and_scales_are_kept_apart(cache):
    graph = load("synthetic:amazon2m?scale=0.001")
    kept = list((cache / "graphs").iterdir())
    assert len(kept) == 1
    written = (kept[0] / "meta.json").stat().st_mtime_ns
    assert amazon2m(scale=0.001).fingerprint() == graph.fingerprint()
    assert (kept[0] / "meta.json").stat().st_mtime_ns == written
    assert load("synthetic:amazon2m?scale=0.001&seed=1").fingerprint() != graph.fingerprint()
    assert len(list((cache / "graphs").iterdir())) == 2


@pytest.mark.parametrize("name", ["x.npy", "meta.json"])
def test_a_damaged_graph_is_drawn_again(cache, name):
    graph = load("synthetic:amazon2m?scale=0.001")
    fingerprint = graph.fingerprint()
    del graph
    (kept,) = (cache / "graphs").iterdir()
    with open(kept / name, "r+b") as file:
        file.truncate(1000)
    with pytest.warns(RuntimeWarning, match="damaged .*it is made again"):
        assert load("synthetic:amazon2m?scale=0.001").fingerprint() == fingerprint


def test_a_cache_that_cannot_be_made(cache, monkeypatch):
    cache.write_text("a file")
    with pytest.raises(StoreError, match=r"cannot be written: .*cache is no folder"):
        load("synthetic:amazon2m?scale=0.001")


def test_an_interrupted_drawing_leaves_nothing(cache, monkeypatch):
    def stop(self):
        yield np.zeros((10, FEATURES), np.float32)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Drawing, "features", stop)
        with pytest.raises(KeyboardInterrupt):
            load("synthetic:amazon2m?scale=0.001")
    assert not list((cache / "graphs").iterdir())
    assert load("synthetic:amazon2m?scale=0.001").num_nodes == 2449


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("scale=0", "option 'scale' is 0.0; the least is 0.001"),
        ("scale=x", "option 'scale' is 'x'; it must be of type float"),
        ("sclae=1", "unknown option 'sclae'; did you mean 'scale'?"),
        ("nodes=5", "takes: scale=1.0 (0.001 to 800); seed=0 (at least 0)"),
    ],
)
def test_bad_options_have_their_own_message(query, message):
    with pytest.raises(InputError) as caught:
        load(f"synthetic:amazon2m?{query}")
    assert message in str(caught.value)


# --- what can be learnt from it ---------------------------------------------------------------


def test_a_node_alone_tells_little(calibrated):
    x, y = calibrated.x.clone(), calibrated.y
    train = calibrated.train_mask.nonzero().flatten()
    network = nn.Sequential(nn.Linear(FEATURES, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    test = calibrated.test_mask
    accuracy = []
    for _ in range(6):
        for rows in train[torch.randperm(train.numel())].split(512):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            found = network(x[test]).argmax(1)
        accuracy.append(float((found == y[test]).float().mean()))
    assert 0.35 < max(accuracy) <= 0.60


@pytest.mark.slow
def test_clusters_teach_what_random_batches_do_not(calibrated):
    reports = {}
    for method, every in (("auto", 1), ("random", 5)):
        torch.manual_seed(0)
        model = gs.nn.GCN(FEATURES, 128, 3, CLASSES, dropout=0.2)
        trainer = gs.ClusterTrainer(
            model, calibrated, 300, 10, epochs=5, method=method, evaluate_every=every,
            progress=False,
        )  # fmt: skip
        reports[method] = trainer.fit()
    reached = {method: report.final["test"]["accuracy"] for method, report in reports.items()}
    assert 0.88 <= reached["auto"] <= 0.93
    assert reached["random"] <= reached["auto"] - 0.01
    rows = reports["auto"].rows
    assert rows[0]["val_accuracy"] <= max(row["val_accuracy"] for row in rows) - 0.03

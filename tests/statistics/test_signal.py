"""Probes: the parts beside their definitions, and the advice on graphs that were made for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.graph import Graph
from gnnscale.kernels import CSR
from gnnscale.statistics import views
from gnnscale.statistics.probes import auc, predict, scaled, score
from gnnscale.statistics.signal import probe
from gnnscale.statistics.views import Mean, Rows, features, structure
from tests.helpers.strategies import graphs


def dense_mean(graph):
    source, target = graph.edge_index
    joined = source != target
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    adjacency.index_put_((target[joined], source[joined]), torch.tensor(1.0).double(), True)
    return adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)


@given(graph=graphs(sparse_x=None, dtype=torch.float32), group=st.sampled_from([1 << 30, 1]))
def test_neighbours_are_means_over_others(graph, group):
    """Whole, and a few columns at a time."""
    wanted = dense_mean(graph)
    rows = Rows(graph, torch.arange(graph.num_nodes), graphs=False)
    before, views.BUDGET = views.BUDGET, group
    try:
        own, once, twice = features(graph, rows)
    finally:
        views.BUDGET = before
    x = (graph.x.to_dense() if isinstance(graph.x, CSR) else graph.x).double()
    back = (wanted @ wanted).diagonal() if graph.adj.symmetric else torch.zeros(len(x))
    assert torch.allclose(Mean(graph).back.double(), back.double(), atol=1e-6)
    for mine, right in (
        (own, x),
        (once, wanted @ x),
        (twice, wanted @ (wanted @ x) - back.unsqueeze(1) * x),
    ):
        assert torch.allclose(mine.double(), right, atol=1e-5)


@settings(max_examples=3)
@given(seed=st.integers(0, 99), sparse=st.booleans())
def test_wide_features_become_256_columns_and_keep_what_varies(seed, sparse):
    """What few directions span is kept whole; sparse features are weighted as words are."""
    random = np.random.default_rng(seed)
    few = random.random((60, 8)) < 0.4
    x = few[:, random.integers(0, 8, 300)].astype(np.float32)
    edges = random.integers(0, 60, (2, 90))
    wanted = torch.from_numpy(x)
    if sparse:
        weighted = x * np.log(61 / (1 + x.sum(0)))
        wanted = torch.from_numpy(weighted / np.linalg.norm(weighted, axis=1).clip(1e-9)[:, None])
    given_x = CSR.from_dense(torch.from_numpy(x)) if sparse else x
    graph = Graph.from_arrays(edges, given_x, num_nodes=60)
    made = features(graph, Rows(graph, torch.arange(60), graphs=False))[0]
    assert made.shape == (60, 256)
    assert torch.allclose((made @ made.T).double(), (wanted @ wanted.T).double(), atol=1e-2)


@given(graph=graphs(directed=False, weighted=False, min_nodes=3))
def test_structure_are_directions_of_the_adjacency(graph):
    found = structure(graph, Rows(graph, torch.arange(graph.num_nodes), graphs=False))
    assert found.shape[0] == graph.num_nodes and bool(found.isfinite().all())
    lengths = found[:, 1:].norm(dim=1)
    assert bool(((lengths - 1).abs() < 1e-4).logical_or(lengths < 1e-4).all())
    assert torch.allclose(found[:, 0].exp() - 1, Mean(graph).degree, rtol=1e-4, atol=1e-4)


@given(
    rows=st.integers(4, 20), columns=st.integers(1, 24), outputs=st.integers(1, 3),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_ridge_is_the_best_by_leaving_one_out(rows, columns, outputs, seed):
    """As fitting anew without each row has it, for wide and for long inputs."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=random, dtype=torch.float64)
    y = torch.randn(rows, outputs, generator=random, dtype=torch.float64) + x[:, :1]
    new = torch.randn(5, columns, generator=random, dtype=torch.float64)
    centre, scale = x.mean(0), x.std(0, correction=0)
    z = (x - centre) / scale
    mean = float(z.square().sum()) / min(rows, columns)

    def fitted(penalty, x, y):
        inner = x - x.mean(0)
        gram = inner.T @ inner + penalty * torch.eye(columns, dtype=torch.float64)
        weight = torch.linalg.solve(gram, inner.T @ (y - y.mean(0)))
        return lambda rows: (rows - x.mean(0)) @ weight + y.mean(0)

    best = min(
        (mean * 10.0**power for power in range(-4, 6)),
        key=lambda penalty: sum(
            float((fitted(penalty, *(torch.cat([a[:k], a[k + 1 :]]) for a in (z, y)))(z[k])
                   - y[k]).square().sum())
            for k in range(rows)
        ),
    )  # fmt: skip
    wanted = fitted(best, z, y)((new - centre) / scale)
    both = scaled(torch.cat([x, new]), rows, each=True)
    assert torch.allclose(predict(both[:rows], y, both[rows:]), wanted, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 999), levels=st.integers(1, 9))
def test_auc_counts_pairs(seed, levels):
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (20,), generator=random).double()
    truth = torch.rand(20, generator=random) < 0.4
    above, below = scores[truth], scores[~truth]
    if not above.numel() or not below.numel():
        assert np.isnan(auc(scores, truth))
        return
    pairs = (above[:, None] > below).double() + 0.5 * (above[:, None] == below)
    assert auc(scores, truth) == pytest.approx(float(pairs.mean()))
    both = torch.stack([-scores, scores], dim=1)
    assert score(both, truth.long(), "ROC-AUC") == auc(scores, truth)


def made(told_by_features, told_by_edges, classes=3, seed=0, count=900, degree=6, sparse=False):
    """A graph whose features and whose edges tell the classes, or do not."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, count)
    x = random.normal(size=(count, 12)) + told_by_features * np.eye(classes, 12)[y]
    ends = random.integers(0, count, (2, 8 * degree * count))
    chance = np.where(y[ends[0]] == y[ends[1]], 1.0, 1 - told_by_edges)
    kept = ends[:, (random.random(ends.shape[1]) < chance) & (ends[0] != ends[1])]
    order = random.permutation(count)
    split = {"train": order[: count // 2], "val": order[count // 2 :], "test": []}
    x = x.astype(np.float32)
    return Graph.from_arrays(
        kept[:, : degree * count // 2],
        CSR.from_dense(torch.from_numpy(x.clip(0))) if sparse else x,
        y,
        splits={"default": split},
        undirected=True,
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("by_features", "by_edges", "said"),
    [
        (1.5, 0.9, "the graph helps: "),
        (1.5, 0.0, "the graph hardly helps"),
        (0.0, 0.0, "nothing tells the labels"),
        (0.0, 0.97, "features alone say nothing, the graph does"),
    ],
)
def test_the_advice_is_what_was_made(by_features, by_edges, said, classes, sparse):
    for seed in range(3):
        graph = made(by_features, by_edges, classes, seed, sparse=sparse, degree=10)
        found = probe(graph)
        assert said in found.advice, found
        assert set(found.scores) == {"features", "neighbours", "structure", "all"}


def test_labels_of_other_kinds_and_graphs_are_probed():
    graph = made(1.5, 0.9)
    wide = torch.nn.functional.one_hot(graph.y, 3)
    for y, task, metric in (
        (wide, "multilabel", "ROC-AUC"),
        (graph.y.float() + 0.5, "regression", "R²"),
        (wide.float() * 3, "regression", "R²"),
    ):
        other = Graph.from_arrays(
            graph.edge_index, graph.x, y, splits={"a": vars(graph.split())}, task=task
        )
        found = probe(other)
        assert found.metric == metric and "the graph helps" in found.advice
    # Whole graphs, of which a triangle is one class and a path the other.
    edges, ptr = [], [0]
    for number in range(240):
        first = ptr[-1]
        kind = [(0, 1), (1, 2), (2, 0)] if number % 2 else [(0, 1), (1, 2), (2, 3)]
        edges += [(first + a, first + b) for a, b in kind]
        ptr.append(first + (3 if number % 2 else 4))
    several = Graph.from_arrays(
        np.array(edges).T,
        y=np.arange(240) % 2,
        y_level="graph",
        node_ptr=np.array(ptr),
        undirected=True,
    )
    found = probe(several)
    assert found.scores["structure"] == 1 and "the graph by itself tells" in found.advice


def test_no_label_for_testing_is_read():
    graph = made(1.5, 0.9)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(1))
    split = {"train": order[:500], "val": order[500:700], "test": order[700:]}
    first = Graph.from_arrays(graph.edge_index, graph.x, graph.y, splits={"a": split})
    y = graph.y.clone()
    y[order[700:]] = 0
    second = Graph.from_arrays(graph.edge_index, graph.x, y, splits={"a": split})
    assert probe(first) == probe(second)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "no labels"),
        ({"y": np.zeros(6, int), "y_level": "edge"}, "labels of edges"),
        ({"y": np.zeros(4, int)}, "all labels that are trained on are the same"),
        ({"y": np.array([0, -1, -1, -1])}, "too few"),
        ({"y": np.array([0, 1, 2, 3]), "num_classes": 9999}, "more than 2,048 classes"),
    ],
)
def test_what_cannot_be_probed_says_why(arguments, why):
    edges = np.array([[0, 1, 2, 1, 2, 3], [1, 2, 3, 0, 1, 2]])
    graph = Graph.from_arrays(edges, **arguments)
    with pytest.raises(gs.InputError, match=why):
        probe(graph)


def test_rows_that_are_all_alike_are_said():
    graph = made(1.0, 0.5, classes=2)
    ones = (graph.y == 1).nonzero().squeeze(1)
    split = {"train": [*range(300)], "val": [int(i) for i in ones if i >= 300], "test": []}
    one = Graph.from_arrays(graph.edge_index, graph.x, graph.y, splits={"a": split})
    assert "all alike" in probe(one).advice

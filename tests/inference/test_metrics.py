"""Metrics equal scikit-learn's, however the rows come."""

from __future__ import annotations

import itertools
import math

import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.inference import METRICS, make_metric
from tests.helpers.layers import few

SEEDS = st.integers(0, 2**20)
RANKINGS = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
ERRORS = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
}


def measured(name: str, out: torch.Tensor, y: torch.Tensor, cuts: list[int]) -> float:
    """The metric over pieces, which is the metric over all of it."""
    whole, pieces, merged = (make_metric(name) for _ in range(3))
    whole.update(out, y)
    edges = [0, *sorted(min(cut, len(y)) for cut in cuts), len(y)]
    for a, b in itertools.pairwise(edges):
        pieces.update(out[a:b], y[a:b])
        of_rank = make_metric(name)
        of_rank.update(out[a:b], y[a:b])
        merged.merge(of_rank)
    assert pieces.compute() == pytest.approx(whole.compute(), rel=1e-12, nan_ok=True)
    assert merged.compute() == pytest.approx(pieces.compute(), rel=0, abs=0, nan_ok=True)
    return whole.compute()


@few
@given(SEEDS, st.integers(1, 40), st.integers(2, 5), st.lists(st.integers(0, 40), max_size=5))
def test_classes(seed, rows, classes, cuts):
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, classes, generator=random)
    y = torch.randint(0, classes, (rows,), generator=random)
    best = out.argmax(1)
    assert measured("accuracy", out, y, cuts) == pytest.approx(sk.accuracy_score(y, best))
    for average in ("micro", "macro"):
        expected = sk.f1_score(y, best, average=average)
        assert measured(f"f1_{average}", out, y, cuts) == pytest.approx(expected)


@few
@given(SEEDS, st.integers(2, 40), st.integers(1, 5), st.lists(st.integers(0, 40), max_size=5),
       st.sampled_from([torch.int64, torch.float32, torch.uint8]))  # fmt: skip
def test_labels(seed, rows, labels, cuts, dtype):
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, labels, generator=random)
    y = torch.randint(0, 2, (rows, labels), generator=random)
    y[0] = 1
    predicted = (out > 0).int()
    names = ("accuracy", "f1_micro", "f1_macro", "roc_auc", "average_precision")
    found = {name: measured(name, out, y.to(dtype), cuts) for name in names}
    assert found["accuracy"] == pytest.approx((predicted == y).double().mean().item())
    for average in ("micro", "macro"):
        # Every label occurs, so that scikit-learn's mean over all is ours over those that occur.
        columns = [sk.f1_score(a, b) for a, b in zip(y.T, predicted.T, strict=True)]
        expected = (
            sk.f1_score(y.flatten(), predicted.flatten())
            if average == "micro"
            else sum(columns) / labels
        )
        assert found[f"f1_{average}"] == pytest.approx(expected)
    both = [k for k in range(labels) if len(y[:, k].unique()) == 2]
    if both:
        for name, score in RANKINGS.items():
            figures = [score(y[:, k], out[:, k]) for k in both]
            assert found[name] == pytest.approx(sum(figures) / len(figures))
    else:
        assert math.isnan(found["roc_auc"]) and math.isnan(found["average_precision"])


@few
@given(SEEDS, st.integers(4, 40), st.lists(st.integers(0, 40), max_size=5))
def test_two_classes_are_ranked(seed, rows, cuts):
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, 2, generator=random).round(decimals=1)  # with ties
    y = torch.randint(0, 2, (rows,), generator=random)
    y[:2] = torch.tensor([0, 1])
    for name, score in RANKINGS.items():
        expected = score(y, out[:, 1] - out[:, 0])
        assert measured(name, out, y, cuts) == pytest.approx(expected)


@few
@given(SEEDS, st.integers(2, 40), st.integers(1, 5), st.lists(st.integers(0, 40), max_size=5))
def test_rankings_and_root_are_those_of_ogbs_evaluators(seed, rows, labels, cuts):
    """With unknown labels, as ogbg-molpcba has them."""
    ogb = pytest.importorskip("ogb.graphproppred")
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, labels, generator=random)
    y = torch.randint(0, 2, (rows, labels), generator=random).float()
    y[torch.rand(y.shape, generator=random) < 0.3] = float("nan")
    y[:2, 0] = torch.tensor([0.0, 1.0])
    given = {"y_true": y.numpy(), "y_pred": out.numpy()}
    for name, theirs in (("roc_auc", "rocauc"), ("average_precision", "ap")):
        evaluator = ogb.Evaluator("ogbg-molpcba" if theirs == "ap" else "ogbg-molhiv")
        evaluator.num_tasks, evaluator.eval_metric = labels, theirs
        assert measured(name, out, y, cuts) == pytest.approx(evaluator.eval(given)[theirs])
    one = {key: value[:, :1] for key, value in given.items()}
    expected = ogb.Evaluator("ogbg-molesol").eval(one)["rmse"]
    assert measured("rmse", out[:, :1], y[:, :1], cuts) == pytest.approx(expected, nan_ok=True)


@few
@given(SEEDS, st.integers(1, 40), st.sampled_from([None, 1, 3]), st.booleans(),
       st.lists(st.integers(0, 40), max_size=5))  # fmt: skip
def test_targets(seed, rows, targets, gaps, cuts):
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(rows, targets or 1, generator=random)
    y = torch.randn((rows, targets) if targets else (rows,), generator=random)
    known = torch.rand(y.shape, generator=random) > 0.3 if gaps else torch.ones_like(y).bool()
    y[~known] = float("nan")
    pairs = (y[known], out.reshape(y.shape)[known])
    for name, expected in ERRORS.items():
        found = measured(name, out, y, cuts)
        if known.any():
            assert found == pytest.approx(expected(*pairs), rel=1e-5)
        else:
            assert math.isnan(found)


def test_unknown_labels_count_nowhere():
    out = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    y = torch.tensor([[1.0, float("nan")], [0.0, 0.0]])
    assert measured("accuracy", out, y, []) == pytest.approx(2 / 3)
    assert measured("f1_micro", out, y, []) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_has_no_figure(name):
    assert math.isnan(make_metric(name).compute())
    metric = make_metric(name)
    y = torch.empty(0) if name in ERRORS else torch.empty(0, dtype=torch.int64)
    metric.update(torch.empty(0, 1 if name in ERRORS else 2), y)
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("name", METRICS)
def test_a_model_that_has_diverged_does_not_look_well(name):
    out = torch.full((6, 2), float("nan"))
    out[3:] = 0.5
    y = torch.tensor([1, 0, 1, 0, 0, 1])
    if name in ERRORS:
        out, y = out[:, 0], y.float()
    metric = make_metric(name)
    metric.update(out, y)
    value = metric.compute()
    assert math.isnan(value) if name in (*ERRORS, *RANKINGS) else value <= 0.8


def test_refusals():
    with pytest.raises(InputError, match="unknown metric 'f2'; there are accuracy, f1_micro"):
        make_metric("f2")
    with pytest.raises(InputError, match="two classes"):
        make_metric("roc_auc").update(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))

"""Cross-validation: folds are folds, figures are read off the curves as each protocol says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.benchmarking.cross_validation import CrossValidation, with_folds
from gnnscale.errors import InputError
from gnnscale.graph import Graph, Split
from gnnscale.train.graphs import graphs_as_rows


def data_set(classes):
    """One graph of two nodes for each label; the label is a feature."""
    classes = torch.tensor(classes)
    count = classes.numel()
    start = 2 * torch.arange(count)
    return Graph.from_arrays(
        torch.stack([start, start + 1]),
        classes.repeat_interleave(2).float().unsqueeze(1).expand(-1, 2).contiguous(),
        classes,
        node_ptr=2 * torch.arange(count + 1),
        y_level="graph",
        undirected=True,
    )


@given(
    classes=st.lists(st.integers(-1, 2), min_size=12, max_size=60),
    folds=st.integers(2, 6),
    validation=st.sampled_from([0.0, 0.1, 0.35, 0.7]),
    seed=st.integers(0, 5),
)
@settings(max_examples=20)
def test_every_labelled_graph_is_tested_in_one_fold(classes, folds, validation, seed):
    graph = data_set([0, 1, 2, 0, 1, 2, *classes])
    known = graph.y >= 0
    split = graphs_as_rows(with_folds(graph, folds, validation, seed)).splits
    assert list(split) == [f"fold{k}" for k in range(folds)]
    tests = torch.stack([s.test for s in split.values()])
    assert torch.equal(tests.sum(0), known.long())
    for s in split.values():
        assert torch.equal(s.train.long() + s.val.long() + s.test.long(), known.long())
        assert abs(int(s.val.sum()) - validation * int((known & ~s.test).sum())) <= 1
        for c in range(3):
            of_class = graph.y == c
            assert abs(int((s.test & of_class).sum()) - int(of_class.sum()) / folds) < 1 + 1e-9
            held, others = (s.val & of_class).sum(), (~s.test & of_class).sum()
            assert abs(int(held) - validation * int(others)) < 2
    again = graphs_as_rows(with_folds(graph, folds, validation, seed)).splits
    for name, s in split.items():
        assert torch.equal(again[name].train, s.train)


def test_the_data_sets_own_folds_are_taken():
    graph = data_set([0, 1] * 6)
    fold = torch.arange(12) % 3
    nodes = {k: (fold == k).repeat_interleave(2) for k in range(3)}
    none = torch.zeros(24, dtype=torch.bool)
    graph.splits = {f"fold{k}": Split(~test, none, test) for k, test in nodes.items()}
    own = graphs_as_rows(with_folds(graph, 3, 0.0, seed=0)).splits
    for k in range(3):
        assert torch.equal(own[f"fold{k}"].test, fold == k)
    other = graphs_as_rows(with_folds(graph, 2, 0.0, seed=0)).splits
    assert [int(s.test.sum()) for s in other.values()] == [6, 6]


def test_figures_are_read_as_the_protocols_say():
    curves = {
        "train": np.array([[0.5, 0.7, 0.9], [0.5, 0.9, 0.9]]),
        "val": np.array([[np.nan, 0.2, 0.8], [0.6, 0.6, 0.1]]),
        "test": np.array([[0.4, 0.9, 0.6], [0.2, 0.5, 0.7]]),
    }
    found = CrossValidation("accuracy", curves, [])
    assert found.at_best_epoch() == (pytest.approx(0.7), pytest.approx(0.4 / 2**0.5), [2, 2])
    assert found.at_chosen_epochs() == (pytest.approx(0.4), pytest.approx(0.4 / 2**0.5), [3, 1])
    assert [found.epochs_to(level) for level in (0.5, 0.75, 0.95)] == [1, 2, None]
    assert found.as_dict()["curves"]["test"] == curves["test"].tolist()
    errors = CrossValidation("mae", {"train": curves["train"], "test": curves["test"]}, [])
    assert errors.at_best_epoch().epochs == [1, 1]
    with pytest.raises(InputError, match=r"validation=0\.1"):
        errors.at_chosen_epochs()


def test_folds_are_trained_from_the_seed_alone():
    def make(graph, split, **options):
        network = gs.nn.GIN(2, 8, 1, out_channels=2, jk="cat")
        return gs.GraphTrainer(
            network,
            graph,
            split=split,
            epochs=3,
            progress=False,
            **{"evaluate_every": 1, **options},
        )

    graph = data_set([0, 1] * 12)
    before = torch.get_rng_state()
    found = gs.k_fold(make, graph, 3, validation=0.25)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: c.shape for name, c in found.curves.items()} == dict.fromkeys(
        ("train", "val", "test"), (3, 3)
    )
    torch.rand(3)
    again = gs.k_fold(make, graph, 3, validation=0.25)
    assert again.as_dict() == found.as_dict()
    for options in ({"evaluate_every": 2}, {"early_stopping": 3}):
        with pytest.raises(InputError, match="every epoch of every fold"):
            gs.k_fold(lambda g, s, o=options: make(g, s, **o), graph, 3, validation=0.25)
    for options in ({"folds": 1}, {"validation": 1.0}, {"validation": 0.01}, {"folds": 40}):
        with pytest.raises(InputError, match=next(iter(options))):
            gs.k_fold(make, graph, **options)

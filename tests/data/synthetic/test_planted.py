from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.data import load, planted
from gnnscale.errors import InputError


def homophily(graph):
    source, target = graph.edge_index
    return float((graph.y[source] == graph.y[target]).float().mean())


@given(
    classes=st.integers(2, 6),
    per_class=st.integers(2, 4),
    degree=st.floats(2, 8),
    wanted=st.floats(0.5, 1),
    exponent=st.sampled_from([0.0, 2.5, 3.0]),
    seed=st.integers(0, 2**40),
)
def test_planted_is_what_was_asked_for(classes, per_class, degree, wanted, exponent, seed):
    options = {"classes": classes, "communities": classes * per_class, "degree": degree}
    options |= {"homophily": wanted, "exponent": exponent, "seed": seed, "features": 3}
    graph = planted(nodes=1200, **options)
    assert graph.num_edges == pytest.approx(1200 * degree, rel=0.02)
    # Five standard deviations of a share among so many edges.
    assert abs(homophily(graph) - wanted) < 5 * 0.5 / (graph.num_edges / 2) ** 0.5
    assert graph.adj.symmetric
    source, target = graph.edge_index
    assert not bool((source == target).any())
    assert (source * 1200 + target).unique().numel() == graph.num_edges
    assert [int(graph.split()[p].sum()) for p in ("train", "val", "test")] == [600, 300, 300]
    assert graph.y.unique().numel() == classes
    again = load(graph.source)
    assert again.fingerprint() == graph.fingerprint()
    assert again.source == graph.source


@settings(max_examples=50)
@given(nodes=st.integers(4, 700), seed=st.integers(0, 2**40))
def test_defaults_suit_graphs_of_any_size(nodes, seed):
    graph = planted(nodes=nodes, seed=seed, features=2)
    assert 2 <= graph.y.unique().numel() == graph.num_classes <= 10
    assert graph.num_edges > 0
    assert load(graph.source).fingerprint() == graph.fingerprint()


def test_defaults_suit_what_is_given():
    assert planted(nodes=300, communities=3, features=0).num_classes == 3
    assert planted(nodes=300, classes=30, features=0).num_classes == 30
    assert planted(nodes=100, degree=20, features=0).num_edges == 2000
    assert planted(nodes=1000, features=0).num_classes == 10


def test_seed_and_width_of_features():
    graph = load("synthetic:planted?nodes=500&seed=1")
    assert load("synthetic:planted", nodes=500, seed=2).fingerprint() != graph.fingerprint()
    bare = load("synthetic:planted?nodes=500&seed=1&features=0")
    assert bare.x is None
    assert bare.structure_fingerprint() == graph.structure_fingerprint()
    assert torch.equal(bare.train_mask, graph.train_mask)


def test_exponent_gives_hubs():
    like = planted(nodes=5000, features=0)
    hubs = planted(nodes=5000, features=0, exponent=2.3)
    assert int(hubs.adj.indptr.diff().max()) > 3 * int(like.adj.indptr.diff().max())


def test_features_say_something_of_the_class():
    graph = planted(nodes=4000, classes=4, features=16, signal=1.0)
    means = torch.stack([graph.x[graph.train_mask & (graph.y == c)].mean(0) for c in range(4)])
    guess = torch.cdist(graph.x, means).argmin(1)
    accuracy = float((guess == graph.y)[graph.test_mask].float().mean())
    assert 0.35 < accuracy < 0.75


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("nodes=x", "option 'nodes' is 'x'; it must be of type int"),
        ("nodes=1", "option 'nodes' is 1; the least is 4"),
        ("node=5", "unknown option 'node'; did you mean 'nodes'?"),
        ("node=5", "takes: nodes=10000"),
        ("homophily=1.5", "the most is 1"),
        ("homophily=nan", "option 'homophily' is nan"),
        ("homophily=0.01", "homophily 0.01 is below 0.0"),
        ("nodes", "is not of the form option=value"),
        ("exponent=1.5", "exponent 1.5; it is 0 (like nodes) or greater than 2"),
        ("communities=3&classes=10", "3 communities for 10 classes"),
        ("nodes=30&communities=20", "20 communities for 30 nodes"),
        ("nodes=200&degree=150", "edges are too many"),
    ],
)
def test_bad_options_have_their_own_message(query, message):
    with pytest.raises(InputError) as caught:
        load(f"synthetic:planted?{query}")
    assert message in str(caught.value)


def test_unknown_generator():
    with pytest.raises(
        InputError, match="no generator is called 'plantd'; there are synthetic:planted"
    ):
        load("synthetic:plantd?nodes=10")

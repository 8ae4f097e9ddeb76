"""Homophily, adjusted homophily and label informativeness beside networkx, PyG and the formulas."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.utils import homophily as of_pyg

from gnnscale.graph import Graph
from gnnscale.graph import adjacency as blocks
from gnnscale.statistics import homophily as module
from gnnscale.statistics.called import Called
from gnnscale.statistics.homophily import homophily
from tests.helpers.strategies import graphs


def labelled_edges(graph):
    """Edges between labelled nodes, self-loops left out."""
    source, target = graph.edge_index
    y = graph.y if graph.y.dim() == 1 else graph.y[:, 0]
    kept = (source != target) & (y[source] >= 0) & (y[target] >= 0)
    return graph.edge_index[:, kept]


@given(graph=graphs(unlabelled=True, min_nodes=2), most=st.sampled_from([1 << 22, 7]))
def test_figures_are_networkx_s_and_pyg_s(graph, most):
    before, blocks._MOST = blocks._MOST, most
    try:
        found = homophily(graph)
    finally:
        blocks._MOST = before
    edges = labelled_edges(graph)
    if not edges.size(1):
        assert found is None
        return
    y = graph.y
    assert found.edge == pytest.approx(of_pyg(edges, y, method="edge"), abs=1e-6)
    # PyG's mean counts nodes without a neighbour as 0.
    share = edges[1].unique().numel() / graph.num_nodes
    assert found.node * share == pytest.approx(of_pyg(edges, y, method="node"), abs=1e-6)

    other = nx.MultiGraph(edges.T.tolist())
    nx.set_node_attributes(other, {node: int(y[node]) for node in other}, "y")
    classes = [int(y[a]) for edge in edges.T.tolist() for a in edge]
    if len(set(classes)) == 1:
        assert found.adjusted is None and found.informativeness is None
        return
    assert found.adjusted == pytest.approx(nx.attribute_assortativity_coefficient(other, "y"))
    # I(a; b) / H(a), by the sums of the paper.
    pairs = [(int(y[a]), int(y[b])) for a, b in edges.T.tolist()]
    pairs += [(b, a) for a, b in pairs]
    share_of = {pair: pairs.count(pair) / len(pairs) for pair in pairs}
    ends = {k: classes.count(k) / len(classes) for k in classes}
    entropy = -sum(p * math.log(p) for p in ends.values())
    mutual = sum(p * math.log(p / (ends[a] * ends[b])) for (a, b), p in share_of.items())
    assert found.informativeness == pytest.approx(mutual / entropy, abs=1e-9)
    # By class, and all that is weighted by how many ends a class has.
    for label, share in ends.items():
        both = sum(p for (a, b), p in share_of.items() if a == b == label)
        assert float(found.within[label]) == pytest.approx(both / share)
    assert float((found.within.nan_to_num(0) * found.ends).sum()) == pytest.approx(found.edge)


@given(graph=graphs(unlabelled=True, min_nodes=2))
def test_too_many_classes_for_a_table_leave_the_rest_as_it_is(graph):
    whole = homophily(graph)
    before, module._MOST_CLASSES = module._MOST_CLASSES, 1
    try:
        found = homophily(graph)
    finally:
        module._MOST_CLASSES = before
    if whole is None:
        assert found is None
        return
    assert (found.edge, found.node, found.adjusted) == (whole.edge, whole.node, whole.adjusted)
    assert torch.equal(found.within.nan_to_num(-1), whole.within.nan_to_num(-1))
    assert found.informativeness is None
    assert "not measured" in found.words(Called(graph))["label informativeness"]


@given(graph=graphs(min_nodes=2), seed=st.integers(0, 99), missing=st.booleans())
def test_quantities_and_labels_correlate_as_networkx_has_it(graph, seed, missing):
    random = torch.Generator().manual_seed(seed)
    y = 5 + torch.randn(graph.num_nodes, 2, generator=random, dtype=torch.float64)
    if missing:
        y[torch.rand(graph.num_nodes, generator=random) < 0.3, 0] = math.nan
    found = homophily(Graph.from_arrays(graph.edge_index, y=y, task="regression"))
    for column in range(2):
        source, target = graph.edge_index
        values = y[:, column]
        kept = (source != target) & ~values[source].isnan() & ~values[target].isnan()
        other = nx.MultiGraph(graph.edge_index[:, kept].T.tolist())
        nx.set_node_attributes(other, {node: float(values[node]) for node in other}, "y")
        mine = float(found.by_column[column])
        if len({float(values[node]) for node in other}) < 2:
            assert math.isnan(mine)
        else:
            wanted = nx.numeric_assortativity_coefficient(other, "y")
            assert mine == pytest.approx(wanted, abs=1e-6)


@given(graph=graphs(min_nodes=2, classes=2, unlabelled=True))
def test_of_one_binary_label_it_is_the_adjusted_homophily(graph):
    alone = homophily(graph)
    several = Graph.from_arrays(graph.edge_index, y=graph.y.unsqueeze(1), task="multilabel")
    found = homophily(several)
    if alone is None or alone.adjusted is None:
        assert math.isnan(found.mean)
    else:
        assert found.mean == pytest.approx(alone.adjusted, abs=1e-9)


def of_groups(times, sizes, seed=0, edges=6000):
    """A graph whose pairs of classes are joined in these proportions."""
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    drawn = random.integers(0, len(y), (2, 20 * edges))
    chosen = times[y[drawn[0]], y[drawn[1]]] / times.max() > random.random(20 * edges)
    kept = drawn[:, chosen & (drawn[0] != drawn[1])][:, :edges]
    return Graph.from_arrays(kept, y=y, undirected=True)


@pytest.mark.parametrize(
    ("sizes", "within", "between", "said"),
    [
        ([450, 50], 1.0, 1.0, "hardly tell a node's: that so many"),  # one class is large
        ([100, 100, 100], 1.0, 1.0, "hardly tell a node's"),
        ([100, 100, 100], 1.0, 0.05, "mostly of one class"),
        ([100, 100], 0.02, 1.0, "seldom of one class, and yet"),
    ],
)
def test_the_verdict_is_of_what_edges_tell_and_not_of_how_large_classes_are(
    sizes, within, between, said
):
    times = np.full((len(sizes), len(sizes)), between)
    np.fill_diagonal(times, within)
    found = homophily(of_groups(times, sizes))
    assert said in found.verdict
    if within == between:
        assert abs(found.adjusted) < 0.05 and found.pairs == ()


def test_surprises_are_the_pairs_that_were_planted():
    times = np.full((6, 6), 1.0)
    np.fill_diagonal(times, 8.0)
    times[1, 2] = times[2, 1] = 4.0
    times[0, 3] = times[3, 0] = 0.1
    pairs = {(p.a, p.b): p.times for p in homophily(of_groups(times, [80] * 6, edges=20_000)).pairs}
    assert pairs[1, 2] > 1.5 and pairs[0, 3] < 0.3 and len(pairs) <= 4


def test_a_class_that_avoids_itself_is_a_surprise():
    times = np.full((4, 4), 1.0)
    times[2, 2] = 0.1
    graph = of_groups(times, [80] * 4)
    found = homophily(graph)
    assert (found.pairs[0].a, found.pairs[0].b) == (2, 2) and found.pairs[0].times < 0.2
    assert "class 2 joins itself 0.2 times" in found.words(Called(graph))["surprises"]

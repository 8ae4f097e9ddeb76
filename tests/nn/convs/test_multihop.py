"""Convolutions of several hops equal PyG's own, forward and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError
from gnnscale.nn import Block, LayeredGNN, Propagation, Sum, propagation_of
from gnnscale.nn.convs.propagation import reach_of
from tests.helpers.layers import (
    WIDTHS,
    assert_as_pyg,
    assert_equal,
    double_by_default,
    few,
    is_opaque,
    shaken,
)
from tests.helpers.strategies import graphs


@few
@given(graphs(), WIDTHS, st.integers(1, 4), st.booleans(), st.booleans())
def test_sg(graph, widths, hops, loops, bias):
    conv = pyg.SGConv(*widths, K=hops, add_self_loops=loops, bias=bias)
    assert_as_pyg(conv, graph, weighted=True)


@few
@given(graphs(), WIDTHS, st.integers(1, 4), st.sampled_from([0.0, 0.05, 1.0]))
def test_ssg(graph, widths, hops, alpha):
    assert_as_pyg(pyg.SSGConv(*widths, alpha, K=hops), graph, weighted=True)


@few
@given(graphs(), st.integers(1, 4), st.sampled_from([0.0, 0.1]), st.booleans())
def test_appnp(graph, hops, alpha, normalize):
    conv = pyg.APPNP(hops, alpha, normalize=normalize, add_self_loops=graph.num_nodes % 2 == 0)
    assert_as_pyg(conv, graph, weighted=True)


@few
@given(graphs(), WIDTHS, st.integers(1, 4), st.booleans(), st.booleans())
def test_tag(graph, widths, hops, normalize, bias):
    conv = pyg.TAGConv(*widths, K=hops, normalize=normalize, bias=bias)
    assert_as_pyg(conv, graph, weighted=True)


@few
@given(graphs(), WIDTHS, st.sampled_from([0.0, 1.0]), st.booleans())
def test_cluster_gcn(graph, widths, diag_lambda, bias):
    with double_by_default():
        assert_as_pyg(pyg.ClusterGCNConv(*widths, diag_lambda, bias=bias), graph, weighted=False)


@pytest.mark.parametrize(
    ("conv", "reach"),
    [
        (pyg.SGConv(5, 3, K=0), 1),
        (pyg.SGConv(5, 3, K=2, aggr="mean"), 3),
        (pyg.SSGConv(5, 3, 0.1, K=3, flow="target_to_source"), 5),
        (pyg.APPNP(3, 0.1, dropout=0.5), 4),
        (pyg.APPNP(3, 0.1, normalize=False, dropout=0.5), 3),
        (pyg.TAGConv(5, 3, K=2, normalize=False, node_dim=0), 2),
        (pyg.TAGConv(5, 3, K=0, normalize=False), 1),
        (pyg.ClusterGCNConv(5, 3, aggr="max"), 1),
        (pyg.ClusterGCNConv(5, 3, add_self_loops=False), 1),
    ],
    ids=str,
)
def test_what_is_no_propagation_has_a_declared_reach(conv, reach):
    assert propagation_of(conv) is None
    assert reach_of(conv) == reach


@pytest.mark.parametrize("in_channels", [-1, 5])
def test_lazy_channels_and_kept_caches(in_channels):
    conv = pyg.SGConv(in_channels, 3, K=2, cached=True)
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    expected = conv(x, edges)
    model = LayeredGNN([Block(conv, act=None)])
    assert not is_opaque(model)
    assert_equal(model(x, edges), expected, 1e-5)
    assert_equal(model(2 * x, edges) - model(x, edges), model(x, edges) - model(0 * x, edges), 1e-5)


def test_appnp_follows_an_mlp():
    model = shaken(gsnn.APPNP(5, 6, 2, 3, dropout=0.5, K=4, alpha=0.2)).eval()
    x, edges = torch.randn(7, 5).double(), torch.randint(0, 7, (2, 20))
    edges = edges[:, edges[0] != edges[1]]
    first, second = (block.conv for block in model.blocks[:2])
    expected = pyg.APPNP(4, 0.2)(second(first(x).relu()), edges)
    assert_equal(model(x, edges), expected)


def test_hops_and_powers_are_checked():
    with pytest.raises(InputError, match="hops=0: a propagation takes at least 1"):
        Propagation(Sum(), hops=0)
    with pytest.raises(InputError, match="2 powers for hops=2: give one for each of the 3"):
        Propagation(Sum(), hops=2, powers=[0.5, 0.5])


def test_features_stay_as_they_are():
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    before = x.clone()
    for conv in (pyg.APPNP(2, 0.1), pyg.SSGConv(5, 3, 0.1, K=2), pyg.TAGConv(5, 9), nn.Identity()):
        LayeredGNN([Block(conv, act=None)])(x, edges)
        assert torch.equal(x, before)


@settings(max_examples=25)
@given(graphs(min_nodes=1, max_nodes=6, self_loops=True), st.booleans(), st.integers(0, 2**20))
def test_weights_may_be_zero_or_negative(graph, loops, seed):
    """Where a sum of weights is negative, PyG takes its root: the row is NaN here too."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randint(-2, 4, (graph.num_edges,), generator=random).double() / 2
    convs = [
        pyg.GCNConv(5, 3, improved=True, add_self_loops=loops),
        pyg.SGConv(5, 3, K=2, add_self_loops=loops),
        pyg.SSGConv(5, 3, 0.1, K=2, add_self_loops=loops),
        pyg.APPNP(2, 0.1, add_self_loops=loops),
        pyg.TAGConv(5, 3, K=2),
        pyg.GCNConv(5, 3, normalize=False),
    ]
    for conv in convs:
        model = shaken(LayeredGNN([Block(conv, act=None)]))
        assert not is_opaque(model)
        ours = model(graph.x, graph.edge_index, weight)
        theirs = conv(graph.x, graph.edge_index, weight)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)

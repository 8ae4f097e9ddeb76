"""SIGN's branches equal PyG's layer and the paper's equation, in either order of the work."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from gnnscale.nn import Block, ClusterGCNConv, LayeredGNN, first_propagation, from_spec
from gnnscale.nn.convs.propagation import propagation_of, reach_of
from tests.helpers.layers import (
    assert_as_pyg,
    assert_equal,
    assert_same_function,
    dense,
    evaluated,
    few,
    is_opaque,
    shaken,
    streamed,
)
from tests.helpers.strategies import dense_adjacency, graphs

# Narrow: the weights come first. Wide, and as wide: the propagation does.
WIDTHS = st.sampled_from([(5, 2), (5, 5), (5, 9)])
HOPS = st.integers(1, 4)


@few
@given(graphs(sparse_x=None), WIDTHS, HOPS, st.booleans(), st.booleans())
def test_mix_hop_of_all_powers_is_pygs(graph, widths, hops, loops, bias):
    powers = list(range(hops + 1))
    assert_as_pyg(pyg.MixHopConv(*widths, powers, loops, bias), graph, weighted=True)


@pytest.mark.parametrize("powers", [[0, 2], [0, 1, 3], [1, 0], [1, 2], [0]])
def test_mix_hop_of_other_powers_runs_as_it_is(powers):
    conv = pyg.MixHopConv(5, 3, powers)
    assert propagation_of(conv) is None
    assert reach_of(conv) == max(powers) + 1


@few
@given(graphs(sparse_x=None), WIDTHS, HOPS)
def test_both_orders_are_one_function(graph, widths, hops):
    """What is aggregated once, dense or sparse, gives what the convolution does."""
    conv = shaken(pyg.MixHopConv(*widths, list(range(hops + 1))))
    propagation = propagation_of(conv)
    assert propagation is not None
    x = dense(graph.x)
    stack = propagation.aggregate(x, graph.adj)
    transformed = propagation.horner(propagation.linear(graph.x), graph.adj)
    expected = propagation(graph.x, graph.adj)
    assert propagation.width(5) == expected.size(1)
    assert_equal(propagation.combine(stack, x), expected)
    assert_equal(propagation.finish(transformed, x), expected)
    assert_equal(propagation.combine(CSR.from_dense(stack.detach()), x), expected)


@few
@given(graphs(sparse_x=None), WIDTHS, HOPS, st.integers(2, 4))
def test_equation_4(graph, widths, hops, num_layers):
    model = shaken(gsnn.SIGN(*widths, num_layers, 3, 0.5, hops=hops, add_self_loops=False)).eval()
    assert not is_opaque(model)
    branches, *linears = (block.conv for block in model.blocks)
    a = dense_adjacency(graph)
    degree = a.sum(dim=1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0.0)
    p = scale[:, None] * a * scale

    def equation(x: Tensor) -> Tensor:
        powers = [x]
        for _ in range(hops):
            powers.append(p @ powers[-1])
        z = torch.cat([lin(h) for lin, h in zip(branches.lins, powers, strict=True)], dim=1)
        z = (z + branches.bias).relu()
        for linear in linears[:-1]:
            z = linear(z).relu()
        return linears[-1](z)

    x = dense(graph.x)
    assert_same_function(lambda x: model(x, graph.adj), equation, x, list(model.parameters()))
    assert_equal(model(graph.x, graph.adj), equation(x))


@few
@given(
    graphs(sparse_x=None),
    WIDTHS,
    HOPS,
    st.sampled_from(["graph_norm", "batch_norm", None]),
    st.sampled_from([1, 3, None]),
)
def test_inference_in_chunks_is_exact(graph, widths, hops, norm, chunk_rows):
    model = shaken(gsnn.SIGN(*widths, 3, 3, 0.5, norm=norm, residual=True, hops=hops))
    assert_equal(streamed(model, graph, chunk_rows), evaluated(model, graph))


def test_all_that_follows_the_branches_is_local():
    """So that a layer-wise trainer aggregates once, and trains the rest as a perceptron."""
    model = gsnn.SIGN(5, 6, 4, 2, dropout=0.5, norm="layer_norm", residual=True)
    propagation = first_propagation(model)
    assert propagation.hops == 2
    assert [block.residual for block in model.blocks] == [False, False, True, False]


@pytest.mark.parametrize("norm", ["graph_norm", None])
def test_a_spec_builds_the_same_model(norm):
    model = gsnn.SIGN(5, 6, 3, 2, 0.1, norm=norm, residual=True, hops=3, add_self_loops=False)
    again = from_spec(model.spec)
    assert again.spec == model.spec and again.signature() == model.signature()
    again.load_state_dict(model.state_dict())
    x, edges = torch.randn(9, 5), torch.randint(0, 9, (2, 20))
    assert_equal(again.eval()(x, edges), model.eval()(x, edges), 0.0)
    sequential = model.to_pyg().eval()
    assert_equal(sequential(x, edges), model(x, edges), 1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hops": 0}, "hops=0"),
        ({"hops": True}, "hops=True"),
        ({"hops": 2.5}, "hops=2.5"),
        ({"num_layers": 1}, r"num_layers=1: SIGN has 2 or more.*TAGCN\(…, num_layers=1, K=2\)"),
        ({"in_channels": -1}, "in_channels=-1"),
        ({"hidden_channels": 0, "out_channels": 0}, "2 faults"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    good = {"in_channels": 5, "hidden_channels": 4, "num_layers": 2, "out_channels": 3}
    with pytest.raises(InputError, match=words):
        gsnn.SIGN(**(good | changes))


@few
@given(graphs())
def test_l_gcns_propagation_is_cluster_gcns_eq_9(graph):
    """D⁻¹A + I of L-GCN's released code (You et al., CVPR 2020)."""
    a = dense_adjacency(graph).fill_diagonal_(0)
    degree = a.sum(dim=1, keepdim=True)
    p = torch.where(degree > 0, a / degree, 0.0) + torch.eye(graph.num_nodes).double()
    conv = shaken(ClusterGCNConv(5, 3, "mean_plus_identity", bias=False))
    model = LayeredGNN([Block(conv, act=None)])
    assert_equal(model(graph.x, graph.adj), conv.lin_out(p @ graph.x))

"""Cluster-GCN's convolution equals its equations, runs in PyG code, and is a fast propagation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.nn import Block, ClusterGCNConv, LayeredGNN
from gnnscale.nn.blocks.phases import Dropout, Propagate, Rows
from tests.helpers.layers import (
    assert_equal,
    assert_same_function,
    double_by_default,
    few,
    is_opaque,
    shaken,
)
from tests.helpers.strategies import dense_adjacency, graphs

FORMS = st.sampled_from(
    [("mean", 0.0), ("mean_plus_identity", 0.0), ("self_loops", 0.0), ("self_loops", 1.0),
     ("self_loops", -0.3)]
)  # fmt: skip
WIDTHS = st.sampled_from([(5, 3), (5, 9)])


def by_the_equations(graph: Graph, propagation: str, diag_lambda: float) -> Tensor:
    """P as the paper writes it, dense; A has no self-loops there."""
    a = dense_adjacency(graph).fill_diagonal_(0)
    eye = torch.eye(graph.num_nodes, dtype=torch.float64)
    rows = a + eye if propagation == "self_loops" else a
    degree = rows.sum(dim=1, keepdim=True)
    p = torch.where(degree > 0, rows / degree, 0.0)
    p = p + eye if propagation == "mean_plus_identity" else p
    return p + diag_lambda * p.diag().diag()


@few
@given(graphs(), WIDTHS, FORMS, st.booleans(), st.booleans(), st.sampled_from([0.0, 0.5]))
def test_the_equations(graph, widths, form, concatenated, bias, dropout):
    conv = ClusterGCNConv(*widths, *form, concatenated, dropout, bias)
    shaken(conv).eval()
    model = LayeredGNN([Block(conv, act=None)]).eval()
    assert not is_opaque(model)
    p = by_the_equations(graph, *form)

    def equation(x: Tensor) -> Tensor:
        out = conv.lin_out(p @ x)
        return out + conv.lin_root(x) if concatenated else out

    weight = graph.edge_weight
    parameters = list(conv.parameters())
    forward = lambda x: conv(x, graph.edge_index, weight)  # noqa: E731
    assert_same_function(forward, equation, graph.x, parameters)
    assert_same_function(lambda x: model(x, graph.adj), equation, graph.x, parameters)


@few
@given(graphs(weighted=False), st.sampled_from([0.0, 1.0]), st.booleans())
def test_the_concatenated_form_of_eq_11_is_pygs(graph, diag_lambda, bias):
    theirs = shaken(pyg.ClusterGCNConv(5, 3, diag_lambda, bias=bias))
    ours = ClusterGCNConv(5, 3, "self_loops", diag_lambda, concatenated=True, bias=bias).double()
    ours.load_state_dict(theirs.state_dict())
    with double_by_default():
        assert_equal(ours(graph.x, graph.edge_index), theirs(graph.x, graph.edge_index))


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_tensor_is_read_as_pyg_reads_it(layout):
    edges, weight = torch.tensor([[1, 3, 0, 2, 2], [0, 0, 1, 2, 3]]), torch.rand(5).double() + 0.1
    adj = torch.sparse_coo_tensor(edges.flip(0), weight, (4, 4), check_invariants=True)
    adj = adj.coalesce() if layout == "coo" else adj.to_sparse_csr()
    conv, x = shaken(ClusterGCNConv(5, 3)), torch.randn(4, 5).double()
    assert_equal(conv(x, adj), conv(x, edges, weight))
    assert_equal(LayeredGNN([Block(conv, act=None)])(x, adj), conv(x, edges, weight))


def test_pyg_code_trains_edge_weights_through_it():
    edges, weight = torch.randint(0, 6, (2, 15)), torch.rand(15, requires_grad=True)
    ClusterGCNConv(5, 3)(torch.randn(6, 5), edges, weight).square().sum().backward()
    assert weight.grad is not None
    assert weight.grad[edges[0] != edges[1]].all()


def test_lazy_channels():
    conv = ClusterGCNConv(-1, 3, concatenated=True)
    model = LayeredGNN([Block(conv, act=None)])
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    assert is_opaque(model)
    first = model(x, edges)
    assert not is_opaque(model)
    assert_equal(model(x, edges), first, 1e-5)


def test_a_subclass_with_a_message_of_its_own_is_opaque():
    class Doubled(ClusterGCNConv):
        def message(self, x_j, edge_weight):
            return 2 * edge_weight.unsqueeze(1) * x_j

    conv = Doubled(5, 3)
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    model = LayeredGNN([Block(conv, act=None)])
    assert is_opaque(model)
    assert_equal(model(x, edges), conv(x, edges), 1e-6)


@pytest.mark.parametrize("concatenated", [False, True])
def test_dropout_stands_between_propagation_and_weights(concatenated):
    conv = ClusterGCNConv(5, 3, concatenated=concatenated, propagated_dropout=0.5)
    model = LayeredGNN([Block(conv, act=None)])
    assert [type(phase) for phase in model.phases[0]] == [Propagate, Dropout, Rows]
    conv.propagated_dropout.p = 1.0
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    for out in (model(x, edges), conv(x, edges)):
        assert_equal(out, conv.lin_out.bias.expand(6, 3))


def test_the_layers_of_the_authors_code():
    model = gsnn.ClusterGCN(
        5, 6, 2, 3, norm="layer_norm", norm_kwargs={"mode": "node"}, propagation="mean",
        concatenated=True, propagated_dropout=0.2, bias=False,
    )  # fmt: skip
    shaken(model).eval()
    x, edges = torch.randn(7, 5).double(), torch.randint(0, 7, (2, 20))
    p = by_the_equations(Graph.from_arrays(edges, x, num_nodes=7), "mean", 0.0)
    first, second = model.to_pyg().convs
    weights = [torch.cat([c.lin_out.weight, c.lin_root.weight], dim=1) for c in (first, second)]
    norm = model.to_pyg().norms[0]
    h = torch.cat([p @ x, x], dim=1) @ weights[0].T
    h = nn.functional.layer_norm(h, (6,), norm.weight, norm.bias, norm.eps).relu()
    assert_equal(model(x, edges), torch.cat([p @ h, h], dim=1) @ weights[1].T)


def test_arguments():
    with pytest.raises(InputError, match="'eq9': there are mean, mean_plus_identity, self_loops"):
        ClusterGCNConv(5, 3, "eq9")
    with pytest.raises(InputError, match=r"diag_lambda=1.0.*empty diagonal.*self_loops"):
        ClusterGCNConv(5, 3, "mean", 1.0)
    with pytest.raises(InputError, match=r"propagated_dropout=2.*\[0, 1\]"):
        ClusterGCNConv(5, 3, propagated_dropout=2)

"""Fast convolutions equal PyG's own, forward and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from gnnscale.nn import Block, LayeredGNN, propagation_of
from tests.helpers.layers import (
    WIDTHS,
    assert_as_pyg,
    assert_equal,
    assert_same_function,
    dense,
    few,
    shaken,
)
from tests.helpers.strategies import graphs


@few
@given(
    graphs(),
    WIDTHS,
    st.sampled_from([(True, True), (True, False), (False, False)]),
    st.booleans(),
    st.booleans(),
)
def test_gcn(graph, widths, normalisation, improved, bias):
    normalize, loops = normalisation
    conv = pyg.GCNConv(
        *widths, improved=improved, add_self_loops=loops, normalize=normalize, bias=bias
    )
    assert_as_pyg(conv, graph, weighted=True)


@few
@given(
    graphs(),
    WIDTHS,
    st.sampled_from(["mean", "sum", "add"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_sage(graph, widths, aggr, normalize, root_weight, bias):
    conv = pyg.SAGEConv(*widths, aggr=aggr, normalize=normalize, root_weight=root_weight, bias=bias)
    assert_as_pyg(conv, graph, weighted=False)


def gin_network(kind: str, width: int, norm: str | None) -> nn.Module:
    if kind == "mlp":
        return pyg.MLP([5, 6, width], norm=norm)
    if kind == "mlp, act first, no plain end":
        return pyg.MLP([5, 6, width], norm=norm, act_first=True, plain_last=False)
    norms = [] if norm is None else [pyg.norm.GraphNorm(6), nn.BatchNorm1d(6)]
    steps = {
        "linear": [nn.Linear(5, width)],
        "sequential": [nn.Linear(5, 6), *norms, nn.ReLU(), nn.Linear(6, width)],
        "nested": [nn.Tanh(), nn.Sequential(nn.Linear(5, 6), *norms), nn.Linear(6, width)],
        "empty": [],
    }
    return nn.Sequential(*steps[kind])


@few
@given(
    graphs(min_nodes=3),
    st.sampled_from([3, 9]),
    st.sampled_from(
        ["mlp", "mlp, act first, no plain end", "linear", "sequential", "nested", "empty"]
    ),
    st.sampled_from([None, "batch_norm", "graph_norm", "layer_norm", "instance_norm"]),
    st.sampled_from([-1.0, 0.0, 0.3]),
    st.booleans(),
)
def test_gin(graph, width, kind, norm, eps, train_eps):
    conv = pyg.GINConv(gin_network(kind, width, norm), eps=eps, train_eps=train_eps)
    assert_as_pyg(conv, graph, weighted=False)


def test_a_changed_epsilon_is_read_again():
    conv = pyg.GINConv(nn.Linear(2, 2)).double()
    model = LayeredGNN([Block(conv, act=None)]).double()
    x, edges = torch.randn(3, 2).double(), torch.tensor([[0, 1], [1, 2]])
    for eps in (0.0, 0.7, -0.2):
        conv.eps.fill_(eps)
        assert_equal(model(x, edges), conv(x, edges))
    conv.eps = torch.tensor([0.4])
    assert_equal(model(x, edges), conv(x, edges), 1e-7)


@few
@given(
    graphs(sparse_x=True),
    st.sampled_from(["gcn", "sage", "gin", "gin, eps", "mlp", "gat"]),
    st.sampled_from([3, 9]),
    st.booleans(),
)
def test_sparse_features_equal_dense_ones(graph, kind, width, residual):
    convs = {
        "gcn": lambda: pyg.GCNConv(5, width),
        "sage": lambda: pyg.SAGEConv(5, width),
        "gin": lambda: pyg.GINConv(nn.Linear(5, width)),
        "gin, eps": lambda: pyg.GINConv(nn.Linear(5, width), train_eps=True),
        "mlp": lambda: nn.Linear(5, width),
        "gat": lambda: pyg.GATConv(5, width),
    }
    model = shaken(LayeredGNN([Block(convs[kind]())]))
    gradients, outs = [], []
    for x in (graph.x, dense(graph.x)):
        out = model(x, graph.adj)
        outs.append(out)
        gradients.append(torch.autograd.grad(out.square().sum(), list(model.parameters())))
    assert isinstance(graph.x, CSR) or graph.num_nodes == 0
    assert_equal(*outs)
    for ours, theirs in zip(*gradients, strict=True):
        assert_equal(ours, theirs, 1e-8)


@few
@given(graphs(), st.sampled_from(["edge_index", "coo", "csr", "csc"]))
def test_an_adjacency_is_read_as_pyg_reads_it(graph, layout):
    conv = shaken(pyg.GCNConv(5, 3))
    model = LayeredGNN([Block(conv, act=None)])
    shuffled = torch.randperm(graph.num_edges)
    edges = graph.edge_index[:, shuffled]
    weight = torch.ones(graph.num_edges, dtype=torch.float64)
    if graph.edge_weight is not None:
        weight = graph.edge_weight[shuffled]
    if layout == "edge_index":
        assert_equal(model(graph.x, edges, weight), conv(graph.x, edges, weight))
        return
    size = (graph.num_nodes, graph.num_nodes)
    matrix = torch.sparse_coo_tensor(  # rows are targets
        edges.flip(0), weight, size, check_invariants=True
    )
    matrix = matrix.coalesce()  # which sums duplicates, before any convolution sees them
    expected = conv(graph.x, matrix.indices().flip(0), matrix.values())
    convert = {"coo": matrix, "csr": matrix.to_sparse_csr(), "csc": matrix.to_sparse_csc()}
    assert_equal(model(graph.x, convert[layout]), expected)
    with pytest.raises(InputError, match="edge_weight goes with an edge_index"):
        model(graph.x, convert[layout], weight)


class EdgeOrder(pyg.MessagePassing):
    """Reads the place of every edge, and all that edges carry."""

    def __init__(self):
        super().__init__("sum")
        self.lin = nn.Linear(2, 5)

    def forward(self, x, edge_index, edge_weight=None, edge_attr=None):
        place = torch.arange(edge_index.size(1), dtype=x.dtype).cos()
        weight = place if edge_weight is None else place * edge_weight
        return self.propagate(edge_index, x=x, scale=weight.view(-1, 1) * self.lin(edge_attr))

    def message(self, x_j, scale):
        return x_j * scale


@few
@given(graphs(edge_attr=True))
def test_edges_come_in_the_callers_order(graph):
    """With all they carry: the answer is that of PyG, whatever a layer makes of the order."""
    conv, order = shaken(EdgeOrder()), torch.randperm(graph.num_edges)
    weight = None if graph.edge_weight is None else graph.edge_weight[order]
    given = (graph.edge_index[:, order], weight, graph.edge_attr[order])
    assert_same_function(
        lambda x: LayeredGNN([Block(conv, act=None)])(x, *given),
        lambda x: conv(x, *given),
        graph.x,
        list(conv.parameters()),
    )


@pytest.mark.parametrize(
    "conv",
    [
        pyg.GCNConv(5, 3, aggr="max"),
        pyg.GCNConv(5, 3, flow="target_to_source"),
        pyg.GCNConv(5, 3, node_dim=0),
        pyg.SAGEConv(5, 3, aggr="max"),
        pyg.SAGEConv(5, 3, aggr=["mean", "max"]),
        pyg.SAGEConv(5, 3, project=True),
        pyg.GCNConv(5, 4, decomposed_layers=2),
        pyg.GINConv(nn.Linear(5, 3), aggr="mean"),
    ],
    ids=str,
)
def test_what_is_no_propagation_runs_as_it_is(conv):
    assert propagation_of(conv) is None
    model = LayeredGNN([Block(conv, act=None)])
    x, edges = torch.randn(6, 5), torch.randint(0, 6, (2, 15))
    assert_equal(model(x, edges), conv(x, edges), 1e-5)


def test_a_replaced_aggregation_is_honoured():
    conv = pyg.SAGEConv(5, 3)
    conv.aggr_module = pyg.aggr.MaxAggregation()
    assert propagation_of(conv) is None


def test_weights_of_another_precision_are_rounded_to_the_rows():
    edges = torch.randint(0, 6, (2, 15))
    weight = torch.rand(15, dtype=torch.float64)
    x = torch.randn(6, 5)
    for conv in (pyg.GCNConv(5, 3), pyg.GraphConv(5, 3)):
        out = LayeredGNN([Block(conv, act=None)])(x, edges, weight)
        assert out.dtype == torch.float32
        assert_equal(out, conv(x, edges, weight.float()), 1e-5)

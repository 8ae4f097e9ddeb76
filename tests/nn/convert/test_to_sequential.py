"""Blocks as a `torch_geometric.nn.Sequential`."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import UnsupportedModel
from gnnscale.nn import Block, LayeredGNN, as_layered
from gnnscale.nn.blocks.phases import Collect
from tests.helpers.layers import (
    DifferenceConv,
    assert_equal,
    assert_same_function,
    few,
    is_opaque,
    shaken,
)
from tests.helpers.strategies import graphs

EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


@few
@given(
    graphs(min_nodes=3, edge_attr=True),
    st.sampled_from([None, "cat", "max"]),
    st.sampled_from(["conv-norm-act-dropout", "norm-act-dropout-conv", "act-conv-residual-norm"]),
    st.booleans(),
    st.booleans(),
)
def test_blocks_as_a_sequential(graph, jk, order, residual, training):
    options = {"order": order, "residual": residual or "residual" in order}
    norm = "graph_norm" if jk else "batch_norm"
    act = nn.ReLU(inplace=True)
    blocks = [
        Block(nn.Linear(5, 4), act=act, saves="x0"),
        Block(pyg.GCN2Conv(4, 0.1, 0.5, 1), norm, act, reads="x0", **options),
        Block(pyg.SAGEConv(4, 4), norm, act, **options),
        Block(pyg.GATv2Conv(4, 4, edge_dim=2), norm, act, **options),
        Block(DifferenceConv(4, 4), norm, act, **options),
    ]
    head = pyg.MLP([20 if jk == "cat" else 4, 4, 2], norm=norm)
    model = shaken(LayeredGNN(blocks, head, jk=jk))
    theirs = model.to_pyg()
    assert isinstance(theirs, pyg.Sequential)
    assert {id(p) for p in theirs.parameters()} == {id(p) for p in model.parameters()}
    model.train(training)
    theirs.train(training)
    context = lambda: gsnn.Context(graph.adj, training, edge_attr=graph.edge_attr)  # noqa: E731
    assert_same_function(
        lambda x: model(x, graph.adj, context=context()),
        lambda x: theirs(x, graph.edge_index, graph.edge_weight, graph.edge_attr),
        graph.x,
        list(model.parameters()),
    )
    again = as_layered(theirs)
    assert not is_opaque(again, 1) and not any(
        isinstance(phase, Collect) for phases in again.phases for phase in phases
    )
    again.train(training)
    assert_equal(
        again(graph.x, graph.adj, context=context()), model(graph.x, graph.adj, context=context())
    )


def test_models_by_name_as_pygs():
    x = torch.randn(5, 5)
    for model in (
        gsnn.GCN(5, 4, 2, 3, jk="cat"), gsnn.GCNII(5, 4, 2, 3), gsnn.DeepGCN(5, 4, 2, 3),
        gsnn.ClusterGCN(5, 4, 2, 3), gsnn.APPNP(5, 4, 2, 3), gsnn.MLP(5, 4, 2, 3),
    ):  # fmt: skip
        assert_equal(model.eval().to_pyg().eval()(x, EDGES), model(x, EDGES), 1e-5)


def test_what_a_sequential_cannot_express():
    model = LayeredGNN([pyg.GCNConv(5, 3)])
    model.blocks[0].register_forward_hook(lambda module, arguments, out: None)
    with pytest.raises(UnsupportedModel, match="Block has hooks"):
        model.to_pyg()

"""Blocks: the order of their steps, residuals, slots, and what is refused."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn import Block, Context, LayeredGNN, Slot
from gnnscale.nn.blocks.phases import Dropout, Neighbourhood, Propagate, Statistics
from tests.helpers.layers import DifferenceConv, FarConv, assert_equal, few, shaken
from tests.helpers.strategies import graphs

ORDERS = [
    "-".join(order)
    for count in range(4)
    for steps in itertools.combinations(("norm", "act", "dropout"), count)
    for order in itertools.permutations(("conv", *steps))
]


@few
@given(
    graphs(min_nodes=2),
    st.sampled_from(ORDERS),
    st.sampled_from([pyg.GCNConv, pyg.GATConv, nn.Linear]),
    st.booleans(),
    st.booleans(),
)
def test_steps_run_in_their_order(graph, order, layer, residual, inplace):
    norm = pyg.GraphNorm(5) if "norm" in order else None
    dropout = 0.4 if "dropout" in order else 0.0
    block = Block(
        layer(5, 5), norm, nn.ReLU(inplace=inplace), dropout, order=order, residual=residual
    )
    model = shaken(LayeredGNN([block])).eval()
    before = graph.x.clone()
    x = graph.x
    for step in order.split("-"):
        if step == "conv":
            is_row_local = layer is nn.Linear
            x = (
                block.conv(x)
                if is_row_local
                else block.conv(x, graph.edge_index, *weights(graph, layer))
            )
        elif step == "norm":
            x = norm(x)
        elif step == "act":
            x = x.relu()
    assert_equal(model(graph.x, graph.adj), x + graph.x if residual else x)
    assert torch.equal(graph.x, before)  # an activation in place does not write into the features


def weights(graph, layer):
    return () if layer is not pyg.GCNConv else (graph.edge_weight,)


@few
@given(graphs(), st.sampled_from(ORDERS))
def test_dropout_falls_where_the_order_says(graph, order):
    if "dropout" not in order:
        order += "-dropout"
    block = Block(nn.Linear(5, 5), dropout=0.5, order=order).double()
    model = LayeredGNN([block])
    kinds = [type(phase) for phase in model.phases[0]]
    context = Context(graph.adj, training=True, seed=3)
    x = graph.x
    for step in order.split("-"):
        if step == "conv":
            x = block.conv(x)
        elif step == "act":
            x = x.relu()
        elif step == "dropout":
            x = Dropout(block.dropout, 0)(x, Context(graph.adj, training=True, seed=3))
    assert kinds.count(Dropout) == 1
    assert_equal(model(graph.x, graph.adj, context=context), x)


@few
@given(graphs(min_nodes=2), st.sampled_from([None, "cat", "max"]), st.integers(1, 4), st.booleans())
def test_slots_are_what_lives_on(graph, jk, depth, residual):
    widths = [5, *[4] * depth]
    blocks = [
        Block(pyg.SAGEConv(a, b), residual=residual and a == b)
        for a, b in itertools.pairwise(widths)
    ]
    width = 4 * depth if jk == "cat" else 4
    head = nn.Linear(width, 2) if jk else None
    model = LayeredGNN(blocks, head, jk=jk).double()
    slots = {slot.name: slot for slot in model.slots}
    expected = {f"residual{i}": Slot(f"residual{i}", 4, i, i) for i in range(1, depth) if residual}
    if jk:
        expected["jumping_knowledge"] = Slot("jumping_knowledge", width, 0, depth)
    assert slots == expected
    context = Context(graph.adj, False)
    model(graph.x, graph.adj, context=context)
    assert {name: value.size(1) for name, value in context.slots.items()} == {
        name: slot.width for name, slot in slots.items()
    }


@few
@given(graphs(min_nodes=2), st.sampled_from(["cat", "max"]))
def test_jumping_knowledge_joins_every_block(graph, jk):
    convs = [pyg.SAGEConv(5, 4), pyg.SAGEConv(4, 4), pyg.SAGEConv(4, 4)]
    model = LayeredGNN([Block(conv, act="tanh") for conv in convs], jk=jk).double()
    x, outs = graph.x, []
    for conv in convs:
        x = conv(x, graph.edge_index).tanh()
        outs.append(x)
    expected = torch.cat(outs, 1) if jk == "cat" else torch.stack(outs).max(0).values
    assert_equal(model(graph.x, graph.adj), expected)


def test_widths_of_layers():
    width = lambda conv: LayeredGNN([conv]).in_channels  # noqa: E731
    assert width(pyg.GCNConv(5, 3)) == 5
    assert width(pyg.SAGEConv((5, 5), 3)) == 5
    assert width(pyg.GINConv(pyg.MLP([5, 4, 3]))) == 5
    assert width(pyg.GINConv(nn.Sequential(nn.Tanh(), nn.Linear(5, 3)))) == 5
    assert width(nn.Linear(5, 3)) == 5
    assert width(pyg.EdgeConv(nn.Linear(10, 3))) is None  # it joins two rows: 10 is not its width
    out = lambda conv: Block(conv, "batch_norm").norm.in_channels  # noqa: E731
    assert out(pyg.GATConv(5, 3, heads=4)) == 12
    assert out(pyg.GATConv(5, 3, heads=4, concat=False)) == 3
    assert out(pyg.GINConv(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))) == 3
    assert out(pyg.EdgeConv(nn.Linear(10, 3))) == 3
    assert out(nn.Linear(5, 3)) == 3


def test_kinds_of_phases():
    kinds = lambda block: [type(phase) for phase in LayeredGNN([block]).phases[0]]  # noqa: E731
    gin = pyg.GINConv(pyg.MLP([5, 4, 3], norm="graph_norm"))
    assert kinds(Block(gin, act=None))[:2] == [Propagate, Statistics]  # inside its MLP
    assert kinds(Block(pyg.GATConv(5, 3), act=None)) == [Neighbourhood]
    assert kinds(Block(DifferenceConv(5, 3), act=None)) == [Neighbourhood]
    assert kinds(Block(FarConv(5, 1), act=None)) == [Neighbourhood]
    assert kinds(Block(nn.Linear(5, 3), pyg.GraphNorm(3), None))[1] is Statistics
    fused = LayeredGNN([Block(nn.Linear(5, 3), dropout=0.5)]).phases[0]
    assert [type(phase) for phase in fused][1:] == [Dropout]
    assert type(fused[1].act) is nn.ReLU


def test_an_optional_edge_index_makes_a_convolution():
    class Optional(nn.Module):
        def forward(self, x, edge_index=None):
            return x if edge_index is None else 2 * x

    x = torch.ones(3, 2)
    model = LayeredGNN([Block(Optional(), act=None)])
    assert_equal(model(x, torch.zeros(2, 1, dtype=torch.int64)), 2 * x)


@pytest.mark.parametrize(
    "order",
    ["", "norm-act", "conv-conv", "conv-activation", "conv norm", "conv-", "norm-conv-norm"],
)
def test_an_order_must_name_conv_and_steps_once(order):
    with pytest.raises(InputError, match="name conv and any of norm, act, dropout once each"):
        Block(pyg.GCNConv(5, 3), order=order)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dropout": 1.5}, "dropout=1.5: a probability"),
        ({"dropout": -0.1}, "a probability"),
        ({"dropout": float("nan")}, "a probability"),
        ({"norm": "graph_norm", "order": "conv-act"}, "leaves out the norm"),
        ({"dropout": 0.5, "order": "conv-act"}, "leaves out the dropout"),
        ({"residual": True}, "maps 5 channels to 3"),
        ({"hops": 0}, "hops=0"),
    ],
)
def test_what_a_block_refuses(arguments, words):
    with pytest.raises(InputError, match=words):
        Block(pyg.GCNConv(5, 3), **arguments)


def test_a_norm_by_name_needs_a_width():
    class Own(nn.Module):
        def forward(self, x, edge_index):
            return x

    with pytest.raises(InputError, match="Own has no out_channels"):
        Block(Own(), "graph_norm")


def test_a_norm_that_cannot_be_taken_apart_is_refused():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = pyg.GraphNorm(5)

        def forward(self, x):
            return self.norm(x)

    with pytest.raises(UnsupportedModel, match="Hidden holds a norm"):
        LayeredGNN([Block(Hidden())]).phases  # noqa: B018
    gin = LayeredGNN([Block(pyg.GINConv(Hidden()), act=None)])
    assert [type(phase) for phase in gin.phases[0]] == [Neighbourhood]


@pytest.mark.parametrize("out", [torch.ones(2, 3), torch.ones(5, 3), None, [torch.ones(4, 3)]])
def test_a_convolution_returns_a_row_per_node(out):
    class Wrong(nn.Module):
        def forward(self, x, edge_index):
            return out

    with pytest.raises(InputError, match=r"Wrong returned .* for 4 nodes"):
        LayeredGNN([Wrong()])(torch.ones(4, 3), torch.zeros(2, 0, dtype=torch.int64))


def test_an_mlp_sees_no_edge():
    model = gsnn.MLP(5, 6, 3, 2, norm="batch_norm", residual=True)
    x = torch.randn(9, 5)
    none, some = torch.zeros(2, 0, dtype=torch.int64), torch.randint(0, 9, (2, 9))
    assert_equal(model.eval()(x, none), model(x, some), 0.0)
    assert model.slots == [Slot("residual1", 6, 1, 1)]


def test_what_works_in_place_inside_leaves_the_features_alone():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.lin = nn.ReLU(inplace=True), nn.Linear(5, 3)

        def forward(self, x):
            return self.lin(self.act(x))

    x = torch.randn(4, 5)
    kept = x.clone()
    LayeredGNN([Block(Inside())])(x, torch.tensor([[0, 1], [1, 2]]))
    assert torch.equal(x, kept)

"""GCNII and DeepGCN: slots that convolutions read, and residuals as PyG's layers have them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import DeepGCNLayer

import gnnscale.nn as gsnn
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn import Block, LayeredGNN, Slot, as_layered, from_spec
from tests.helpers.layers import (
    assert_equal,
    assert_same_function,
    few,
    is_opaque,
    shaken,
)
from tests.helpers.strategies import graphs


@few
@given(
    graphs(min_nodes=2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(True, True), (True, False), (False, False)]),
)
def test_gcn2_reads_its_slot(graph, shared, hooked, normalised):
    normalize, loops = normalised
    conv = pyg.GCN2Conv(4, 0.2, 0.5, 3, shared, normalize=normalize, add_self_loops=loops)
    if hooked:
        conv.register_forward_hook(lambda module, arguments, out: None)
    first = nn.Linear(5, 4)
    model = shaken(LayeredGNN([Block(first, saves="x0"), Block(conv, reads="x0")]))
    assert is_opaque(model, 1) == hooked
    assert model.slots == [Slot("x0", 4, 0, 1)]

    def theirs(x):
        x0 = first(x).relu()
        return conv(x0, x0, graph.edge_index, graph.edge_weight).relu()

    parameters = list(model.parameters())
    assert_same_function(lambda x: model(x, graph.adj), theirs, graph.x, parameters)


@few
@given(graphs(min_nodes=2, weighted=False), st.booleans())
def test_gcnii_is_the_papers(graph, shared):
    model = shaken(gsnn.GCNII(5, 4, 3, 2, 0.5, alpha=0.2, shared_weights=shared)).eval()
    first, *layers, last = (block.conv for block in model.blocks)
    x = x0 = first(graph.x).relu()
    for conv in layers:
        x = conv(x, x0, graph.edge_index).relu()
    assert_equal(model(graph.x, graph.adj), last(x))


@pytest.mark.parametrize("kind", ["res+", "res", "dense", "plain"])
@settings(max_examples=3)  # PyG compiles a module for every Sequential
@given(graphs(min_nodes=2, weighted=False), st.booleans(), st.booleans())
def test_deep_layers_are_pygs(kind, graph, normed, listed):
    """In a list and in a Sequential, with layers before and after."""
    widths = [4, 8] if kind == "dense" else [4, 4]
    layers = [
        DeepGCNLayer(
            pyg.GCNConv(width, width if kind == "dense" else 4),
            pyg.GraphNorm(width) if normed else None,
            nn.ReLU(),
            kind,
            0.5,
        )
        for width in widths
    ]
    out = {"dense": 16}.get(kind, 4)
    modules = [nn.Linear(5, 4), *layers, nn.Linear(out, 2)]
    shaken(nn.ModuleList(modules)).eval()
    headers = ["x -> x", *["x, edge_index -> x"] * 2, "x -> x"]
    sequential = pyg.Sequential("x, edge_index", list(zip(modules, headers, strict=True)))
    model = as_layered(nn.ModuleList(modules) if listed else sequential).eval()
    assert len(model.blocks) == 4

    def theirs(x):
        x = modules[0](x)
        for layer in layers:
            x = layer(x, graph.edge_index)
        return modules[-1](x)

    parameters = [p for module in modules for p in module.parameters()]
    if kind != "plain":
        assert [slot.width for slot in model.slots] == widths
    assert_same_function(lambda x: model(x, graph.adj), theirs, graph.x, parameters)


@pytest.mark.parametrize("conv", ["gcn", "sage", "gen"])
def test_deepgcn_is_pygs_layers(conv):
    model = shaken(gsnn.DeepGCN(5, 4, 3, 2, 0.5, conv=conv)).eval()
    first, second, *deep, last = model.blocks
    edges = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
    x = torch.randn(6, 5).double()
    h = second.conv(first.conv(x), edges)
    for block in deep:
        h = DeepGCNLayer(block.conv, block.norm, nn.ReLU(), "res+", 0.5).eval()(h, edges)
    expected = last.conv(last.norm(h).relu())
    assert_equal(model(x, edges), expected)


@pytest.mark.parametrize("make", [gsnn.GCNII, gsnn.DeepGCN])
def test_deep_models_have_specs_and_limits(make):
    model = make(5, 4, 3, 2, 0.1, norm="graph_norm")
    again = from_spec(model.spec)
    assert again.signature() == model.signature() and again.spec == model.spec
    with pytest.raises(InputError, match="2 faults"):
        make(5, 0, -1, 2)
    with pytest.raises(InputError, match=r"alpha=2|conv='rnn'"):
        make(5, 4, 3, 2, **({"alpha": 2} if make is gsnn.GCNII else {"conv": "rnn"}))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm", ["layer_norm", None])
def test_gcnii_where_half_precision_meets_norms(norm, shared):
    model = gsnn.GCNII(5, 4, 2, 3, norm=norm, shared_weights=shared)
    x, edges = torch.randn(6, 5), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 4]])
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x, edges)
    assert_equal(out.float(), model(x, edges), 0.05)
    out.float().sum().backward()


def test_a_norm_before_its_convolution_has_the_width_that_enters():
    order = "norm-act-dropout-conv"
    assert Block(pyg.GCNConv(5, 3), "graph_norm", order=order).norm.in_channels == 5
    assert Block(pyg.GCNConv(5, 3), "graph_norm").norm.in_channels == 3


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (lambda c: [Block(c)], r"GCN2Conv takes \['x_0'\] beside x, and no slot is given"),
        (lambda c: [Block(c, reads="x0")], "'x0' is read before"),
        (lambda c: [Block(nn.Linear(4, 4), saves="x0")] * 2, "two blocks save to the slot 'x0'"),
        (
            lambda c: [
                Block(nn.Linear(4, 4), saves="x0"),
                Block(pyg.GCNConv(4, 4), reads="x0"),
            ],
            r"GCNConv takes nothing beside x, and the slots \['x0'\]",
        ),
    ],
)
def test_slots_that_do_not_fit(blocks, words):
    model = LayeredGNN(blocks(pyg.GCN2Conv(4, 0.1)))
    with pytest.raises(InputError, match=words):
        model.phases  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"norm": "graph_nrom"}, "norm='graph_nrom'.*did you mean GraphNorm"),
        ({"act": "rellu"}, "act='rellu'.*did you mean .*ReLU"),
        ({"order": "conv-residual-act"}, "has a residual: after conv, and with residual"),
        ({"order": "residual-conv", "residual": True}, "has a residual: after conv"),
        ({"residual": "sum"}, "residual='sum'"),
    ],
)
def test_names_that_a_block_does_not_know(arguments, words):
    with pytest.raises(InputError, match=words):
        Block(pyg.GCNConv(5, 5), **arguments)


def test_a_hooked_deep_layer_is_refused():
    layer = DeepGCNLayer(pyg.GCNConv(4, 4), act=nn.ReLU())
    layer.register_forward_hook(lambda module, arguments, out: 2 * out)
    with pytest.raises(UnsupportedModel, match=r"DeepGCNLayer cannot be read.*hooks"):
        as_layered([layer])

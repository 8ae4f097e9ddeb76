"""`torch_geometric.nn.Sequential` as blocks and slots, and blocks as a Sequential."""

from __future__ import annotations

import copy
import operator
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch_geometric import nn as pyg

from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.inference import stream
from gnnscale.nn import Slot, as_layered
from gnnscale.nn.blocks.phases import Propagate
from tests.helpers.layers import assert_equal, assert_same_function, evaluated, shaken
from tests.helpers.strategies import graphs

GRAPH = "x, edge_index"
EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


def plain():
    return pyg.Sequential(
        GRAPH,
        [
            (nn.Dropout(0.5), "x -> x"),
            (pyg.GCNConv(5, 4), "x, edge_index -> x"),
            pyg.GraphNorm(4),
            nn.ReLU(inplace=True),
            (pyg.GATConv(4, 3, heads=2), "x, edge_index -> x"),
            functional.elu,
            nn.Linear(6, 2),
        ],
    )


def residual():
    return pyg.Sequential(
        "h, edge_index, edge_weight",
        [
            (nn.Linear(5, 4), "h -> x1"),
            (pyg.GCNConv(4, 4), "x1, edge_index, edge_weight -> x2"),
            nn.ReLU(),
            (lambda a, b: a + 0.5 * b, "x2, x1 -> x3"),
            (pyg.SAGEConv(4, 4), "x3, edge_index -> x4"),
            (operator.sub, "x4, x1 -> x5"),
            (torch.add, "x5, x5 -> x5"),
            (nn.Linear(5, 4), "h -> x6"),
            (torch.add, "x5, x6 -> x"),
        ],
    )


def jumping(mode):
    return lambda: pyg.Sequential(
        "x, edge_index, batch",
        [
            (pyg.GINConv(pyg.MLP([5, 4, 4], norm="graph_norm")), "x, edge_index -> x1"),
            nn.ReLU(),
            (pyg.SAGEConv(4, 4), "x1, edge_index -> x2"),
            nn.Tanh(),
            (pyg.GCNConv(4, 4), "x2, edge_index -> x3"),
            (lambda x1, x2, x3: [x1, x3, x2], "x1, x2, x3 -> xs"),
            (pyg.JumpingKnowledge(mode), "xs -> x"),
            nn.Linear({"cat": 12, "max": 4}[mode], 2),
        ],
    )


def nested():
    inner = pyg.Sequential(
        "z, graph", [(pyg.GCNConv(4, 4), "z, graph -> y"), (torch.add, "z, y -> y")]
    )
    return pyg.Sequential(
        GRAPH,
        [
            (nn.Linear(5, 4), "x -> x0"),
            (pyg.GCN2Conv(4, 0.1), "x0, x0, edge_index -> x"),
            (inner, "x, edge_index -> x"),
            (pyg.FAConv(4), "x, x0, edge_index -> x"),
            (nn.Tanh(), "x0 -> y"),
            (lambda x: x, "x -> x"),
        ],
    )


def splitting():
    return pyg.Sequential(
        GRAPH,
        [
            (pyg.GCNConv(5, 4), "x, edge_index -> x"),
            (lambda x: x.view(-1, 2, 2).mean(1), "x -> y"),
            (lambda x, y: (y, x), "x, y -> a, b"),
            (lambda a, b: torch.cat([a[:, :1], b], 1), "a, b -> x"),
        ],
    )


MODELS = {
    "plain": plain,
    "residual": residual,
    "cat": jumping("cat"),
    "max": jumping("max"),
    "nested": nested,
    "splitting": splitting,
}


def follow(model, *inputs):
    """What PyG's Sequential does where it writes no forward: those it writes are mixed up.

    Their names are drawn from `random`, which hypothesis seeds.
    """
    values = dict(zip(model.signature.param_dict, inputs, strict=False))
    for child in model._children:
        module, given = getattr(model, child.name), [values[name] for name in child.param_names]
        inner = isinstance(module, pyg.Sequential)
        out = follow(module, *given) if inner else module(*given)
        values |= zip(
            child.return_names, out if len(child.return_names) > 1 else [out], strict=True
        )
    return out


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=3)  # PyG compiles a module for every Sequential
@given(graphs(min_nodes=3), st.sampled_from([1, 2, None]))
def test_a_sequential_is_the_same_function(name, graph, chunk_rows):
    model = shaken(MODELS[name]()).eval()
    layered = as_layered(model)
    assert not layered.training
    assert set(layered.state_dict()) == set(model.state_dict())
    assert [id(p) for p in layered.parameters()] == [id(p) for p in model.parameters()]
    assert layered.to_pyg() is model
    assert_same_function(
        lambda x: layered(x, graph.adj),
        lambda x: follow(model, x, graph.edge_index, graph.edge_weight),
        graph.x,
        list(model.parameters()),
    )
    chunks = [out.clone() for _, _, out in stream(layered, graph, chunk_rows=chunk_rows)]
    assert_equal(torch.cat(chunks), evaluated(layered, graph), 1e-8)


def test_blocks_begin_at_layers_and_slots_hold_what_is_read_again():
    model = as_layered(plain())
    assert [[type(layer).__name__ for layer in block.layers] for block in model.blocks] == [
        ["Dropout", "GCNConv", "GraphNorm", "ReLU"],
        ["GATConv", "Call"],
        ["Linear"],
    ]
    assert model.slots == [] and model.in_channels == 5
    assert as_layered(residual()).slots == [
        Slot("value0", 5, 0, 3),
        Slot("value1", 4, 0, 2),
        Slot("value3", 4, 1, 1),
        Slot("value5", 4, 2, 2),
        Slot("value6", 4, 2, 2),
        Slot("value7", 4, 2, 3),
    ]
    assert any(isinstance(phase, Propagate) for phase in as_layered(nested()).phases[1])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_a_model_of_its_own(duplicate):
    model = as_layered(plain()).eval()
    x = torch.randn(5, 5)
    expected = model(x, EDGES)
    other = duplicate(model)
    assert_equal(other(x, EDGES), expected, 0.0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(x, EDGES).any()
    assert_equal(model(x, EDGES), expected, 0.0)


def sequential(*children, inputs=GRAPH):
    return lambda: pyg.Sequential(inputs, list(children))


class Own(pyg.Sequential):
    def forward(self, x, edge_index):
        return x


def hooked():
    model = plain()
    model.register_forward_hook(lambda module, arguments, out: 2 * out)
    return model


CONV = (pyg.GCNConv(5, 5), "x, edge_index -> x")
REFUSED = {
    "two graphs": (
        sequential(CONV, (pyg.GCNConv(5, 5), "x, adj2 -> x"), inputs=GRAPH + ", adj2"),
        "GCNConv .*reads 'adj2'; blocks see",
    ),
    "LSTM": (
        sequential(
            (lambda x: [x], "x -> xs"), (pyg.JumpingKnowledge("lstm", 5, 1), "xs -> x"), CONV
        ),
        "JumpingKnowledge .*LSTM.*'cat' or 'max'",
    ),
    "pooling": (
        sequential(CONV, (pyg.global_mean_pool, "x, batch -> x"), inputs=GRAPH + ", batch"),
        "global_mean_pool .*reads 'batch'",
    ),
    "a norm of graphs": (
        sequential(CONV, (pyg.GraphNorm(5), "x, batch -> x"), inputs=GRAPH + ", batch"),
        "GraphNorm .*reads 'batch'",
    ),
    "mixing": (sequential(CONV, (lambda x: x - x.mean(0), "x -> x")), "<lambda> .*mixes rows"),
    "sorting": (sequential(CONV, (lambda x: x.flip(0), "x -> x")), "<lambda> .*mixes rows"),
    "randomness": (sequential(CONV, (functional.dropout, "x -> x")), "dropout .*draws random"),
    "writing": (sequential(CONV, (torch.relu_, "x -> x")), "relu_ .*changes its arguments"),
    "reducing": (sequential(CONV, (torch.sum, "x -> x")), "sum .*one row for each row"),
    "failing": (sequential(CONV, (lambda x: x[:, 99], "x -> x")), "does not run on rows alone"),
    "new lists": (sequential(CONV, (lambda x: [x, 2 * x], "x -> xs")), "of other things"),
    "a list at the end": (sequential(CONV, (lambda x: [x], "x -> xs")), "returns a list"),
    "several results": (
        sequential((pyg.GATConv(5, 5), "x, edge_index -> x, alpha")),
        "GATConv .*returns x, alpha",
    ),
    "attributes as weights": (
        sequential(
            (pyg.GCNConv(5, 5), "x, edge_index, edge_attr -> x"), inputs=GRAPH + ", edge_attr"
        ),
        "GCNConv .*takes edge_weight after the graph.*gives edge_attr",
    ),
    "an unknown name": (sequential((pyg.GCNConv(5, 5), "y, edge_index -> x")), "reads 'y'"),
    "no graph": (sequential((pyg.GCNConv(5, 5), "x -> x")), "gives it no edge_index"),
    "edges in a function": (
        sequential((lambda x, e: x, "x, edge_index -> x")),
        "modules alone see edges",
    ),
    "own forward": (lambda: Own(GRAPH, [CONV]), "Own .*forward or hooks of its own"),
    "hooks": (hooked, "Sequential .*hooks of its own"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(case):
    make, words = REFUSED[case]
    with pytest.raises(UnsupportedModel, match=words):
        as_layered(make())


def test_a_convolution_sees_weights_only_where_its_header_says_so():
    weight = torch.rand(6)
    x = torch.randn(5, 5)
    for inputs in (GRAPH, GRAPH + ", edge_weight"):
        for conv in (pyg.GCNConv(5, 3), pyg.GraphConv(5, 3)):
            model = pyg.Sequential(inputs, [(conv, f"{inputs} -> x")])
            given = (weight,) if "weight" in inputs else ()
            ours = as_layered(model)(x, EDGES, weight)
            assert_equal(ours, follow(model, x, EDGES, *given), 1e-5)


def test_modules_in_a_list_stand_as_they_are():
    convs = [pyg.GCNConv(5, 4), pyg.GATConv(4, 4)]
    modules = [nn.Dropout(0.5), convs[0], pyg.LayerNorm(4), nn.Tanh(), convs[1], nn.Linear(4, 2)]
    x = torch.randn(5, 5)
    expected = modules[-1](convs[1](modules[2](convs[0](x, EDGES)).tanh(), EDGES))
    for given_as in (modules, nn.ModuleList(modules), nn.Sequential(*modules)):
        model = as_layered(given_as).eval()
        assert_equal(model(x, EDGES), expected, 1e-5)
        assert_equal(model.to_pyg().eval()(x, EDGES), expected, 1e-5)
    bare = as_layered(nn.Sequential(*convs))  # nothing between them, where a list has a ReLU
    assert_equal(bare(x, EDGES), convs[1](convs[0](x, EDGES), EDGES), 1e-5)
    with pytest.raises(InputError, match="norm, dropout and residual go with"):
        as_layered(modules, norm="batch_norm")
    with pytest.raises(UnsupportedModel, match="<built-in method relu"):
        as_layered([convs[0], torch.relu])
    with pytest.raises(InputError, match="at least one block"):
        as_layered(nn.Sequential())
    with pytest.raises(UnsupportedModel, match="hooks"):
        hooked = nn.Sequential(*convs)
        hooked.register_forward_hook(lambda module, arguments, out: None)
        as_layered(hooked)


@pytest.mark.parametrize(
    "module",
    [nn.ReLU(inplace=True), nn.ReLU(), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))],
    ids=["in place", "apart", "first of several"],
)
@pytest.mark.parametrize("reads", ["x1, x3", "x2, x3"])
def test_what_a_module_writes_over_is_read_as_it_left_it(module, reads):
    model = pyg.Sequential(
        GRAPH,
        [
            (pyg.GCNConv(5, 4), "x, edge_index -> x1"),
            (module, "x1 -> x2"),
            (pyg.SAGEConv(4, 4), "x2, edge_index -> x3"),
            (operator.add, f"{reads} -> x4"),
            (lambda *values: [*values], "x1, x4 -> xs"),
            (pyg.JumpingKnowledge("cat"), "xs -> x"),
        ],
    )
    x = torch.randn(6, 5)
    assert_equal(as_layered(model)(x, EDGES), model(x, EDGES), 1e-5)


class _Widens(nn.Module):
    """A user's module that changes the width, and holds no matrix."""

    def forward(self, x):
        return torch.cat([x, -x], dim=1)


@pytest.mark.parametrize(
    ("widens", "width"),
    [(_Widens(), 10), (lambda x: torch.cat([x, -x], 1), 10), (lambda x: x[:, :3], 3)],
    ids=["module", "function", "columns"],
)
def test_functions_may_change_the_width(widens, width):
    model = pyg.Sequential(
        GRAPH,
        [
            (widens, "x -> x1"),
            (pyg.GCNConv(width, width), "x1, edge_index -> x2"),
            (operator.add, "x1, x2 -> x3"),
            (nn.GLU(), "x3 -> x4") if width % 2 == 0 else (nn.ReLU(), "x3 -> x4"),
            (pyg.SAGEConv(-1, width // (2 - width % 2)), "x4, edge_index -> x5"),
            (torch.mul, "x4, x5 -> x6"),
        ],
    )
    x = torch.randn(6, 5)
    expected = model(x, EDGES)
    assert_equal(as_layered(model)(x, EDGES), expected, 1e-5)


def test_a_norm_does_not_say_what_a_convolution_takes():
    class Anonymous(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(5, 4)

        def forward(self, x, edge_index):
            return self.lin(x).index_add(0, edge_index[1], self.lin(x)[edge_index[0]])

    model = as_layered([Anonymous(), pyg.BatchNorm(4), nn.ReLU(), pyg.GCNConv(4, 2)])
    assert model.in_channels is None
    assert model(torch.randn(6, 5), EDGES).shape == (6, 2)

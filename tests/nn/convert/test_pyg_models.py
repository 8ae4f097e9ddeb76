"""Models of PyG as layers: same function, same parameters, same keys."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn import Block, LayeredGNN, as_layered, from_spec
from tests.helpers.layers import (
    assert_equal,
    assert_same_function,
    few,
    shaken,
)
from tests.helpers.strategies import graphs

NORMS = [None, "batch_norm", "layer_norm", "graph_norm", "instance_norm", "pair_norm"]
EDGES = torch.randint(0, 9, (2, 30), generator=torch.Generator().manual_seed(0))
EDGES = EDGES[:, EDGES[0] != EDGES[1]]
MODELS = ["GCN", "GraphSAGE", "GIN", "GAT"]


def build(name: str, **arguments) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GIN hands its own norm's arguments on
        return shaken(getattr(pyg, name)(5, 6, **arguments))


@pytest.mark.parametrize("name", MODELS)
@few
@given(
    graphs(min_nodes=3),
    st.sampled_from([None, "last", "cat", "max"]),
    st.sampled_from(NORMS),
    st.booleans(),
    st.sampled_from(["relu", "elu", None]),
    st.sampled_from([(1, 3), (2, 4), (3, None)]),
    st.booleans(),
)
def test_as_layered_is_the_same_function(name, graph, jk, norm, act_first, act, depth, training):
    layers, out_channels = depth
    model = build(
        name,
        num_layers=layers,
        out_channels=out_channels,
        dropout=0.0 if training else 0.5,
        act=act,
        act_first=act_first,
        norm=norm,
        jk=jk,
    )
    layered = as_layered(model)
    assert set(layered.state_dict()) == set(model.state_dict())
    assert [id(p) for p in layered.parameters()] == [id(p) for p in model.parameters()]
    assert layered.to_pyg() is model
    layered.train(training)
    model.train(training)
    weight = {} if name != "GCN" else {"edge_weight": graph.edge_weight}
    assert_same_function(
        lambda x: layered(x, graph.adj),
        lambda x: model(x, graph.edge_index, **weight),
        graph.x,
        list(model.parameters()),
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("GCN", {"normalize": False, "bias": False}),
        ("GCN", {"norm": "layer_norm", "norm_kwargs": {"mode": "node"}}),
        ("GraphSAGE", {"aggr": "max"}),
        ("GraphSAGE", {"aggr": ["mean", "max"]}),
        ("GIN", {"train_eps": True}),
        ("GAT", {"heads": 2}),
        ("GAT", {"v2": True}),
        ("EdgeCNN", {}),
        ("PNA", {"aggregators": ["mean", "max"], "scalers": ["identity"], "deg": [1, 2]}),
    ],
)
def test_arguments_of_the_layers(name, arguments):
    if "deg" in arguments:
        arguments = {**arguments, "deg": torch.tensor(arguments["deg"])}
    model = build(name, num_layers=3, out_channels=2, **arguments).eval()
    x, edges = torch.randn(9, 5).double(), EDGES
    assert_equal(as_layered(model)(x, edges), model(x, edges))


def test_a_state_dict_goes_both_ways():
    ours, theirs = gsnn.GIN(5, 6, 3, 2, norm="batch_norm"), pyg.GIN(5, 6, 3, 2, norm="batch_norm")
    theirs.load_state_dict(ours.state_dict())
    x, edges = torch.randn(9, 5), EDGES
    assert_equal(ours.eval()(x, edges), theirs.eval()(x, edges), 1e-5)
    with torch.no_grad():
        theirs.convs[0].nn.lins[0].weight.add_(1)
    ours.load_state_dict(theirs.state_dict())
    assert_equal(ours(x, edges), theirs(x, edges), 1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("make", [lambda: gsnn.GIN(5, 6, 2, 3, dropout=0.5, norm="graph_norm"),
                                  lambda: gsnn.MLP(5, 6, 2, 3)])  # fmt: skip
def test_a_copy_is_a_model_of_its_own(make, duplicate):
    model = make().eval()
    x, edges = torch.randn(9, 5), EDGES
    expected = model(x, edges)
    other = duplicate(model)
    assert_equal(other(x, edges), expected, 0.0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(x, edges).any()
    assert_equal(model(x, edges), expected, 0.0)
    if hasattr(other, "to_pyg"):
        assert not other.to_pyg().eval()(x, edges).any()


@pytest.mark.parametrize(
    "name", ["GCN", "GraphSAGE", "GIN", "GAT", "ClusterGCN", "SGC", "SSGC", "TAGCN", "APPNP", "MLP"]
)
def test_a_spec_builds_the_same_model(name):
    extra = {} if name in ("MLP", "APPNP") else {"jk": "cat", "act_first": True}
    model = getattr(gsnn, name)(5, 6, 3, out_channels=2, norm="graph_norm", residual=True, **extra)
    again = from_spec(model.spec)
    assert again.spec == model.spec
    assert again.signature() == model.signature()
    again.load_state_dict(model.state_dict())
    x, edges = torch.randn(9, 5), EDGES
    assert_equal(again.eval()(x, edges), model.eval()(x, edges), 0.0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("act_first", [False, True])
def test_norms_of_models_by_name_stand_where_pyg_puts_them(name, act_first):
    arguments = {"norm": "graph_norm", "act_first": act_first, "act": "tanh"}
    theirs = build(name, num_layers=3, out_channels=2, **arguments)
    for norm in ("graph_norm", gsnn.GraphNorm, lambda width: gsnn.GraphNorm(width)):
        ours = getattr(gsnn, name)(5, 6, 3, 2, **{**arguments, "norm": norm}).double()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(9, 5).double()
        assert_equal(ours(x, EDGES), theirs(x, EDGES))


def test_arguments_of_a_norm_go_with_a_name():
    for norm in (None, gsnn.GraphNorm(6), gsnn.GraphNorm):
        with pytest.raises(InputError, match="go with a norm given by name"):
            gsnn.GCN(5, 6, 2, 3, norm=norm, norm_kwargs={"eps": 0.1})


def test_what_json_cannot_hold_has_no_spec():
    assert gsnn.GCN(5, 6, 2, 3, act=torch.tanh).spec is None
    with pytest.raises(InputError, match="no model 'Nothing'"):
        from_spec({"model": "Nothing", "arguments": {}})


def test_layers_of_the_list():
    x, edges = torch.randn(9, 5).double(), EDGES
    convs = [pyg.GCNConv(5, 4), pyg.GATConv(4, 2, heads=2), pyg.SAGEConv(4, 4), nn.Linear(4, 2)]
    for norm in ("graph_norm", lambda width: pyg.GraphNorm(width), pyg.GraphNorm(4)):
        for given_as in (convs, tuple(convs), nn.ModuleList(convs)):
            model = shaken(as_layered(given_as, norm=norm, act="elu", residual=True))
            assert [b.residual for b in model.blocks] == [False, True, True, False]
            norms = [block.norm for block in model.blocks]
            assert norms[3] is None
            assert len({id(norm) for norm in norms}) == 4
            h = nn.functional.elu(norms[0](convs[0](x, edges)))
            for conv, normal in zip(convs[1:3], norms[1:3], strict=True):
                h = h + nn.functional.elu(normal(conv(h, edges)))
            assert_equal(model(x, edges), convs[3](h))
    block = Block(pyg.GCNConv(5, 4), act=None)
    assert as_layered([block, pyg.GCNConv(4, 2)]).blocks[0] is block


class Own(pyg.GCN):
    def forward(self, x, edge_index):
        return super().forward(x, edge_index) * 2


def hooked() -> nn.Module:
    model = pyg.GCN(5, 6, 2, 3)
    model.register_forward_hook(lambda module, arguments, out: 2 * out)
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pyg.GCN(5, 6, 2, 3, jk="lstm"), "LSTM.*jk='cat'"),
        (lambda: Own(5, 6, 2, 3), "Own has a forward of its own"),
        (hooked, "GCN has hooks"),
        (lambda: nn.Linear(5, 3), "cannot read Linear"),
        (lambda: pyg.GCNConv(5, 3), "cannot read GCNConv"),
    ],
)
def test_what_cannot_be_expressed_is_refused_by_name(make, words):
    with pytest.raises(UnsupportedModel, match=words):
        as_layered(make())


def test_a_layered_model_is_returned_as_it_is():
    model = LayeredGNN([pyg.GCNConv(5, 3)])
    assert as_layered(model) is model
    with pytest.raises(InputError, match="at least one block"):
        as_layered([])
    with pytest.raises(InputError, match="jk='lstm'"):
        LayeredGNN([pyg.GCNConv(5, 3)], jk="lstm")


def test_to_and_half_keep_sharing_parameters():
    model = gsnn.GCN(5, 6, 2, 3)
    x, edges = torch.randn(9, 5), EDGES
    model(x, edges)
    model.double()
    assert_equal(model(x.double(), edges).float(), model.float()(x, edges), 1e-5)
    assert next(model.to_pyg().parameters()).dtype == torch.float32


@pytest.mark.parametrize("build", [gsnn.GCN, gsnn.GIN, gsnn.MLP])
@pytest.mark.parametrize(
    "changes",
    [
        {"in_channels": 0.5},
        {"hidden_channels": 0},
        {"num_layers": 2**40},
        {"out_channels": "3"},
        {"dropout": "much"},
        {"norm": "no_norm"},
        {"act": 3},
        {"residual": torch.ones(2)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_bad_arguments_are_named(build, changes):
    good = {"in_channels": 5, "hidden_channels": 4, "num_layers": 2, "out_channels": 3}
    with pytest.raises(InputError, match="|".join([*changes, "cannot be built"])):
        build(**(good | changes))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("SGC", {"K": "two"}),
        ("SSGC", {"K": 2.5}),
        ("TAGCN", {"K": 2**40}),
        ("TAGCN", {"in_channels": -1}),
        ("APPNP", {"K": -1}),
        ("APPNP", {"alpha": None}),
        ("SSGC", {"alpha": math.nan}),
        ("ClusterGCN", {"diag_lambda": math.inf}),
        ("ClusterGCN", {"propagated_dropout": "much"}),
        ("ClusterGCN", {"propagation": ["mean"]}),
        ("GCNII", {"theta": math.inf}),
        ("GCNII", {"alpha": "x"}),
        ("GCNII", {"num_layers": 2**40}),
        ("DeepGCN", {"conv": ["gcn"]}),
        ("DeepGCN", {"out_channels": None}),
    ],
)
def test_bad_arguments_of_one_model_are_named(name, changes):
    good = {"in_channels": 5, "hidden_channels": 4, "num_layers": 2, "out_channels": 3}
    with pytest.raises(InputError, match="|".join(changes)):
        getattr(gsnn, name)(**(good | changes))


@pytest.mark.parametrize("name", ["GCNII", "DeepGCN", "GCN", "APPNP"])
def test_no_spec_where_json_cannot_hold_an_argument(name):
    assert getattr(gsnn, name)(5, 4, 2, 3, act=torch.tanh).spec is None


def test_to_pyg_keeps_residuals_that_were_added():
    model = gsnn.GCN(5, 4, 4, 3, norm="batch_norm", residual=True).eval()
    x, edges = torch.randn(3, 5), torch.tensor([[0, 1], [1, 2]])
    theirs = model.to_pyg()
    assert_equal(theirs(x, edges), model(x, edges), 1e-5)
    assert {id(p) for p in theirs.parameters()} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("x", [torch.ones(5), torch.ones(4, 6), [[1.0] * 5]])
def test_features_that_do_not_fit_are_named(x):
    with pytest.raises(InputError, match=r"x is a tensor|takes 5 features, x has 6"):
        gsnn.GCN(5, 4, 2, 3)(x, torch.tensor([[0], [1]]))


def test_what_torch_compile_made_is_run_as_written(caplog):
    def compiled(module):
        return torch.compile(module, backend="eager")

    x, edges = torch.randn(9, 5), torch.randint(0, 9, (2, 30))
    convs = [pyg.SAGEConv(5, 4), pyg.GATConv(4, 3)]
    wanted = convs[1](convs[0](x, edges).relu(), edges)
    assert_equal(as_layered([compiled(conv) for conv in convs])(x, edges), wanted, 1e-5)
    assert "SAGEConv is run as it is written" in caplog.text
    model = pyg.GCN(5, 4, 2, 3)
    assert_equal(as_layered(compiled(model))(x, edges), model(x, edges), 1e-5)

"""with_norm against models that were built with the norm, and norms by name in blocks."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale.nn as gsnn
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference import stream
from gnnscale.nn import Block, LayeredGNN, as_layered, with_norm
from gnnscale.nn.blocks.phases import Join, Save, Statistics
from gnnscale.nn.convs.networks import is_norm
from tests.helpers.layers import assert_equal, assert_same_function, evaluated
from tests.helpers.layers import shaken as shaken_
from tests.helpers.strategies import graphs

EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])
X = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def shaken(model):
    return shaken_(model).eval()


def norms_of(model) -> list[nn.Module]:
    return [model.get_submodule(key) for key in keys_of_norms(model)]


def keys_of_norms(model) -> list[str]:
    names = [name for name, module in model.named_modules() if is_norm(module)]
    return [name for name in names if not name.endswith(".module")]  # PyG's BatchNorm has torch's


def chunked(model, graph, rows=2):
    return torch.cat([out.clone() for _, _, out in stream(model, graph, chunk_rows=rows)])


PYG = [pyg.GCN, pyg.GraphSAGE, pyg.GIN, pyg.GAT]


@pytest.mark.parametrize("model", PYG)
@pytest.mark.parametrize(
    "jk, before, after, act_first",
    [
        (None, None, "graph_norm", False),
        ("cat", "batch_norm", "graph_norm", True),
        ("last", "graph_norm", None, False),
    ],
)
def test_it_is_the_model_that_pyg_builds_with_that_norm(model, jk, before, after, act_first):
    given = model(5, 4, 3, 2, norm=before, jk=jk, act_first=not act_first)
    built = shaken(model(5, 4, 3, 2, norm=after, jk=jk, act_first=act_first))
    ours = with_norm(given, after, "after_act" if act_first else "after_conv").double().eval()
    assert list(ours.state_dict()) == list(built.state_dict())
    ours.load_state_dict(built.state_dict())
    if after is None:  # the order of the model that is given is moot without norms
        assert norms_of(ours) == []
    assert_equal(ours(X, EDGES), built(X, EDGES))
    again = ours.to_pyg()
    assert type(again) is model
    assert_equal(again.eval()(X, EDGES), built(X, EDGES))
    again.reset_parameters()


GIVEN = {
    "GCN": lambda: pyg.GCN(5, 4, 3, 2, norm="batch_norm"),
    "GIN": lambda: pyg.GIN(5, 4, 3, 2),
    "list": lambda: [pyg.GCNConv(5, 4), pyg.GATConv(4, 4), pyg.SAGEConv(4, 2)],
    "residual": lambda: gsnn.GCN(5, 4, 4, 2, residual=True),
    "blocks": lambda: LayeredGNN(
        [
            Block(pyg.SAGEConv(5, 4), act="elu", dropout=0.3, order="dropout-conv-act"),
            Block(pyg.GCNConv(4, 4), "layer_norm", order="norm-act-dropout-conv", residual=True),
            Block(pyg.GCNConv(4, 4), residual="dense"),
        ],
        head=nn.Linear(8, 2),
    ),
    "deep": lambda: gsnn.DeepGCN(5, 4, 3, 2, dropout=0.2),
    "sequences": lambda: LayeredGNN(
        [
            Block(pyg.GINConv(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)))),
            Block(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ELU(), nn.Linear(4, 4))),
            Block(pyg.SAGEConv(4, 4)),
        ],
        head=nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)),
    ),
    "GCNII": lambda: gsnn.GCNII(5, 4, 3, 2),
    "jumping": lambda: LayeredGNN(
        [pyg.GCNConv(5, 4), pyg.GCNConv(4, 4)], nn.Linear(8, 2), jk="cat"
    ),
    "MLP": lambda: gsnn.MLP(5, 4, 3, 2),
    "APPNP": lambda: gsnn.APPNP(5, 4, 3, 2, norm="layer_norm"),
}
PLACES = ("after_conv", "after_act", "before_conv")
# Each in one place, and those whose activations come at different ends of a layer in all.
CASES = {(name, PLACES[at % 3]) for at, name in enumerate(GIVEN)}
CASES |= {(name, place) for name in ("GIN", "blocks", "sequences") for place in PLACES}


@pytest.mark.parametrize(("name", "place"), sorted(CASES))
def test_all_else_is_shared_and_the_model_given_stays(name, place):
    graph = Graph.from_arrays(EDGES, X)
    given = as_layered(GIVEN[name]())
    shaken(given)
    modules, before = list(given.modules()), evaluated(given, graph)
    state = given.state_dict(keep_vars=True)
    model = with_norm(given, "graph_norm", place)
    now = model.state_dict(keep_vars=True)
    kept = {key for key in state if not key.startswith(tuple(keys_of_norms(given)))}
    assert all(now[key] is state[key] for key in kept)
    added = set(now) - kept
    assert added and all(key.startswith(tuple(keys_of_norms(model))) for key in added)
    assert all(type(norm) is gsnn.GraphNorm for norm in norms_of(model))
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert list(given.modules()) == modules
    assert torch.equal(evaluated(given, graph), before)
    shaken(model)
    out = evaluated(model, graph)
    assert_equal(chunked(model, graph), out, 1e-8)
    assert_equal(model.to_pyg().eval()(graph.x, graph.edge_index), out, 1e-8)
    assert_equal(evaluated(pickle.loads(pickle.dumps(model)), graph), out)


@pytest.mark.parametrize(("name", "place"), sorted(CASES))
def test_a_second_norm_replaces_the_first(name, place):
    given, before = GIVEN[name](), PLACES[PLACES.index(place) - 1]
    once = with_norm(given, "graph_norm", place)
    twice = with_norm(with_norm(given, "instance_norm", before), "graph_norm", place)
    kinds = [[type(phase) for phase in phases] for phases in once.phases]
    assert [[type(phase) for phase in phases] for phases in twice.phases] == kinds
    none = with_norm(twice, None)
    assert norms_of(none) == []
    bare = as_layered(with_norm(given, None))
    assert none.state_dict().keys() == bare.state_dict().keys()
    x = X.float()
    assert_equal(none.eval()(x, EDGES), bare.eval()(x, EDGES))


@pytest.mark.parametrize("place", PLACES)
def test_places_in_a_network_of_gin(place):
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
    conv = pyg.GINConv(network)
    model = shaken(with_norm([conv, pyg.SAGEConv(4, 2)], "graph_norm", place))
    name = "1_norm" if place == "after_act" else "0_norm"
    inner = model.blocks[0].conv.nn
    keys = ["0", "1", "1_norm", "2"] if place == "after_act" else ["0", "0_norm", "1", "2"]
    assert list(inner._modules) == keys
    assert inner[0] is network[0] and type(getattr(inner, name)) is gsnn.GraphNorm
    assert list(network._modules) == ["0", "1", "2"]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = pyg.GCNConv(5, 4)

    def forward(self, x, edge_index):
        return self.conv(x, edge_index).relu()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyg.Sequential("x, edge_index", [(pyg.GCNConv(5, 4), "x, edge_index -> x")]),
        lambda: [pyg.GCNConv(5, 4), nn.ReLU(), pyg.GCNConv(4, 4)],
        lambda: nn.Sequential(pyg.GCNConv(5, 4), pyg.GCNConv(4, 4)),
        lambda: [pyg.DeepGCNLayer(pyg.GCNConv(5, 5), nn.LayerNorm(5), nn.ReLU())],
        Own,
    ],
)
def test_modules_that_are_written_out_are_refused(make):
    with pytest.raises(UnsupportedModel, match=r"one by one: write norms among them, or .*Block"):
        with_norm(make(), "graph_norm")


@pytest.mark.parametrize("name", ["DeepGCN", "MLP", "APPNP"])
@pytest.mark.parametrize("norm", ["batch_norm", None])
def test_our_models_too(name, norm):
    build = getattr(gsnn, name)
    built = shaken(build(5, 4, 3, 2, norm="graph_norm"))
    ours = with_norm(build(5, 4, 3, 2, norm=norm), "graph_norm").double().eval()
    ours.load_state_dict(built.state_dict())
    assert ours.spec is None
    assert_equal(ours(X, EDGES), built(X, EDGES))


def test_a_graph_model_keeps_its_readout():
    given = gsnn.GraphModel(pyg.GIN(5, 4, 3, 2, norm="batch_norm"), readout="attention")
    model = with_norm(given, "graph_norm")
    assert isinstance(model, gsnn.GraphModel)
    assert model.readout is given.readout
    assert {type(norm) for norm in norms_of(model)} == {gsnn.GraphNorm}
    assert {type(norm) for norm in norms_of(given)} == {pyg.BatchNorm}
    assert model(X.float(), EDGES).shape == (1, 2)


def test_a_prototype_is_copied_with_its_parameters():
    prototype = pyg.GraphNorm(4)
    nn.init.constant_(prototype.mean_scale, 0.5)
    model = with_norm(pyg.GCN(5, 4, 3, 2), prototype)
    first, second = norms_of(model)
    assert prototype not in (first, second) and first is not second
    assert torch.equal(first.mean_scale, prototype.mean_scale)
    assert [
        norm.in_channels for norm in norms_of(with_norm(pyg.GCN(5, 4, 3, 2), pyg.BatchNorm))
    ] == [4, 4]
    assert (
        norms_of(with_norm(pyg.GCN(5, 4, 2, 2), lambda width: nn.GroupNorm(2, width)))[0].num_groups
        == 2
    )


def test_a_shared_activation_and_a_shared_convolution_stay_shared():
    act, conv = nn.ReLU(), pyg.GINConv(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    given = LayeredGNN(
        [Block(nn.Linear(5, 4), act=act), Block(conv, act=act), Block(conv, act=act)]
    )
    model = with_norm(given, "graph_norm", "after_act")
    first, second = (model.blocks[i].conv for i in (1, 2))
    assert first is second and first.nn[0] is conv.nn[0]
    assert model.blocks[1].act is model.blocks[2].act is act
    assert len(norms_of(model)) == 3  # one in the network, and one after each activation


REFUSED = {
    "graph_norm, no such place": (lambda: pyg.GCN(5, 4, 2), ("graph_norm", "end"), "place='end'"),
    "width": (lambda: pyg.GCN(5, 4, 2), (pyg.GraphNorm(3),), "for 3 channels.* GCNConv have 4"),
    "width, torch": (lambda: pyg.GCN(5, 4, 2), (nn.BatchNorm1d(3),), "for 3 channels"),
    "name": (lambda: pyg.GCN(5, 4, 2), ("graph_nrom",), "did you mean GraphNorm"),
    "no layer": (lambda: pyg.GCN(5, 4, 1), ("graph_norm",), "no layer has a place for it"),
    "message": (lambda: pyg.GCN(5, 4, 2), ("msg_norm", "after_act"), "what a convolution gives"),
    "no norm": (lambda: pyg.GCN(5, 4, 2), (lambda width: width,), "gives int, which is no module"),
    "no function": (lambda: pyg.GCN(5, 4, 2), (3,), "norm=3: a module, a function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    model, arguments, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        with_norm(model(), *arguments)


@pytest.mark.parametrize("norm", ["graph_norm", None])
def test_a_norm_in_an_opaque_convolution_is_refused_by_name(norm):
    model = [pyg.GENConv(5, 4), pyg.GENConv(4, 4)]
    with pytest.raises(UnsupportedModel, match=r"GENConv holds BatchNorm.*build it without"):
        with_norm(model, norm)
    with_norm([pyg.GENConv(5, 4, norm=None), pyg.GENConv(4, 4, norm=None)], norm)


def test_a_layer_that_does_not_say_its_width():
    class Own(nn.Module):
        def forward(self, x, edge_index):
            return x

    with pytest.raises(InputError, match=r"Own has no out_channels|Own does not say"):
        with_norm([Own(), Own()], "graph_norm")
    assert len(norms_of(with_norm([Own(), Own()], "pair_norm"))) == 1


# Norms by name and message norms in blocks.

BY_NAME = {
    "batch_norm": {},
    "instance_norm": {},
    "layer_norm": {"mode": "graph"},
    "graph_norm": {"eps": 0.1},
    "graph_size_norm": {},
    "pair_norm": {"scale": 2.0},
    "mean_subtraction_norm": {},
    "message_norm": {"learn_scale": True},
    "diff_group_norm": {"groups": 2},
}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_norm_by_name_is_exact_in_chunks(name):
    graph = Graph.from_arrays(EDGES, X)
    block = Block(pyg.GCNConv(5, 4), name, norm_kwargs=BY_NAME[name])
    for key, value in BY_NAME[name].items():
        if key != "learn_scale":
            assert getattr(block.norm, key) == value
    model = shaken(LayeredGNN([block, Block(pyg.GATConv(4, 3), name, norm_kwargs=BY_NAME[name])]))
    assert_equal(chunked(model, graph), evaluated(model, graph), 1e-8)


def test_norms_that_have_no_width_are_not_given_one():
    assert Block(nn.Linear(5, 4), "pair_norm").norm.scale == 1.0  # not 4, as by PyG's resolver
    assert not Block(nn.Linear(5, 4), "msg_norm").norm.scale.requires_grad
    assert type(Block(nn.Linear(5, 4), "PairNorm").norm) is gsnn.PairNorm
    assert type(Block(nn.Linear(5, 4), "graph").norm) is gsnn.GraphNorm
    with pytest.raises(InputError, match=r"diff_group_norm.*groups.*may hold groups, lamda"):
        Block(nn.Linear(5, 4), "diff_group_norm")
    with pytest.raises(InputError, match=r"pair_norm.*may hold scale"):
        Block(nn.Linear(5, 4), "pair_norm", norm_kwargs={"width": 4})
    with pytest.raises(InputError, match="go with a norm given by name"):
        Block(nn.Linear(5, 4), pyg.PairNorm(), norm_kwargs={"scale": 2.0})
    with pytest.raises(InputError, match="there is no such layer"):
        Block(nn.Linear(5, 4), "hetero_batch_norm")


@settings(max_examples=5)
@given(
    graphs(min_nodes=2),
    st.sampled_from([pyg.GCNConv, pyg.SAGEConv, pyg.GATConv]),
    st.booleans(),
)
def test_a_message_norm_has_the_blocks_input_and_the_convolutions_output(graph, conv, residual):
    norm = pyg.MessageNorm(learn_scale=True)
    block = Block(conv(5, 5), norm, "tanh", residual=residual)
    model = shaken(LayeredGNN([block, Block(pyg.SAGEConv(5, 3), "message_norm")]))
    parameters = [*block.parameters()]
    weight = () if conv is not pyg.GCNConv else (graph.edge_weight,)

    def theirs(x):
        out = norm(x, block.conv(x, graph.edge_index, *weight)).tanh()
        out = out + x if residual else out
        second = model.blocks[1]
        return second.norm(out, second.conv(out, graph.edge_index)).relu()

    assert_same_function(lambda x: model(x, graph.adj), theirs, graph.x, parameters)
    names = {slot.name: slot.width for slot in model.slots if slot.name.startswith("message")}
    assert names == {"message0": 5, "message1": 5}
    assert model.phases[1][-1].module is not None
    assert_equal(chunked(model, graph), evaluated(model, graph))
    again = model.to_pyg().eval()
    out = again(graph.x, graph.edge_index, graph.edge_weight)
    assert_equal(out, evaluated(model, graph))
    assert_equal(as_layered(again)(graph.x, graph.edge_index, graph.edge_weight), out)


def test_a_message_norm_comes_after_its_convolution():
    with pytest.raises(InputError, match="that norm comes after conv"):
        Block(pyg.GCNConv(5, 5), pyg.MessageNorm(), order="norm-act-conv")
    model = with_norm(gsnn.DeepGCN(5, 4, 3, 2), "message_norm")
    assert [block.order for block in model.blocks[2:4]] == ["act-dropout-conv-norm"] * 2
    kinds = [
        [type(phase) for phase in phases] for phases in with_norm(pyg.GIN(5, 4, 2), "msg").phases
    ]
    assert kinds[0][0] is Save and Join in kinds[0] and Statistics not in kinds[0]

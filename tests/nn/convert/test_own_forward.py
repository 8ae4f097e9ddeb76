"""Modules with a forward of their own, as PyG's examples have it: read as blocks, or refused."""

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
from torch_geometric.data import Data

import gnnscale as gs
from gnnscale.errors import InputError, UnsupportedModel
from gnnscale.nn import as_layered
from gnnscale.nn.blocks.phases import Dropout, Join, Neighbourhood, Propagate
from tests.helpers.layers import assert_equal, assert_same_function, shaken
from tests.helpers.strategies import graphs

CONVS = {
    "gcn": pyg.GCNConv,
    "sage": pyg.SAGEConv,
    "gat": lambda i, o: pyg.GATConv(i, o, heads=2, concat=False, dropout=0.3),
    "gin": lambda i, o: pyg.GINConv(nn.Sequential(nn.Linear(i, o), nn.ReLU(), nn.Linear(o, o))),
    "linear": nn.Linear,
}
ACTS = {
    "functional": functional.relu,
    "torch": torch.tanh,
    "method": lambda x: x.sigmoid(),
    "slope": lambda x: functional.leaky_relu(x, 0.3),
    "elu": lambda x: functional.elu(x, alpha=0.5),
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "by hand": lambda x: x * torch.sigmoid(1.5 * x),
    "half": lambda x: torch.cat([x[:, :2].relu(), x[:, 2:]], dim=-1),
    "none": lambda x: x,
}
NORMS = {"batch": nn.BatchNorm1d, "graph": pyg.GraphNorm, "layer": nn.LayerNorm, "none": None}
JOINS = {
    "plus": operator.add,
    "add": lambda h, x: torch.add(h, x, alpha=0.5),
    "mean": lambda h, x: 0.5 * (h + x),
    "cat": lambda h, x: torch.cat((h, x), 1),
    "none": lambda h, x: h,
}
PARTS = st.fixed_dictionaries(
    {
        "conv": st.sampled_from(sorted(CONVS)),
        "norm": st.sampled_from(sorted(NORMS)),
        "act": st.sampled_from(sorted(ACTS)),
        "join": st.sampled_from(sorted(JOINS)),
        "dropout": st.sampled_from([0.0, 0.2, 0.5]),
        "module": st.booleans(),
        "weighted": st.booleans(),
    }
)


class Generated(nn.Module):
    """A chain as one writes it: layers in lists, and a loop over them."""

    def __init__(self, parts, log_softmax, start) -> None:
        super().__init__()
        self.start, self.parts, self.log_softmax = start, parts, log_softmax
        self.convs, self.norms, self.drops = (nn.ModuleList() for _ in range(3))
        self.joins = []
        width = 5
        for part in parts:
            self.convs.append(CONVS[part["conv"]](width, 4))
            norm = NORMS[part["norm"]]
            self.norms.append(nn.Identity() if norm is None else norm(4))
            self.drops.append(nn.Dropout(part["dropout"]))
            fits = width == 4 or part["join"] == "cat"
            self.joins.append(part["join"] if fits else "none")
            width = width + 4 if part["join"] == "cat" else 4
        self.out = nn.Linear(width, 3)

    def forward(self, x, edge_index, edge_weight=None):
        x = functional.dropout(x, self.start, self.training)
        for at, part in enumerate(self.parts):
            before = x
            if part["conv"] == "linear":
                x = self.convs[at](x)
            elif part["weighted"] and part["conv"] == "gcn":
                x = self.convs[at](x, edge_index, edge_weight=edge_weight)
            else:
                x = self.convs[at](x, edge_index)
            x = JOINS[self.joins[at]](ACTS[part["act"]](self.norms[at](x)), before)
            p = part["dropout"]
            x = self.drops[at](x) if part["module"] else functional.dropout(x, p, self.training)
        x = self.out(x)
        return functional.log_softmax(x, dim=-1) if self.log_softmax else x


@settings(max_examples=25)
@given(
    graphs(min_nodes=3),
    st.lists(PARTS, min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([0.0, 0.4]),
)
def test_a_chain_is_what_its_forward_is(graph, parts, log_softmax, start):
    model = Generated(parts, log_softmax, start)
    keys = list(model.state_dict())
    layered = as_layered(model)
    shaken(model).eval()
    layered.eval()
    edges, weight = graph.adj.edge_index, graph.edge_weight
    parameters = list(model.parameters())
    assert_same_function(
        lambda x: layered(x, graph.adj), lambda x: model(x, edges, weight), graph.x, parameters
    )
    assert list(layered.state_dict()) == keys
    assert layered.to_pyg() is model and not model.training
    expected = [p for p in (start, *(part["dropout"] for part in parts)) if p > 0]
    phases = [phase for block in layered.phases for phase in block]
    assert [phase.p for phase in phases if isinstance(phase, Dropout) and phase.p] == expected
    again = pickle.loads(pickle.dumps(copy.deepcopy(layered)))
    assert_equal(again(graph.x, graph.adj), model(graph.x, edges, weight))


class Chain(nn.Module):
    """Two layers, with attributes that the cases below change."""

    def __init__(self, forward=None, **layers) -> None:
        super().__init__()
        self.convs = nn.ModuleList([pyg.SAGEConv(5, 4), pyg.SAGEConv(4, 3)])
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.rule = forward

    def forward(self, x, edge_index):
        return self.rule(self, x, edge_index)


X = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
EDGES = torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])


class Tutorial(nn.Module):
    """As in PyG's introduction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = pyg.GCNConv(5, 16), pyg.GCNConv(16, 3)

    def forward(self, data):
        x, edge_index = data.x, data.edge_index
        x = functional.relu(self.conv1(x, edge_index))
        x = functional.dropout(x, training=self.training)
        return functional.log_softmax(self.conv2(x, edge_index), dim=1)


def test_the_class_of_pygs_introduction():
    model = Tutorial()
    layered = as_layered(model).eval()
    assert_equal(layered(X, EDGES), model.eval()(Data(X, EDGES)), 1e-5)
    assert [[type(phase) for phase in block][:2] for block in layered.phases[:1]] == [
        [Propagate, Dropout]
    ]
    assert layered.phases[0][1].p == 0.5


def test_every_trainer_takes_it():
    graph = gs.load("synthetic:planted?nodes=300")

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = (graph.num_features, 8, graph.num_classes)
            self.convs = nn.ModuleList(map(pyg.SAGEConv, widths[:-1], widths[1:]))

        def forward(self, x, edge_index):
            for conv in self.convs[:-1]:
                x = functional.dropout(conv(x, edge_index).relu(), 0.5, self.training)
            return self.convs[-1](x, edge_index)

    for trainer in (gs.ClusterTrainer, gs.LayerwiseTrainer):
        model = Own()
        before = copy.deepcopy(model.state_dict())
        trained = trainer(model, graph, num_parts=4, epochs=1, progress=False)
        trained.fit()
        assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
        with torch.no_grad():
            theirs = model.eval()(graph.x, graph.edge_index)
        assert_equal(torch.as_tensor(trained.predict()), theirs, 1e-4)
    assert as_layered(gs.nn.GraphModel(Own()).encoder).to_pyg().convs is not None


def jumping(self, x, edge_index):
    first = self.convs[0](x, edge_index).relu_()
    return self.lin(self.jk([first, self.more(first, edge_index)]))


TAKEN = {
    "jumping knowledge": Chain(
        jumping, more=pyg.GATConv(4, 4), jk=pyg.JumpingKnowledge("cat"), lin=nn.Linear(8, 2)
    ),
    "initial residual": Chain(
        lambda self, x, e: self.deep(h := self.lin(x), h, e).relu(),
        deep=pyg.GCN2Conv(4, 0.1),
        lin=nn.Linear(5, 4),
    ),
    "deep layers": Chain(
        lambda self, x, e: self.layer(self.lin(x), e),
        layer=pyg.DeepGCNLayer(pyg.GCNConv(4, 4), nn.LayerNorm(4), nn.ReLU(), "res+"),
        lin=nn.Linear(5, 4),
    ),
    "a Sequential inside": Chain(
        lambda self, x, e: self.convs[1](self.inner(x, e), e),
        inner=pyg.Sequential("x, edge_index", [(pyg.GCNConv(5, 4), "x, edge_index -> x")]),
    ),
    "a module inside": Chain(
        lambda self, x, e: self.inner(x, e) + 1,
        inner=Chain(lambda self, x, e: self.convs[1](self.convs[0](x, e).relu(), e)),
    ),
    "a layer twice": Chain(
        lambda self, x, e: self.same(self.same(x, e).relu(), e), same=pyg.GCNConv(5, 5)
    ),
    "rows of one length first": Chain(
        lambda self, x, e: self.convs[0](x / x.norm(dim=1, keepdim=True), e)
    ),
    "no edges": Chain(lambda self, x, e: self.lin(x).relu(), lin=nn.Linear(5, 4)),
    "what is not used": Chain(
        lambda self, x, e: [self.convs[0](x, e), x.mean()][0]  # nothing reads the mean
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken(name):
    model = TAKEN[name]
    layered = as_layered(model).eval()
    assert_equal(layered(X, EDGES), model.eval()(X, EDGES), 1e-5)


def test_layers_are_seen_and_not_only_the_whole():
    phases = [phase for block in as_layered(TAKEN["a module inside"]).phases for phase in block]
    assert not any(isinstance(phase, Neighbourhood) for phase in phases)
    phases = [phase for block in as_layered(TAKEN["initial residual"]).phases for phase in block]
    assert any(isinstance(phase, Join) for phase in phases)


def test_weights_reach_the_layers_that_are_given_them():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = pyg.GCNConv(5, 4), pyg.GraphConv(4, 3)

        def forward(self, x, edge_index, edge_weight=None):
            return self.second(self.first(x, edge_index, edge_weight).tanh(), edge_index)

    model, weight = Own().eval(), torch.rand(6)
    layered = as_layered(model)
    assert_equal(layered(X, EDGES, weight), model(X, EDGES, weight), 1e-5)
    assert_equal(layered(X, EDGES), model(X, EDGES), 1e-5)


@pytest.mark.parametrize(
    ("name", "make", "value"),
    [
        ("edge_attr", lambda: pyg.GATConv(5, 3, edge_dim=2), torch.randn(6, 2)),
        ("edge_attr", lambda: pyg.TransformerConv(5, 3, edge_dim=2), torch.randn(6, 2)),
        ("edge_type", lambda: pyg.RGCNConv(5, 3, 2), torch.tensor([0, 1, 0, 0, 1, 1])),
    ],
)
def test_what_edges_carry_reaches_the_layers_that_are_given_it(name, make, value):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = make()

    class ByArgument(Own):
        if name == "edge_attr":

            def forward(self, x, edge_index, edge_attr):
                return self.conv(x, edge_index, edge_attr=edge_attr).tanh()

        else:

            def forward(self, x, edge_index, edge_type):
                return self.conv(x, edge_index, edge_type).tanh()

    class ByData(Own):
        def forward(self, data):
            return self.conv(data.x, data.edge_index, **{name: getattr(data, name)}).tanh()

    for model in (ByArgument().eval(), ByData().eval()):
        layered = as_layered(model)
        theirs = model.conv(X, EDGES, **{name: value}).tanh()
        assert_equal(layered(X, EDGES, **{name: value}), theirs, 1e-5)


def test_layers_without_a_width_yet():
    model = Chain(lambda self, x, e: self.lazy(x, e).relu(), lazy=pyg.SAGEConv(-1, 4))
    layered = as_layered(model)
    assert isinstance(model.lazy.lin_l.weight, nn.parameter.UninitializedParameter)
    assert_equal(layered.eval()(X, EDGES), model.eval()(X, EDGES), 1e-5)


def hooked():
    model = Chain(lambda self, x, e: self.convs[0](x, e))
    model.register_forward_hook(lambda module, arguments, out: 2 * out)
    return model


def by_value(self, x, edge_index):
    return self.convs[0](x, edge_index) if x.sum() > 0 else x


def in_evaluation(self, x, edge_index):
    x = self.convs[0](x, edge_index)
    return x if self.training else x.relu()


REFUSED = {
    "values": (by_value, "depends on values"),
    "dropout always": (
        lambda self, x, e: self.convs[0](functional.dropout(x), e),
        "in evaluation mode .* training=self.training",
    ),
    "another function in evaluation": (in_evaluation, "in evaluation mode"),
    "all rows": (lambda self, x, e: self.convs[0](x - x.mean(0), e), "mean .*one row for each"),
    "the number of rows": (lambda self, x, e: self.convs[0](x / x.size(0), e), "size"),
    "edges": (lambda self, x, e: self.convs[0](x, e.flip(0)), "flip reads more than rows"),
    "two outputs": (lambda self, x, e: (x, self.convs[0](x, e)), "returns a list"),
    "random numbers": (
        lambda self, x, e: self.convs[0](x + torch.rand(1), e),
        "which is no layer",
    ),
    "two inputs": (lambda self, x, e: self.convs[0]((x, x), e), "SAGEConv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_with_the_line_that_works(name):
    rule, words = REFUSED[name]
    line = r"gs\.nn\.as_layered\(model\.convs, act=\"relu\", dropout=0\.5\)"
    with pytest.raises(UnsupportedModel, match=f"the forward of Chain .*{words}.*{line}"):
        as_layered(Chain(rule))
    assert as_layered(Chain(rule).convs, act="relu", dropout=0.5)


def test_refused_too():
    with pytest.raises(UnsupportedModel, match="hooks"):
        as_layered(hooked())
    with pytest.raises(InputError, match="norm, dropout and residual go with a list"):
        as_layered(Tutorial(), dropout=0.5)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = pyg.GCNConv(5, 4), pyg.GCNConv(4, 3)
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x, edge_index):
            return self.conv2(self.conv1(x, edge_index) * self.scale, edge_index)

    with pytest.raises(UnsupportedModel, match=r"'scale' .*\[model\.conv1, model\.conv2\]"):
        as_layered(Two())

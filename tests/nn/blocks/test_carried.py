"""What a graph carries reaches the layers that take it, as PyG's own call would, or is refused."""

from __future__ import annotations

import logging
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.errors import InputError
from gnnscale.nn import Block, LayeredGNN, as_layered
from gnnscale.nn.blocks.context import of_type
from gnnscale.nn.convs.taken import taken_by
from tests.helpers.layers import assert_equal, dense
from tests.helpers.strategies import graphs


class Weighted(pyg.MessagePassing):
    """A user's layer, which calls its weights by another name."""

    def __init__(self) -> None:
        super().__init__("add")
        self.lin = nn.Linear(5, 5)

    def forward(self, x, edge_index, weight=None):
        return self.propagate(edge_index, x=self.lin(x), weight=weight)

    def message(self, x_j, weight):
        return x_j if weight is None else weight.view(-1, 1) * x_j


class InMessages(pyg.MessagePassing):
    """A user's layer that hands on to `propagate` whatever comes."""

    def forward(self, x, edge_index, **kwargs):
        return self.propagate(edge_index, x=x, **{"edge_weight": None, **kwargs})

    def message(self, x_j, edge_weight):
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j


class Asks(Weighted):
    """A user's layer that looks for weights in what comes, and calls them otherwise inside."""

    def forward(self, x, edge_index, **kwargs):
        return super().forward(x, edge_index, kwargs.get("edge_weight"))


class Wrapper(nn.Module):
    """A user's layer that hands on what comes."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.convs = nn.ModuleList([conv])

    def forward(self, x, edge_index, *args, **kwargs):
        return self.convs[0](x, edge_index, *args, **kwargs)


class ByPlace(Wrapper):
    """The same, by place alone."""

    def forward(self, x, edge_index, *args):
        return self.convs[0](x, edge_index, *args)


class Required(nn.Module):
    """A user's layer that cannot do without what it names."""

    def forward(self, x, edge_index, edge_type, *, node_type):
        out = torch.zeros_like(x).index_add(0, edge_index[1], x[edge_index[0]] * edge_type[:, None])
        return out + node_type[:, None]


TAKE_WEIGHTS = {
    "by another name": Weighted,
    "messages": InMessages,
    "asked for": Asks,
    "AntiSymmetric": lambda: pyg.AntiSymmetricConv(5),
    "GPS": lambda: pyg.GPSConv(5, pyg.GCNConv(5, 5), norm=None),
    "wrapper": lambda: Wrapper(pyg.GCNConv(5, 5)),
    "wrapper of a wrapper": lambda: Wrapper(Wrapper(Weighted())),
    "by place": lambda: ByPlace(pyg.GCNConv(5, 5)),
    "GCN": lambda: pyg.GCNConv(5, 5),
}


@pytest.mark.parametrize("name", TAKE_WEIGHTS)
@settings(max_examples=5)
@given(graphs(weighted=True, edge_attr=True))
def test_weights_reach_layers_under_any_name(name, graph):
    conv = TAKE_WEIGHTS[name]().double().eval()
    model = LayeredGNN([Block(conv, act=None)]).eval()
    weight = graph.edge_weight
    names = {"by another name": "weight"}
    if name == "wrapper of a wrapper":
        theirs = conv(graph.x, graph.edge_index, weight=weight)
    elif name == "by place":
        theirs = conv(graph.x, graph.edge_index, weight)
    else:
        theirs = conv(graph.x, graph.edge_index, **{names.get(name, "edge_weight"): weight})
    assert_equal(model(graph.x, graph.adj, edge_attr=graph.edge_attr), theirs)
    assert_equal(model.to_pyg().eval()(graph.x, graph.edge_index, weight), theirs)


BUILT_FOR = {  # without and with attributes of two channels
    "GAT": (lambda: pyg.GATConv(5, 4), lambda: pyg.GATConv(5, 4, edge_dim=2)),
    "GATv2": (lambda: pyg.GATv2Conv(5, 4), lambda: pyg.GATv2Conv(5, 4, edge_dim=2)),
    "Transformer": (
        lambda: pyg.TransformerConv(5, 4),
        lambda: pyg.TransformerConv(5, 4, edge_dim=2),
    ),
    "PNA": (
        lambda: pyg.PNAConv(5, 4, ["mean"], ["identity"], torch.ones(9).long()),
        lambda: pyg.PNAConv(5, 4, ["mean"], ["identity"], torch.ones(9).long(), edge_dim=2),
    ),
    "ResGated": (
        lambda: pyg.ResGatedGraphConv(5, 4),
        lambda: pyg.ResGatedGraphConv(5, 4, edge_dim=2),
    ),
    "GEN": (lambda: pyg.GENConv(5, 4), lambda: pyg.GENConv(5, 4, edge_dim=2)),
    "GEN, as wide": (lambda: pyg.GENConv(5, 3), lambda: pyg.GENConv(5, 2, edge_dim=2)),
    "General": (lambda: pyg.GeneralConv(5, 4), lambda: pyg.GeneralConv(5, 4, in_edge_channels=2)),
    "CG": (lambda: pyg.CGConv(5), lambda: pyg.CGConv(5, dim=2)),
    "GINE": (None, lambda: pyg.GINEConv(nn.Linear(5, 4), edge_dim=2)),
    "NN": (None, lambda: pyg.NNConv(5, 4, nn.Linear(2, 20))),
    "GMM": (None, lambda: pyg.GMMConv(5, 4, dim=2, kernel_size=2)),
    "PDN": (None, lambda: pyg.PDNConv(5, 4, 2, 3)),
    "wrapper": (
        lambda: Wrapper(pyg.GATv2Conv(5, 4)),
        lambda: Wrapper(pyg.GATv2Conv(5, 4, edge_dim=2)),
    ),
}
NEEDY = ("Transformer", "PNA", "ResGated", "CG", "GINE", "NN", "GMM")


@pytest.mark.parametrize("name", BUILT_FOR)
@settings(max_examples=4)
@given(graphs(edge_attr=True))
def test_attributes_go_to_layers_built_for_them(name, graph):
    for make, given_them in zip(BUILT_FOR[name], ({}, {"edge_attr": graph.edge_attr}), strict=True):
        if make is None:
            continue
        conv = make().double().eval()
        model = LayeredGNN([Block(conv, act=None)]).eval()
        ours = model(graph.x, graph.adj, edge_attr=graph.edge_attr)
        assert_equal(ours, conv(graph.x, graph.edge_index, **given_them))
        assert_equal(model(graph.x, graph.edge_index, None, graph.edge_attr), ours)
        if given_them and name in NEEDY:
            with pytest.raises(InputError, match=f"{type(conv).__name__} needs edge_attr"):
                model(graph.x, graph.adj)


@settings(max_examples=5)
@given(graphs(min_nodes=2), st.integers(0, 2**20))
def test_types_reach_layers_that_take_them(graph, seed):
    random = torch.Generator().manual_seed(seed)
    edges, types = graph.edge_index, torch.randint(3, (graph.num_edges,), generator=random)
    nodes = torch.randint(2, (graph.num_nodes,), generator=random)
    attr = torch.randn(graph.num_edges, 2, dtype=torch.float64)
    order = torch.randperm(graph.num_edges, generator=random)
    carried = {"edge_type": types[order], "node_type": nodes}
    for conv in (
        pyg.RGCNConv(5, 4, 3),
        pyg.FastRGCNConv(5, 4, 3),
        pyg.FiLMConv(5, 4, 3),
        pyg.RGATConv(5, 4, 3),
    ):
        model = as_layered([conv]).double().eval()
        theirs = conv(graph.x, edges, edge_type=types)
        assert_equal(model(graph.x, edges[:, order], **carried), theirs)
        assert_equal(model.to_pyg()(graph.x, edges, edge_type=types), theirs)
        with pytest.raises(InputError, match="needs edge_type"):
            model(graph.x, edges)
    conv = Required()
    model = as_layered([conv])
    theirs = conv(graph.x, edges, types, node_type=nodes)
    assert_equal(model(graph.x, edges[:, order], **carried), theirs)
    conv = pyg.HEATConv(5, 4, 2, 3, 2, 2, 2).double()
    model = as_layered([conv])
    ours = model(graph.x, edges[:, order], edge_attr=attr[order], **carried)
    assert_equal(ours, conv(graph.x, edges, nodes, types, attr))


def test_types_beyond_what_a_layer_was_built_for():
    """RGCN leaves edges of such types out in silence."""
    edges, types = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([0, 1, 2])
    model = as_layered([pyg.RGCNConv(5, 4, num_relations=2)])
    with pytest.raises(InputError, match="from 0 to 2: build it with num_relations=3"):
        model(torch.randn(3, 5), edges, edge_type=types)


@settings(max_examples=5)
@given(graphs(min_nodes=3), st.booleans())
def test_attention_stays_within_each_graph(graph, norm):
    conv = pyg.GPSConv(5, pyg.SAGEConv(5, 5), norm="graph_norm" if norm else None).double().eval()
    model = LayeredGNN([Block(conv, act=None)]).eval()
    batch = (torch.arange(graph.num_nodes) >= 2).long()
    inside = batch[graph.edge_index[0]] == batch[graph.edge_index[1]]
    edges = graph.edge_index[:, inside]
    theirs = conv(graph.x, edges, batch)
    assert_equal(model(graph.x, edges, batch=batch), theirs)
    assert_equal(model.to_pyg()(graph.x, edges, batch=batch), theirs)


class Segments(nn.Module):
    """A user's layer that cannot do without the graph of every node."""

    def forward(self, x, edge_index, batch):
        return pyg.global_mean_pool(x, batch)[batch]


def test_one_graph_is_graph_0():
    x, edges = torch.randn(4, 5), torch.tensor([[0], [1]])
    assert_equal(as_layered([Segments()])(x, edges), x.mean(0).expand(4, 5), 1e-6)


def test_pygs_models_give_what_they_give():
    """A GAT is built without `edge_dim`, a GraphSAGE is given nothing, whatever its layers take."""

    class Own(pyg.models.basic_gnn.BasicGNN):
        supports_edge_weight, supports_edge_attr = False, True

        def init_conv(self, in_channels, out_channels, **kwargs):
            return pyg.GCNConv(in_channels, out_channels)

    x, edges = torch.randn(6, 5), torch.randint(6, (2, 20))
    weight, attr = torch.rand(20), torch.randn(20, 2)
    for model in (pyg.GAT(5, 8, 2, 3, v2=True), pyg.GAT(5, 8, 2, 3, edge_dim=2)):
        model.eval()
        given = (None, attr) if model.convs[0].edge_dim else ()
        ours = as_layered(model)(x, edges, weight, attr)
        assert_equal(ours, model(x, edges, *given), 1e-6)
    assert taken_by(pyg.GCNConv(5, 5)).names == {"edge_weight": "edge_weight"}
    model = Own(5, 5, 2, 3)
    model.convs = nn.ModuleList([pyg.GCNConv(5, 5), pyg.GATConv(5, 3, edge_dim=2)])
    ours = as_layered(model)(x, edges, weight, attr)
    hidden = model.convs[0](x, edges).relu()
    assert_equal(ours, model.convs[1](hidden, edges, attr), 1e-6)


X, EDGES, WEIGHT = torch.randn(4, 5), torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.rand(3)


@pytest.mark.parametrize(
    ("convs", "given", "words"),
    [
        ([pyg.SAGEConv(5, 5), pyg.GATConv(5, 5)], {"edge_weight": WEIGHT}, "SAGEConv, GATConv"),
        ([pyg.SAGEConv(5, 5, "max")], {"edge_weight": WEIGHT}, "SAGEConv take none"),
        ([pyg.SAGEConv(5, 5), pyg.GCNConv(5, 5)], {"edge_weight": WEIGHT}, None),
        ([nn.Linear(5, 5)], {"edge_weight": WEIGHT}, None),
        ([pyg.GCNConv(5, 5)], {"edge_attr": WEIGHT[:, None]}, r"edge_weight=edge_attr.view\(-1\)"),
        ([pyg.GATConv(5, 5, edge_dim=1)], {"edge_attr": WEIGHT[:, None]}, None),
        ([pyg.GCNConv(5, 5)], {"edge_attr": torch.randn(3, 2)}, None),
        ([pyg.GCNConv(5, 5)], {}, None),
    ],
)
def test_what_no_layer_takes_is_spoken_of_once(convs, given, words, caplog):
    model = as_layered(convs)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model(X, EDGES, **given)
    assert len(caplog.records) == (words is not None)
    assert words is None or re.search(words, caplog.text)


class Fails(nn.Module):
    def forward(self, x, edge_index, edge_attr=None):
        assert edge_attr is None
        return x


def test_no_error_is_blank():
    model = as_layered([Fails()])
    assert_equal(model(X, EDGES), X)
    words = "Fails cannot take 5 channels of 4 nodes and 3 edges, given edge_attr: AssertionError"
    with pytest.raises(InputError, match=words):
        model(X, EDGES, edge_attr=WEIGHT[:, None])


@settings(max_examples=10)
@given(
    graphs(min_nodes=2, sparse_x=None, weighted=None),
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
    st.booleans(),
)
def test_features_are_cast_to_the_models_type(graph, dtype, double):
    """Of whatever type features are, the model computes as if they had been cast before."""
    convs = [pyg.GCNConv(5, 4), pyg.GATConv(4, 4), pyg.SAGEConv(4, 3, "max"), pyg.TAGConv(3, 2)]
    own = torch.float64 if double else torch.float32
    x = of_type(graph.x, dtype)
    for first in (convs, convs[1:2]):  # a propagation, and a layer that runs as it is
        model = as_layered(first if first is convs else [pyg.GATConv(5, 4)]).to(own)
        out = model(x, graph.adj)
        assert out.dtype == own
        torch.testing.assert_close(out, model(dense(x).to(own), graph.adj))

"""What costs are stated: work as loops execute it, depth as operations wait, what torch keeps."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.costs.counted.amounts import Amount, Sizes
from gnnscale.costs.counted.epochs import propagated
from gnnscale.costs.counted.reading import costs_of, halo_rows, sizes_of_graph
from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from gnnscale.nn import Block, Context, LayeredGNN, Sum
from tests.helpers import scalars
from tests.helpers.strategies import graphs

few = settings(max_examples=8, deadline=None)
IN, HIDDEN = 3, 4
WIDTHS = st.sampled_from([(3, 2), (3, 3), (2, 5)])


def reference(name, tape, x, edges, nodes, conv, eps):
    """One convolution in loops."""
    p = {key: value.detach().numpy() for key, value in conv.named_parameters()}
    own = {key: tape.leaves(value, learns=True) for key, value in p.items()}
    if name == "GAT":
        scored = (own["att_dst"][0], own["att_src"][0])
        return scalars.attention(
            tape, x, edges, nodes, own["lin.weight"], *scored, own["bias"], conv.heads
        )
    if name == "SAGE max":
        weight, bias, root = own["lin_l.weight"], own["lin_l.bias"], own["lin_r.weight"]
        return scalars.extremal(tape, x, edges, nodes, weight, bias, root)
    if name == "GIN":
        rows = scalars.factors(tape, edges, nodes, "sum", 1 + eps)
        out = scalars.convolution(tape, x, rows, own["nn.0.weight"], own["nn.0.bias"])
        out = scalars.relu(tape, out)
        out = scalars.product(tape, out, own["nn.2.weight"], own["nn.2.bias"])
        tape.barrier(out)
        return out
    kind = {"SAGE": "mean", "ClusterGCN": "cluster_gcn"}.get(name, "gcn")
    rows = scalars.factors(tape, edges, nodes, kind)
    if name == "SAGE":
        weight, bias, root = own["lin_l.weight"], own["lin_l.bias"], own["lin_r.weight"]
        return scalars.convolution(tape, x, rows, weight, bias, root)
    if name == "ClusterGCN":
        return scalars.convolution(tape, x, rows, own["lin_out.weight"], own["lin_out.bias"])
    bias = own["lin.bias"] if name == "SGC" else own["bias"]
    hops = conv.K if name == "SGC" else 1
    return scalars.convolution(tape, x, rows, own["lin.weight"], bias, hops=hops)


def gin(wide, out):
    return pyg.GINConv(
        nn.Sequential(nn.Linear(wide, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out)), 0.5
    )


CONVOLUTIONS = {
    "GCN": pyg.GCNConv,
    "SAGE": pyg.SAGEConv,
    "SAGE max": partial(pyg.SAGEConv, aggr="max"),
    "GIN": gin,
    "GAT": lambda wide, out: pyg.GATConv(wide, out, heads=2),
    "ClusterGCN": gs.nn.ClusterGCNConv,
    "SGC": partial(pyg.SGConv, K=2),
}


def executed(name, graph, hidden, out):
    """Two layers of a kind, run as a model and in loops."""
    torch.manual_seed(0)
    first = CONVOLUTIONS[name](graph.num_features, hidden)
    wide = hidden * (2 if name == "GAT" else 1)
    second = CONVOLUTIONS[name](wide, out)
    model = LayeredGNN([Block(first, act="relu"), Block(second, act=None)]).double()
    tape = scalars.Tape()
    x = tape.leaves(graph.x.numpy())
    edges = graph.edge_index.t().tolist()
    run = partial(reference, name, tape, edges=edges, nodes=graph.num_nodes, eps=0.5)
    x = scalars.relu(tape, run(x, conv=first))
    found = run(x, conv=second)
    with torch.no_grad():
        expected = model(graph.x, graph.adj).numpy()
    np.testing.assert_allclose(tape.read(found), expected, atol=1e-9)
    return tape, costs_of(model, graph.x, graph.carried), model, found


@pytest.mark.parametrize("name", CONVOLUTIONS)
@few
@given(graphs(min_nodes=1, max_nodes=6, max_edges=10, features=IN, weighted=False), WIDTHS)
def test_work_and_depth_are_those_of_the_loops(name, graph, widths):
    tape, costs, *_ = executed(name, graph, *widths)
    sizes = sizes_of_graph(graph)
    assert costs.forward.of(sizes) == tape.work
    assert costs.backward.of(sizes) == tape.backward()
    # Sums of nothing take no time, GAT counts all self-loops of a node as one, and what is beside
    # an extremum is profiled.
    if sizes.edges and name != "SAGE max" and (name != "GAT" or not sizes.loops):
        assert costs.depth(sizes) == tape.depth()


@pytest.mark.parametrize("name", ["GCN", "SAGE", "GIN", "ClusterGCN", "SGC"])
@few
@given(graphs(min_nodes=1, max_nodes=6, max_edges=10, features=IN, weighted=False), WIDTHS)
def test_gradients_wait_no_longer_than_is_said(name, graph, widths):
    tape, costs, _, out = executed(name, graph, *widths)
    assert tape.depth_backward(out) <= costs.depth_backward(sizes_of_graph(graph))


def test_gradients_are_sums_over_the_edges_that_leave_a_node():
    star = torch.stack([torch.zeros(16).long(), torch.arange(1, 17)])
    graph = gs.Graph.from_arrays(star, torch.randn(17, IN).double())
    tape, costs, _, out = executed("GCN", graph, 2, 2)
    sizes = sizes_of_graph(graph)
    assert (sizes.degree, sizes.leaving) == (1, 16)
    assert costs.depth(sizes) == tape.depth() < costs.depth(sizes._replace(degree=16))
    alone = costs.depth_backward(sizes._replace(leaving=0))
    assert max(alone + 1, tape.depth_backward(out)) <= costs.depth_backward(sizes)


@pytest.mark.parametrize("name", ["GCN", "ClusterGCN", "SGC"])
@pytest.mark.parametrize("nodes", [2, 4, 8])
def test_gradients_wait_as_long_where_all_nodes_are_alike(name, nodes):
    node = torch.arange(nodes)
    ring = gs.Graph.from_arrays(torch.stack([node, node.roll(1)]), torch.randn(nodes, 4).double())
    tape, costs, _, out = executed(name, ring, 4, 4)
    assert tape.depth_backward(out) == costs.depth_backward(sizes_of_graph(ring))


@pytest.mark.parametrize("name", ["GCN", "SAGE", "SGC", "ClusterGCN"])
@few
@given(graphs(min_nodes=2, max_nodes=6, max_edges=10, features=IN, weighted=False), st.data())
def test_what_parts_send_is_what_others_read(name, graph, data):
    """A value goes once to each part that a row of it depends on; or once for every edge."""
    nodes = graph.num_nodes
    part = data.draw(st.lists(st.integers(0, 2), min_size=nodes, max_size=nodes))
    tape, costs, _, _ = executed(name, graph, 3, 2)
    sent = set()
    for before, after in tape.propagations:
        owner = {value: part[i] for i, row in enumerate(before) for value in row}
        for reader, row in zip(part, after, strict=True):
            needed = set().union(*(tape.behind(value) for value in row)) & owner.keys()
            sent |= {(value, reader) for value in needed if owner[value] != reader}
    rows, cut = halo_rows(graph.adj, torch.tensor(part))
    assert propagated(costs, rows) == (8 * len(sent), len(tape.propagations))
    away = [part[source] != part[target] for source, target in graph.edge_index.t().tolist()]
    assert cut == sum(away) >= rows


def kept_by_torch(model, graph, context):
    """Bytes of the tensors that torch saves, but for the model's and the graph's own."""
    adj, x = graph.adj, graph.x
    own = [*model.parameters(), *model.buffers(), adj.edge_index, adj.indptr, adj.indices]
    own += [x] if isinstance(x, torch.Tensor) else [x.indices, x.indptr, x.values]
    own += [value for value in (*graph.carried.values(), *context.segments.values())]
    there = {value.untyped_storage()._cdata for value in own}
    saved, holding = {}, []

    def pack(value):
        holding.append(value.detach())
        saved[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        model(x, adj, context=context)
    return sum(size for storage, size in saved.items() if storage not in there)


MODELS = {
    "GCN": lambda: gs.nn.GCN(5, 6, 3, 4, dropout=0.5, norm="graph_norm"),
    "GCN wide": lambda: gs.nn.GCN(5, 9, 3, 9, dropout=0.5, act="elu", norm="batch_norm", jk="cat"),
    "SAGE": lambda: gs.nn.GraphSAGE(5, 6, 3, 4, jk="max", norm="layer_norm", dropout=0.5),
    "SAGE max": lambda: gs.nn.GraphSAGE(5, 6, 2, 4, aggr="max", act="tanh", dropout=0.2),
    "GIN": lambda: gs.nn.GIN(5, 6, 2, 4, norm="batch_norm", train_eps=True),
    "GAT": lambda: gs.nn.GAT(5, 6, 3, 4, heads=2, dropout=0.3),
    "ClusterGCN": lambda: gs.nn.ClusterGCN(5, 6, 2, 4, norm="instance_norm", act="leaky_relu"),
    "SGC": lambda: gs.nn.SGC(5, 6, 2, 4),
    "TAGCN": lambda: gs.nn.TAGCN(5, 6, 2, 4, dropout=0.5),
    "GCNII": lambda: gs.nn.GCNII(5, 6, 2, 4),
    "DeepGCN": lambda: gs.nn.DeepGCN(5, 6, 2, 4),
    "own": lambda: LayeredGNN(
        [
            Block(pyg.EdgeConv(nn.Linear(10, 6)), act="gelu", residual="dense"),
            Block(pyg.PNAConv(11, 6, ["mean"], ["identity"], torch.tensor([1, 2])), act="prelu"),
        ],
        head=nn.Linear(6, 2),
    ),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5, deadline=None)
@given(
    graphs(
        min_nodes=4, max_nodes=20, max_edges=40, weighted=False, sparse_x=None, dtype=torch.float32
    )
)
def test_what_is_kept_is_what_torch_saves(name, graph):
    model = MODELS[name]()
    costs = costs_of(model, graph.x, graph.carried)
    context = Context(graph.adj, True, seed=1)
    if not graph.num_edges and name in ("own", "GAT"):  # PyG then takes other ways
        return
    assert costs.keeps.of(sizes_of_graph(graph)) == kept_by_torch(model, graph, context)
    model.eval()
    with torch.no_grad():
        evaluated = costs_of(model, graph.x, graph.carried, training=False)
    assert evaluated.keeps == evaluated.backward == Amount()
    assert not any(value.learns for value in evaluated.values)
    assert evaluated.forward == costs.forward


def _edges(in_channels, out_channels):
    return pyg.EdgeConv(nn.Linear(2 * in_channels, out_channels))


OPAQUE = {
    "GAT alone": partial(pyg.GATConv, add_self_loops=False),
    "GAT mean": partial(pyg.GATConv, heads=3, concat=False, residual=True),
    "GAT edges": partial(pyg.GATConv, edge_dim=2),
    "GATv2": partial(pyg.GATv2Conv, heads=2),
    "Transformer": partial(pyg.TransformerConv, heads=2),
    "GEN": pyg.GENConv,
    "Edge": _edges,
    "GINE": lambda wide, out: pyg.GINEConv(nn.Linear(wide, out), edge_dim=2),
    "RGCN": partial(pyg.RGCNConv, num_relations=3),
    "Cheb": partial(pyg.ChebConv, K=3),
    "ARMA": pyg.ARMAConv,
    "MixHop": partial(pyg.MixHopConv, powers=[0, 1, 2]),
    "Graph": pyg.GraphConv,
    "LE": pyg.LEConv,
    "NN": lambda wide, out: pyg.NNConv(wide, out, nn.Linear(2, wide * out)),
    "FeaSt": pyg.FeaStConv,
    "EG": partial(pyg.EGConv, num_heads=2),
    "Hypergraph": pyg.HypergraphConv,
    "GPS": lambda wide, out: pyg.GPSConv(wide, pyg.GCNConv(wide, wide), heads=2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPAQUE)
@settings(max_examples=4, deadline=None)
@given(
    graphs(min_nodes=6, max_nodes=30, max_edges=90, weighted=False, edge_attr=True,
           features=4, dtype=torch.float32)
)  # fmt: skip
def test_what_layers_of_pyg_keep_is_what_torch_saves(name, graph):
    conv = OPAQUE[name](4, 8)
    model = LayeredGNN([Block(nn.Linear(4, 4)), Block(conv, act=None)])
    costs = costs_of(model, graph.x, graph.carried)
    carried = {"edge_attr": graph.edge_attr, "edge_type": graph.edge_type}
    context = Context(graph.adj, True, seed=1, node_type=graph.node_type, **carried)
    if graph.num_edges:
        assert costs.keeps.of(sizes_of_graph(graph)) == kept_by_torch(model, graph, context)
    assert not costs.estimated


def test_what_is_no_sum_of_nodes_and_edges_is_said():
    model = LayeredGNN([Block(pyg.SAGEConv(5, 4, aggr="lstm")), Block(nn.Linear(4, 2))])
    assert costs_of(model, torch.randn(9, 5)).estimated == ["SAGEConv"]


class Stated(nn.Module):
    """A layer that says what it computes, and leaves the rest to be found."""

    def __init__(self, says):
        super().__init__()
        self.lin, self.says = nn.Linear(5, 2), says

    def forward(self, x, edge_index):
        source, target = edge_index
        return self.lin(x.new_zeros(x.shape).index_add(0, target, x[source]))

    def gnnscale_costs(self, width):
        assert width == 5
        return self.says() if callable(self.says) else self.says


def test_a_layer_states_its_own_and_is_profiled_for_the_rest():
    x, sizes = torch.randn(7, 5), Sizes(100, 1000, 10)
    found = costs_of(LayeredGNN([Block(Stated({}), act=None)]), x)
    assert found.forward == Amount(node=10, edge=5)
    assert found.keeps == Amount(node=20)
    says = {"forward": Amount(node=1, edge=2), "keeps": Amount(node=3)}
    stated = costs_of(LayeredGNN([Block(Stated(says), act=None)]), x)
    assert (stated.forward, stated.keeps) == (says["forward"], says["keeps"])
    assert stated.backward == found.backward
    assert stated.depth(sizes) == found.depth(sizes)
    with pytest.raises(InputError, match=r"Stated.gnnscale_costs\(5\) returned"):
        costs_of(LayeredGNN([Block(Stated({"work": 3}), act=None)]), x)
    with pytest.raises(InputError, match=r"Stated.gnnscale_costs\(5\) failed: ZeroDivisionError"):
        costs_of(LayeredGNN([Block(Stated(lambda: 1 / 0), act=None)]), x)


class Rated(nn.Module):
    """A map of rows whose `costs` are something else, and that states its own work."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def forward(self, x):
        return x.sin()

    def costs(self):
        raise AssertionError

    def gnnscale_costs(self, width):
        return {"forward": self.work}


@pytest.mark.parametrize("work", [Amount(node=3), Amount(edge=2), Amount()])
def test_work_that_is_stated_is_of_the_kernels_that_do_it(work):
    model = LayeredGNN([Block(nn.Linear(5, 4)), Block(Rated(work), act=None)])
    costs = costs_of(model, torch.randn(7, 5))
    *_, block, _ = costs.blocks
    (placed,) = block
    kinds = {k.kind for k in placed.facts.forward if k.work != Amount()}
    assert kinds == {kind for kind, there in (("dense", work.node), ("sparse", work.edge)) if there}
    assert sum(k.moved.node for k in placed.facts.forward) == 4 * 2 * 4  # read and written
    assert costs.forward == Amount(node=20) + work


def test_lazy_models_have_no_costs_yet():
    with pytest.raises(InputError, match="have none yet"):
        costs_of(gs.nn.GCN(-1, 4, 2, 2), torch.randn(3, 5))


def test_the_paper_s_symbols():
    """Table of Besta & Hoefler: GIN of MLPs of depth 2 has twice the nk², SGC a hop more of mk."""
    x = torch.randn(3, 8)
    for model, work, depth in [
        (gs.nn.GCN(8, 8, 3, 8), "3 mk + 3 nk²", "3 log d + 3 log k"),
        (gs.nn.GIN(8, 8, 3, 8), "3 mk + 6 nk²", "3 log d + 6 log k"),
        (gs.nn.GAT(8, 8, 1, 8), "nk² + mk", "3 log d + log k"),
        (LayeredGNN([Block(pyg.SGConv(8, 8, K=2), act=None)]), "2 mk + nk²", "2 log d + log k"),
    ]:
        assert costs_of(model, x).symbols == (work, depth)


class Narrowing(nn.Module):
    """A map of rows that gives a view of what it takes."""

    def forward(self, x):
        return x[:, :2]


def test_a_view_of_some_columns_is_not_what_went_in():
    model = LayeredGNN([Block(nn.Linear(5, 4)), Block(Narrowing(), act=None)], head=nn.Linear(2, 3))
    costs = costs_of(model, torch.randn(7, 5))
    assert costs.forward == Amount(node=5 * 4 + 2 * 3)


class Uneven(nn.Module):
    """A convolution whose work falls with the edges: no sum over nodes and edges."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(5, 5)

    def forward(self, x, edge_index):
        for _ in range(max(1, 64 // (1 + edge_index.size(1)))):
            x = self.lin(x)
        source, target = edge_index
        return x.index_add(0, target, x[source])


@given(st.integers(1, 10**6), st.integers(0, 10**7), st.data())
def test_no_graph_has_less_than_no_work(nodes, edges, data):
    costs = _uneven()
    assert costs.estimated == ["Uneven"]
    sizes = Sizes(nodes, edges, 9, data.draw(st.integers(0, edges)))
    for amount in (costs.forward, costs.backward, costs.moved, costs.keeps):
        assert amount.of(sizes) >= 0


@cache
def _uneven():
    return costs_of(LayeredGNN([Block(Uneven(), act=None)]), torch.randn(9, 5))


def test_what_layers_share_is_counted_once():
    shared = nn.Linear(4, 4)
    blocks = [Block(nn.Linear(5, 4)), Block(shared), Block(shared, act=None)]
    costs = costs_of(LayeredGNN(blocks, head=nn.Linear(4, 2)), torch.randn(7, 5))
    assert costs.parameters == (24, 20, 0, 10)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_weight_of_a_node_s_own_rows_that_does_not_learn_has_no_gradient(frozen):
    model = gs.nn.GIN(5, 6, 2, 4, train_eps=True)
    usual = costs_of(model, torch.randn(3, 5)).backward
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and name.endswith("eps")))
    found = costs_of(model, torch.randn(3, 5)).backward
    # The first one's rows, too, then learn nothing.
    assert usual.node - found.node == (5 + 6 + 5 * 6) * frozen


class Rooted(nn.Module):
    """Sums over neighbours, with a network of the node's own rows beside."""

    def __init__(self):
        super().__init__()
        self.own = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 5))

    def forward(self, x, edge_index):
        source, target = edge_index
        return x.new_zeros(x.shape).index_add(0, target, x[source]) + self.own(x)


gs.nn.register(Rooted, hops=1, propagation=lambda conv: gs.nn.Propagation(Sum(), root=conv.own))


def test_what_is_added_to_a_propagation_is_profiled():
    model = LayeredGNN([Block(nn.Linear(5, 5)), Block(Rooted(), act=None)])
    costs = costs_of(model, torch.randn(7, 5))
    assert costs.forward == Amount(node=25 + 2 * 35, edge=5)
    assert costs.backward == Amount(node=25 + 4 * 35, edge=5)


def test_a_row_of_sparse_features_is_a_sum_of_its_entries():
    x = torch.zeros(64, 100)
    x[:, :8] = 1
    costs = costs_of(gs.nn.GCN(100, 4, 1, 4), CSR.from_dense(x))
    at = [Sizes(64, 640, degree, entries=64 * 8) for degree in (10, 1000)]
    deeper = costs.depth(at[1]) - costs.depth(at[0])
    assert deeper == (1001 - 1).bit_length() - (11 - 1).bit_length()  # of the hop alone
    assert costs.depth(at[0]._replace(entries=64 * 16)) == costs.depth(at[0]) + 1

"""Every reach that is declared for PyG's opaque convolutions is enough, with all edges carry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.utils import subgraph

import gnnscale as gs
from gnnscale.errors import InexactConvolution, InputError, UnsupportedModel
from gnnscale.graph import Graph
from gnnscale.inference import stream
from gnnscale.kernels import CSR
from gnnscale.nn import (
    Block,
    Context,
    LayeredGNN,
    check_invariance,
)
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.convs import propagation
from tests.helpers.layers import (
    assert_equal,
    assert_same_function,
    double_by_default,
    evaluated,
    few,
    shaken,
)
from tests.helpers.memory import linux, resident_file_pages
from tests.helpers.strategies import graphs


def normed_mlp(width: int, norm: Callable[[int], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4), norm(4), nn.ReLU())


DEGREES = torch.tensor([0, 3, 4, 2, 1])
CONVS = {
    "AGNN": lambda: pyg.AGNNConv(),
    "CG": lambda: pyg.CGConv(5, dim=2, batch_norm=True),
    "Edge": lambda: pyg.EdgeConv(normed_mlp(10, nn.BatchNorm1d), aggr="max"),
    "FeaSt": lambda: pyg.FeaStConv(5, 4, heads=2),
    "GAT": lambda: pyg.GATConv(5, 4, edge_dim=2, residual=True),
    "GATv2": lambda: pyg.GATv2Conv(5, 4, heads=2, edge_dim=2),
    "GEN": lambda: pyg.GENConv(5, 4, edge_dim=2, learn_t=True, msg_norm=True),
    "GINE": lambda: pyg.GINEConv(normed_mlp(5, pyg.BatchNorm), edge_dim=2, train_eps=True),
    "GMM": lambda: pyg.GMMConv(5, 4, dim=2, kernel_size=3),
    "General": lambda: pyg.GeneralConv(5, 4, in_edge_channels=2, attention=True),
    "Graph": lambda: pyg.GraphConv(5, 4, aggr="max"),
    "LE": lambda: pyg.LEConv(5, 4),
    "MF": lambda: pyg.MFConv(5, 4, max_degree=3),
    "NN": lambda: pyg.NNConv(5, 4, nn.Linear(2, 20)),
    "PNA": lambda: pyg.PNAConv(
        5, 4, ["mean", "std", "max"], ["identity", "amplification", "linear"], DEGREES, edge_dim=2
    ),
    "ResGated": lambda: pyg.ResGatedGraphConv(5, 4, edge_dim=2),
    "Simple": lambda: pyg.SimpleConv("mean", combine_root="cat"),
    "SuperGAT": lambda: pyg.SuperGATConv(5, 4, heads=2),
    "Transformer": lambda: pyg.TransformerConv(5, 4, edge_dim=2, beta=True),
    "EG": lambda: pyg.EGConv(5, 4, num_heads=2),
    "EG, unnormalised": lambda: pyg.EGConv(5, 4, ["max"], num_heads=2, add_self_loops=False),
    "WL": lambda: pyg.WLConvContinuous(),
    "LG": lambda: pyg.LGConv(),
    "LG, unnormalised": lambda: pyg.LGConv(normalize=False),
    "PDN": lambda: pyg.PDNConv(5, 4, edge_dim=2, hidden_channels=3),
    "ARMA": lambda: pyg.ARMAConv(5, 4, num_stacks=2, num_layers=2),
    "GatedGraph": lambda: pyg.GatedGraphConv(5, num_layers=2),
    "MixHop": lambda: pyg.MixHopConv(5, 4, powers=[0, 1, 3]),
    "AntiSymmetric": lambda: pyg.AntiSymmetricConv(5, num_iters=2),
}
BOTH_WAYS = {
    "Cheb": lambda: pyg.ChebConv(5, 4, K=3),
    "Cheb, rw": lambda: pyg.ChebConv(5, 4, K=2, normalization="rw"),
    "Cheb, one": lambda: pyg.ChebConv(5, 4, K=1),
    "Hypergraph": lambda: pyg.HypergraphConv(5, 4),
    "Dir": lambda: pyg.DirGNNConv(pyg.GATConv(5, 4, add_self_loops=False)),
    "against the edges": lambda: pyg.GATv2Conv(5, 4, edge_dim=2, flow="target_to_source"),
    "GCN against the edges": lambda: pyg.GCNConv(5, 4, flow="target_to_source"),
}


def streamed(model: LayeredGNN, graph: Graph, chunk_rows: int) -> torch.Tensor:
    return torch.cat([out.clone() for _, _, out in stream(model, graph, chunk_rows=chunk_rows)])


def assert_chunks_are_exact(conv: nn.Module, graph: Graph, chunk_rows: int) -> None:
    model = shaken(LayeredGNN([Block(conv, act=None)]))
    with double_by_default():
        assert_equal(streamed(model, graph, chunk_rows), evaluated(model, graph), 1e-8)
        model.eval()
        given = {k: v for k, v in graph.carried.items() if k in Neighbourhood(conv, 0).given}
        theirs = conv(graph.x, graph.edge_index, **given)
        assert_equal(evaluated(model, graph), theirs)


@pytest.mark.parametrize("name", CONVS)
@settings(few, max_examples=5)
@given(graphs(min_nodes=2, edge_attr=True), st.sampled_from([1, 3]))
def test_one_way(name, graph, chunk_rows):
    assert_chunks_are_exact(CONVS[name](), graph, chunk_rows)


@pytest.mark.parametrize("name", BOTH_WAYS)
@settings(few, max_examples=8)
@given(graphs(min_nodes=2, edge_attr=True, directed=False), st.sampled_from([1, 3]))
def test_both_ways_on_symmetric_graphs(name, graph, chunk_rows):
    assert_chunks_are_exact(BOTH_WAYS[name](), graph, chunk_rows)


RING = torch.stack([torch.arange(40), (torch.arange(40) + 1) % 40])


@pytest.mark.parametrize("name", sorted(BOTH_WAYS.keys() - {"Cheb, one"}))  # which reads no edge
def test_both_ways_are_refused_on_directed_graphs(name):
    graph = Graph.from_arrays(RING, torch.randn(40, 5), edge_attr=torch.randn(40, 2))
    model = LayeredGNN([BOTH_WAYS[name]()])
    with pytest.raises(InexactConvolution, match=r"depends on the edges that leave.*undirected"):
        streamed(model, graph, 8)
    streamed(model, graph, 40)  # in one piece there is nothing to miss


def test_every_declared_class_is_tried():
    tried = {type(make()) for make in [*CONVS.values(), *BOTH_WAYS.values()]} | {pyg.FAConv}
    here = {
        cls
        for cls, entry in propagation._REGISTERED.items()
        if cls.__module__.startswith("torch_geometric") and entry.reading is None
    }
    assert here <= tried


@pytest.mark.parametrize(
    "make",
    [
        lambda: pyg.EdgeConv(normed_mlp(10, pyg.GraphNorm)),
        lambda: pyg.EdgeConv(normed_mlp(10, partial(nn.BatchNorm1d, track_running_stats=False))),
        lambda: pyg.GINEConv(normed_mlp(5, pyg.InstanceNorm), edge_dim=2),
        lambda: pyg.ChebConv(5, 4, K=2, normalization=None),
    ],
)
def test_what_reads_all_rows_is_not_taken_on_trust(make):
    edges = torch.cat([RING, RING.flip(0), torch.tensor([[0] * 9, list(range(5, 14))])], dim=1)
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    attr = torch.randn(edges.size(1), 2)
    graph = Graph.from_arrays(edges, torch.randn(40, 5), edge_attr=attr)
    with pytest.raises(InexactConvolution):
        streamed(LayeredGNN([make()]), graph, 8)


@few
@given(graphs(min_nodes=3, weighted=False), st.sampled_from([1, 2, None]), st.booleans())
def test_slots_come_along_on_the_halo(graph, chunk_rows, joined):
    """FAConv and a hooked GCN2Conv run as they are; x_0 may be jumping knowledge in parts."""
    hooked = pyg.GCN2Conv(4, 0.3)
    hooked.register_forward_hook(lambda module, arguments, out: None)
    blocks = [
        Block(nn.Linear(5, 4), "batch_norm", saves="x0"),
        Block(pyg.FAConv(4), reads="x0", residual=True),
        Block(hooked, reads="x0", residual="dense" if joined else False),
    ]
    model = shaken(LayeredGNN(blocks, nn.Linear(8 if joined else 4, 2)))
    with double_by_default():
        assert_equal(streamed(model, graph, chunk_rows), evaluated(model, graph), 1e-8)
    for phase in (phase for phases in model.phases for phase in phases):
        if isinstance(phase, Neighbourhood):
            check_invariance(phase, [torch.randn(3, 4)] * 2, graph.adj)


class Dynamic(pyg.MessagePassing):
    """What PyG's DynamicEdgeConv, GravNetConv and XConv look like, which need torch-cluster."""

    def forward(self, x, batch=None):
        return x


TO = ("a", "to", "a")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (Dynamic, UnsupportedModel, "Dynamic takes no edge_index: it finds neighbours"),
        (
            lambda: pyg.HeteroConv({TO: pyg.GCNConv(5, 4)}),
            UnsupportedModel,
            "HeteroConv takes dict",
        ),
        (lambda: pyg.HGTConv(5, 4, (["a"], [TO])), UnsupportedModel, "HGTConv takes dictionaries"),
        (lambda: pyg.PointTransformerConv(5, 4), InputError, r"\['pos'\] beside x"),
        (lambda: pyg.GCNConv(5, 4, aggr="max", cached=True), UnsupportedModel, "cached=False"),
    ],
)
def test_what_runs_on_other_things_is_refused_by_name(make, error, words):
    with pytest.raises(error, match=words):
        LayeredGNN([make()]).phases  # noqa: B018


@few
@given(graphs(min_nodes=6, edge_attr=True), st.sampled_from(["GATv2", "PNA", "GEN", "Transformer"]))
def test_batches_train_as_pyg_on_the_induced_subgraph(graph, name):
    conv = CONVS[name]().double()
    model = LayeredGNN([Block(conv, act=None)])
    part = gs.partition(graph, 3, method="random", seed=0)
    for batch in gs.ClusterLoader(gs.cluster(graph, part), clusters_per_batch=2, seed=0):
        nodes, rank = batch.node_id.sort()
        edges, attr = subgraph(
            nodes, graph.edge_index, graph.edge_attr, relabel_nodes=True, num_nodes=graph.num_nodes
        )
        assert_same_function(
            lambda x, batch=batch: model(
                x, batch.adj, context=Context(batch.adj, True, edge_attr=batch.edge_attr)
            ),
            lambda x, rank=rank, edges=edges, attr=attr: conv(x[rank], edges, edge_attr=attr)[
                rank.argsort()
            ],
            batch.x,
            [parameter for parameter in model.parameters() if parameter.requires_grad],
        )


@linux
@pytest.mark.parametrize("sparse", [False, True])
def test_nothing_of_a_store_stays_resident(sparse, tmp_path):
    nodes, numbers = 400_000, torch.Generator().manual_seed(0)  # 3 MB of row pointers, 800 pages
    model = LayeredGNN([pyg.GATConv(4, 2)])
    for name, count in (("small", 100), ("large", nodes)):  # the small one compiles
        x = torch.rand(count, 4, generator=numbers)
        graph = Graph.from_arrays(
            torch.randint(count, (2, count // 4), generator=numbers),
            x=CSR.from_dense(x) if sparse else x,
        )
        part = gs.Partition(torch.zeros(count, dtype=torch.int32), 1)
        store = gs.cluster(graph, part, tmp_path / name)
        before = resident_file_pages(tmp_path)
        for _ in stream(model, store.graph, memory="1GB", chunk_rows=count // 4):
            pass
    assert resident_file_pages(tmp_path) < before + 400

"""Inference in chunks equals the plain forward in evaluation mode."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import norm as pyg_norm

import gnnscale.nn as gsnn
from gnnscale.errors import InexactConvolution, InputError, StoreError
from gnnscale.graph import Graph
from gnnscale.inference import predict, stream
from gnnscale.inference.execution import Execution
from gnnscale.kernels import CSR
from gnnscale.nn import (
    Block,
    LayeredGNN,
    Propagation,
    Sum,
    as_layered,
    register,
)
from gnnscale.nn.convs import propagation
from tests.helpers.layers import (
    DegreeConv,
    DifferenceConv,
    FarConv,
    assert_equal,
    evaluated,
    few,
    shaken,
    streamed,
)
from tests.helpers.memory import few_columns
from tests.helpers.strategies import graphs

CHUNKS = st.sampled_from([1, 2, 3, 7, 1000, None])
PLACES = st.sampled_from(["memory", "files", "columns"])


def assert_exact(model, graph, chunk_rows, place="memory") -> None:
    shaken(model)
    before = None if isinstance(graph.x, CSR) else graph.x.clone()
    assert_equal(streamed(model, graph, chunk_rows, place), evaluated(model, graph), 1e-8)
    if before is not None:
        assert torch.equal(graph.x, before)


NORMS = {
    "graph_norm": lambda: pyg_norm.GraphNorm(4),
    "batch_norm": lambda: pyg_norm.BatchNorm(4),
    "torch batch_norm": lambda: nn.BatchNorm1d(4),
    "batch_norm, batch statistics": lambda: pyg_norm.BatchNorm(4, track_running_stats=False),
    "layer_norm, graph": lambda: pyg_norm.LayerNorm(4, mode="graph"),
    "layer_norm, node": lambda: pyg_norm.LayerNorm(4, mode="node"),
    "torch layer_norm": lambda: nn.LayerNorm(4),
    "instance_norm": lambda: pyg_norm.InstanceNorm(4, affine=True),
    "pair_norm": lambda: pyg_norm.PairNorm(),
    "graph_size_norm": lambda: pyg_norm.GraphSizeNorm(),
    "diff_group_norm": lambda: pyg_norm.DiffGroupNorm(4, groups=2),
    "group_norm": lambda: nn.GroupNorm(2, 4),
    "none": lambda: None,
}
CONVS = {
    "GCN": lambda a: pyg.GCNConv(a, 4),
    "SAGE": lambda a: pyg.SAGEConv(a, 4),
    "SAGE, normalize": lambda a: pyg.SAGEConv(a, 4, normalize=True, root_weight=False),
    "GIN": lambda a: pyg.GINConv(pyg.MLP([a, 3, 4], norm="graph_norm")),
    "GIN, eps": lambda a: pyg.GINConv(pyg.MLP([a, 3, 4], norm="batch_norm"), train_eps=True),
    "GAT": lambda a: pyg.GATConv(a, 4, edge_dim=2),
    "degrees": lambda a: DegreeConv(a, 4),
    "difference": lambda a: DifferenceConv(a, 4),
    "linear": lambda a: nn.Linear(a, 4),
}
HOPS = {"degrees": 2, "difference": 1}
ORDERS = [
    "conv-norm-act-dropout",
    "norm-act-dropout-conv",
    "dropout-conv-norm-act",
    "conv-act-norm-dropout",
    "act-conv-dropout-norm",
]


@pytest.mark.parametrize("conv", CONVS)
@settings(few, max_examples=8)
@given(
    graphs(min_nodes=2, edge_attr=True, sparse_x=None),
    st.sampled_from(sorted(NORMS)),
    st.sampled_from(ORDERS),
    st.booleans(),
    CHUNKS,
    PLACES,
)
def test_every_convolution_in_every_order(conv, graph, norm, order, residual, chunk_rows, place):
    first = Block(CONVS[conv](5), None, dropout=0.5, hops=HOPS.get(conv))
    blocks = [
        Block(
            CONVS[conv](4), NORMS[norm](), "elu", 0.5, order=order, residual=residual,
            hops=HOPS.get(conv),
        )
        for _ in range(2)
    ]  # fmt: skip
    assert_exact(LayeredGNN([first, *blocks]), graph, chunk_rows, place)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "none"])
@settings(few, max_examples=6)
@given(graphs(min_nodes=2), CHUNKS, PLACES, st.sampled_from(["first", "last", "head"]))
def test_every_norm_in_every_place(norm, graph, chunk_rows, place, where):
    inside = NORMS[norm]()
    lift = Block(nn.Linear(5, 4), act=None)
    if where == "head":
        head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4), inside)
        model = LayeredGNN([lift, pyg.SAGEConv(4, 4)], head)
    elif where == "last":
        model = LayeredGNN([lift, Block(pyg.SAGEConv(4, 4), inside, None)])
    else:
        block = Block(pyg.SAGEConv(4, 4), inside, nn.ReLU(inplace=True), order="norm-act-conv")
        model = LayeredGNN([block])
        graph.x = graph.x[:, :4].contiguous()
    assert_exact(model, graph, chunk_rows, place)


@pytest.mark.parametrize("order", ORDERS)
@settings(few, max_examples=8)
@given(graphs(min_nodes=2, sparse_x=True), st.sampled_from(sorted(NORMS)), CHUNKS, PLACES)
def test_sparse_features_may_meet_any_phase_first(order, graph, norm, chunk_rows, place):
    norms = {"before": NORMS[norm](), "after": NORMS[norm]()}
    graph = widen(graph, 4)
    blocks = [
        Block(pyg.SAGEConv(4, 4), norms["before"], "elu", 0.5, order=order, residual=True),
        Block(pyg.GCNConv(4, 4), norms["after"], "elu", 0.5, order=order, residual=True),
    ]
    assert_exact(LayeredGNN(blocks), graph, chunk_rows, place)


def widen(graph: Graph, width: int) -> Graph:
    """The graph with its first columns of sparse features alone."""
    graph.x = CSR.from_dense(graph.x.to_dense()[:, :width] if graph.num_nodes else graph.x)
    return graph


@few
@given(
    graphs(min_nodes=2),
    st.sampled_from(["GCN", "GraphSAGE", "GIN", "GAT"]),
    st.sampled_from([None, "last", "cat", "max"]),
    st.sampled_from([None, "graph_norm", "batch_norm", "layer_norm"]),
    st.booleans(),
    CHUNKS,
    PLACES,
)
def test_models_with_jumping_knowledge(graph, name, jk, norm, residual, chunk_rows, place):
    model = getattr(gsnn, name)(5, 4, 3, 2, 0.5, norm=norm, jk=jk, residual=residual)
    assert_exact(model, graph, chunk_rows, place)


@few
@given(graphs(weighted=True), st.integers(1, 3), CHUNKS)
def test_user_layers_with_their_reach(graph, hops, chunk_rows):
    model = LayeredGNN([Block(FarConv(5, hops), hops=hops), Block(DegreeConv(5, 3), hops=2)])
    assert_exact(model, graph, chunk_rows)


@few
@given(graphs(min_nodes=2), st.integers(1, 3), st.sampled_from([3, 9]), CHUNKS, PLACES)
def test_a_propagation_of_several_hops(graph, hops, width, chunk_rows, place):
    class Hops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(5, width)

        def forward(self, x, edge_index):
            raise AssertionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagation, "_REGISTERED", dict(propagation._REGISTERED))
        register(Hops, propagation=lambda conv: Propagation(
            Sum(0.5, weighted=True), hops, conv.lin.weight, conv.lin.bias, root=conv.lin
        ))  # fmt: skip
        assert_exact(LayeredGNN([Hops()]), graph, chunk_rows, place)


@pytest.mark.parametrize("name", sorted(gsnn.MODELS))
@settings(few, max_examples=4)
@given(
    graphs(min_nodes=2, max_nodes=40, sparse_x=None),
    st.sampled_from([3, 18, 40]),
    st.sampled_from([40, 400, 4000, 1 << 20]),
    st.booleans(),
)
def test_files_change_no_bit(tmp_path_factory, name, graph, width, memory, half):
    if half and not isinstance(graph.x, CSR):
        graph.x = graph.x.half()
    model = shaken(gsnn.MODELS[name](5, width, 3, 2)).float()
    folder = tmp_path_factory.mktemp("layers")
    in_memory = streamed(model, graph, 16, memory=1 << 40)
    with few_columns(memory):
        chunks = stream(model, graph, chunk_rows=16, storage=folder)
        in_files = torch.cat([out.clone() for _, _, out in chunks])
    assert torch.equal(in_memory, in_files)


@pytest.mark.parametrize("name", ["GCN", "GraphSAGE", "GIN", "GAT"])
@pytest.mark.parametrize("chunk_rows", [1, None])
@pytest.mark.parametrize("edges", [0, 1, 3])
def test_one_node_and_none(name, chunk_rows, edges):
    loops = torch.zeros(2, edges, dtype=torch.int64)
    model = getattr(gsnn, name)(5, 4, 2, 3, norm="graph_norm").double()
    one = Graph.from_arrays(loops, torch.randn(1, 5).double(), num_nodes=1)
    assert_exact(model, one, chunk_rows)
    several = Graph.from_arrays(loops[:, :0], torch.randn(4, 5).double(), num_nodes=4)
    assert_exact(model, several, chunk_rows)
    nothing = Graph.from_arrays(loops[:, :0], torch.randn(0, 5).double(), num_nodes=0)
    assert streamed(model, nothing, chunk_rows).shape == (0, 3)


@few
@given(graphs(min_nodes=2), CHUNKS)
def test_features_of_another_type_are_read_in_the_models(graph, chunk_rows):
    model = gsnn.GCN(5, 4, 2, 3)  # float32
    out = streamed(model, graph, chunk_rows)
    assert out.dtype == torch.float32
    graph.x = graph.x.float()
    assert_equal(out, streamed(model, graph), 1e-5)
    assert streamed(model.double(), graph, chunk_rows).dtype == torch.float64


@few
@given(graphs(min_nodes=2), CHUNKS, st.sampled_from([None, "cat", "max"]))
def test_embeddings_are_what_the_head_reads(graph, chunk_rows, jk):
    model = shaken(gsnn.GCN(5, 4, 3, 2, norm="graph_norm", jk=jk))
    seen = []
    last = model.head if jk else model.blocks[-1].conv.lin
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    evaluated(model, graph)
    handle.remove()
    assert_equal(streamed(model, graph, chunk_rows, head=False), seen[0], 1e-8)


def test_an_undeclared_reach_is_checked_before_first_use():
    nodes = torch.arange(300)
    edges = torch.stack([nodes, (nodes * 7 + 1) % 300])
    graph = Graph.from_arrays(edges, torch.randn(300, 5), edge_weight=0.5 + torch.rand(300))
    model = LayeredGNN([DegreeConv(5, 3)])
    with pytest.raises(InexactConvolution, match=r"register\(DegreeConv, hops=2\)"):
        streamed(model, graph, 50)
    assert model.training
    whole = streamed(model, graph, 300)  # in one chunk any reach is exact
    assert_equal(whole, evaluated(model, graph), 1e-5)
    declared = LayeredGNN([Block(model.blocks[0].conv, hops=2)])
    assert_equal(streamed(declared, graph, 50), streamed(model, graph).relu(), 1e-5)
    hooked = as_layered(pyg.GCN(5, 4, 2, 3))  # known, though it runs as it is
    hooked.blocks[0].conv.register_forward_hook(lambda module, inputs, out: 2 * out)
    assert_equal(streamed(hooked, graph, 50), evaluated(hooked, graph), 1e-5)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("stop", ["run to the end", "closed", "failed", "not started"])
def test_training_modes_are_set_back(stop):
    model = gsnn.GIN(5, 4, 3, 2, dropout=0.5, norm="batch_norm").train()
    list(model.modules())[4].eval()
    next(m for m in model.modules() if isinstance(m, nn.Dropout)).eval()
    before = modes(model)
    graph = Graph.from_arrays(torch.randint(0, 9, (2, 20)), torch.randn(9, 5), num_nodes=9)
    statistics = {k: v.clone() for k, v in model.state_dict().items()}
    chunks = stream(model, graph, chunk_rows=2)
    if stop != "not started":
        next(chunks)
        assert not any(modes(model))
        assert torch.is_grad_enabled()
    if stop == "run to the end":
        list(chunks)
    elif stop == "failed":
        with pytest.raises(KeyError):
            chunks.throw(KeyError("elsewhere"))
    chunks.close()
    assert modes(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, statistics[name]), name


def test_no_more_layers_are_kept_than_needed(monkeypatch):
    model = gsnn.GCN(5, 4, 6, 2, residual=True)
    graph = Graph.from_arrays(torch.randint(0, 9, (2, 20)), torch.randn(9, 5), num_nodes=9)
    kept = []
    original = Execution._pass

    def watched(self, *arguments):
        kept.append(len(self.slots))
        return original(self, *arguments)

    monkeypatch.setattr(Execution, "_pass", watched)
    streamed(model, graph, 4)
    assert max(kept) <= 1  # a residual lives for its block only


def test_files_of_layers_are_gone_in_the_end_and_on_the_way(tmp_path):
    model = gsnn.GCN(5, 4, 4, 2)
    graph = Graph.from_arrays(torch.randint(0, 9, (2, 20)), torch.randn(9, 5), num_nodes=9)
    chunks = stream(model, graph, chunk_rows=2, storage=tmp_path)
    next(chunks)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    chunks.close()
    assert list(tmp_path.iterdir()) == []


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_not_a_crash(tmp_path, monkeypatch):
    model = gsnn.GCN(5, 4, 2, 2)
    graph = Graph.from_arrays(torch.randint(0, 9, (2, 20)), torch.randn(9, 5), num_nodes=9)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"output of a layer, .* GB, .* No space left"):
        streamed_into(model, graph, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert model.training
    with pytest.raises(StoreError, match=r"could not write to .*nowhere"):
        streamed_into(model, graph, tmp_path / "nowhere")


def streamed_into(model, graph, folder: Path) -> None:
    for _ in stream(model, graph, storage=folder):
        pass


def test_what_is_refused():
    edges = torch.randint(0, 9, (2, 20))
    graph = Graph.from_arrays(edges, torch.randn(9, 5), num_nodes=9)
    bare = Graph.from_arrays(edges, num_nodes=9)
    with pytest.raises(InputError, match="no features x"):
        streamed(gsnn.GCN(5, 4, 2, 2), bare)
    with pytest.raises(InputError, match="no features x"):
        predict(gsnn.GCN(5, 4, 2, 2), bare, memory="1GB")
    for name in ("GCN", "GraphSAGE", "GIN", "GAT", "MLP"):
        model = getattr(gsnn, name)(7, 4, 2, out_channels=2)
        with pytest.raises(InputError, match=r"takes 7 features, the graph has 5.*in_channels=5"):
            streamed(model, graph)
    with pytest.raises(InputError, match="chunk_rows=0"):
        streamed(gsnn.GCN(5, 4, 2, 2), graph, 0)

    class Wrong(nn.Module):
        def forward(self, x, edge_index):
            return x[1:]

    with pytest.raises(InputError, match=r"Wrong returned .* one row per node"):
        streamed(LayeredGNN([Block(Wrong(), hops=1)]), graph)

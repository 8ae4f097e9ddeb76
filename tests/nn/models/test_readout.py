"""Readouts and GraphModel: equal to PyG's pooling, and a graph does not see those beside it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import aggr, global_mean_pool, resolver
from torch_geometric.nn.models import GCN as PyGGCN

from gnnscale.errors import InputError
from gnnscale.nn import GAT, GCN, GIN, Block, GraphModel, LayeredGNN, from_spec
from gnnscale.nn.models.readout import READOUTS, ChannelReadout
from gnnscale.nn.norms.segments import segment_of_rows

sizes = st.lists(st.integers(0, 6), min_size=1, max_size=8)


def pointers(counts):
    return torch.tensor([0, *counts]).cumsum(0)


def rings(counts):
    """Directed rings side by side: edges, and where each begins."""
    ptr = pointers(counts)
    edges = [(start + i, start + (i + 1) % n) for start, n in zip(ptr, counts) for i in range(n)]  # noqa: B905
    return torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T, ptr


@given(counts=sizes, reduce=st.sampled_from(["sum", "mean", "max"]), seed=st.integers(0, 99))
def test_readouts_are_pygs_aggregations(counts, reduce, seed):
    torch.manual_seed(seed)
    ptr = pointers(counts)
    x = torch.randn(int(ptr[-1]), 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(len(counts), 5, dtype=torch.float64)
    index = segment_of_rows(ptr, x.size(0))
    out = ChannelReadout(reduce)(x, ptr)
    expected = resolver.aggregation_resolver(reduce)(x, index, dim_size=len(counts))
    torch.testing.assert_close(out, expected)
    grads = [torch.autograd.grad((o * weight).sum(), x)[0] for o in (out, expected)]
    torch.testing.assert_close(*grads)


@given(counts=sizes)
def test_attention_is_a_softmax_over_each_graph(counts):
    ptr = pointers(counts)
    encoder = LayeredGNN([Block(nn.Linear(3, 4), act=None)])
    readout = GraphModel(encoder, "attention").readout
    x = torch.randn(int(ptr[-1]), 4)
    gate = readout.aggregation.gate_nn(x)
    for graph, (start, end) in enumerate(pairwise(ptr)):
        expected = (gate[start:end].softmax(0) * x[start:end]).sum(0)
        torch.testing.assert_close(readout(x, ptr)[graph], expected)


def test_half_precision_is_summed_in_float32():
    x = torch.ones(1000, 1, dtype=torch.bfloat16)
    assert ChannelReadout("sum")(x, torch.tensor([0, 1000])) == 1000


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("jk", [None, "last", "cat", "max"])
@pytest.mark.parametrize("norm", [None, "graph_norm", "instance_norm"])
def test_a_graph_does_not_see_those_beside_it(readout, jk, norm):
    counts = [4, 1, 3, 0, 5]
    edges, ptr = rings(counts)
    x = torch.randn(int(ptr[-1]), 3)
    model = GraphModel(GIN(3, 8, 2, out_channels=2, jk=jk, norm=norm), readout).eval()
    together = model(x, edges, ptr=ptr)
    for graph, n in enumerate(counts):
        alone = model(x[ptr[graph] : ptr[graph + 1]], rings([n])[0])
        torch.testing.assert_close(together[graph : graph + 1], alone)


def test_the_mean_readout_is_pygs_pooling_of_pygs_model():
    edges, ptr = rings([4, 1, 3])
    x, batch = torch.randn(8, 3), segment_of_rows(ptr, 8)
    network = PyGGCN(3, 8, 3, out_channels=2, jk="cat", norm="graph_norm").eval()
    expected = global_mean_pool(network(x, edges, batch=batch), batch)
    model = GraphModel(network, "mean").eval()
    torch.testing.assert_close(model(x, edges, batch=batch), expected)
    assert {id(p) for p in model.parameters()} == {id(p) for p in network.parameters()}


def test_a_linear_head_on_all_layers_is_one_classifier_a_layer():
    """Xu et al., ICLR 2019, eq. 4.2, the features as layer 0."""
    edges, ptr = rings([4, 1, 3])
    x = torch.randn(8, 3)
    gin = GIN(3, 8, 2, jk="cat")
    head = nn.Linear(3 + 8 + 8, 2)
    blocks = [Block(nn.Identity(), act=None), *gin.blocks]
    model = GraphModel(LayeredGNN(blocks, head, jk="cat"), "sum")
    layers = [x]
    for depth in (1, 2):
        cut = LayeredGNN(list(gin.blocks)[:depth])
        layers.append(cut(x, edges))
    parts = head.weight.split([3, 8, 8], 1)
    pooled = [aggr.SumAggregation()(layer, segment_of_rows(ptr, 8)) for layer in layers]
    expected = head.bias + sum(p @ w.T for p, w in zip(pooled, parts, strict=True))
    torch.testing.assert_close(model(x, edges, ptr=ptr), expected)


def test_layers_are_read_out_one_by_one_or_side_by_side():
    class Plain(nn.Module):
        def forward(self, x, ptr):
            return ChannelReadout("sum")(x, ptr)

    edges, ptr = rings([4, 1, 3])
    x = torch.randn(8, 3)
    gin = GIN(3, 8, 3, out_channels=2, jk="cat", norm="batch_norm")
    named, own = GraphModel(gin, "sum").eval(), GraphModel(gin, Plain()).eval()
    torch.testing.assert_close(named(x, edges, ptr=ptr), own(x, edges, ptr=ptr))


def test_an_aggregation_may_change_the_width():
    edges, ptr = rings([4, 0, 3])
    model = GraphModel(GCN(3, 8, 2), aggr.Set2Set(8, processing_steps=2)).eval()
    assert model(torch.randn(7, 3), edges, ptr=ptr).shape == (3, 16)


def test_dropout_before_the_head_depends_on_the_graph_alone():
    edges, ptr = rings([3] * 40)
    model = GraphModel(GIN(1, 16, 1, out_channels=16), "sum", dropout=0.5).train()
    torch.manual_seed(7)
    out = model(torch.ones(120, 1), edges, ptr=ptr)
    torch.manual_seed(7)
    first = model(torch.ones(30, 1), rings([3] * 10)[0], ptr=ptr[:11])
    torch.testing.assert_close(out[:10], first)
    assert 0.3 < float((out == 0).float().mean()) < 0.7


@pytest.mark.parametrize("readout", READOUTS)
def test_a_model_is_built_again_from_its_spec(readout):
    edges, ptr = rings([4, 3])
    x = torch.randn(7, 3)
    model = GraphModel(GAT(3, 8, 2, out_channels=2, jk="max"), readout, dropout=0.25).eval()
    again = from_spec(model.spec).eval()
    assert again.signature() == model.signature()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x, edges, ptr=ptr), model(x, edges, ptr=ptr))
    assert GraphModel(GAT(3, 8, 2), aggr.MaxAggregation()).spec is None


def test_faults_are_named():
    edges, _ = rings([3])
    model = GraphModel(GCN(3, 4, 1), "sum")
    for wrong in ("median", 3, nn.functional.relu):
        with pytest.raises(InputError, match="sum, mean, max, attention"):
            GraphModel(GCN(3, 4, 1), wrong)
    with pytest.raises(InputError, match="probability"):
        GraphModel(GCN(3, 4, 1), dropout=1.5)
    with pytest.raises(InputError, match="GraphModel already"):
        GraphModel(model)
    for graphs in (
        {"batch": torch.tensor([0, 1, 0])},
        {"ptr": torch.tensor([0, 2])},
        {"ptr": torch.tensor([0, 3]), "batch": torch.zeros(3, dtype=torch.int64)},
    ):
        with pytest.raises(InputError, match=r"ptr|batch"):
            model(torch.ones(3, 3), edges, **graphs)

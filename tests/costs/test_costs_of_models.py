"""What costs are stated: work as loops execute it, depth as operations wait, what torch keeps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

import gnnscale as gs
from gnnscale.costs.amounts import Amount, Sizes
from gnnscale.costs.epochs import propagated
from gnnscale.costs.reading import costs_of, halo_rows, sizes_of_graph
from gnnscale.errors import InputError
from gnnscale.nn import Block, Context, LayeredGNN
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
    return pyg.GINConv(nn.Sequential(nn.Linear(wide, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out)), 0.5)


CONVOLUTIONS = {
    "GCN": pyg.GCNConv,
    "SAGE": pyg.SAGEConv,
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
    return tape, costs_of(model, graph.x, graph.carried), model


@pytest.mark.parametrize("name", CONVOLUTIONS)
@few
@given(
    graphs(min_nodes=1, max_nodes=6, max_edges=10, features=IN, weighted=False), WIDTHS
)
def test_work_and_depth_are_those_of_the_loops(name, graph, widths):
    tape, costs, _ = executed(name, graph, *widths)
    sizes = sizes_of_graph(graph)
    assert costs.forward.of(sizes) == tape.work
    assert costs.backward.of(sizes) == tape.backward()
    if name != "GAT" or not sizes.loops:  # whose degrees count a node's loops as one
        assert costs.depth(sizes) == tape.depth()


@pytest.mark.parametrize("name", ["GCN", "SAGE", "SGC"])
@few
@given(graphs(min_nodes=2, max_nodes=6, max_edges=10, features=IN, weighted=False), st.data())
def test_what_parts_send_are_values_that_others_read(name, graph, data):
    """Each value that a row elsewhere depends on goes once to each part; or once for every edge."""
    parts = data.draw(st.lists(st.integers(0, 2), min_size=graph.num_nodes, max_size=graph.num_nodes))
    tape, costs, _ = executed(name, graph, 3, 2)
    owner, sent, by_edge = {}, set(), 0
    width = len(tape.products)
    for pairs, out in tape.products:
        del width
        break
    # Rows of sparse products read values of several nodes; those of dense ones of their own.
    reads = [(pairs, out) for pairs, out in tape.products]
    row_of = rows_of(tape, graph, reads)
    for pairs, out in reads:
        for factor, value in pairs:
            if value in row_of and row_of[out] != row_of[value]:
                owner[value] = parts[row_of[value]]
                if parts[row_of[out]] != owner[value]:
                    sent.add((value, parts[row_of[out]]))
                    by_edge += 1
    rows, cut = halo_rows(graph.adj, torch.tensor(parts))
    assert propagated(costs, rows)[0] == 8 * len(sent)
    assert propagated(costs, cut)[0] == 8 * by_edge

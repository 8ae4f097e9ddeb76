"""Opaque layers within a bound: a piece takes its share, or the bound that would do is named."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric import nn as pyg

from gnnscale.costs.convolutions import most_edges, output_bytes, piece_cost, reachable_edges
from gnnscale.costs.inference import inference_budget
from gnnscale.costs.peak import PeakBytes
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference import stream
from gnnscale.inference.pieces import Pieces
from gnnscale.nn import Block, LayeredGNN
from gnnscale.nn.blocks.phases import Neighbourhood
from gnnscale.nn.blocks.reach import halo
from gnnscale.storage.memory import in_words, memory_bytes
from tests.helpers.layers import assert_equal, evaluated, few, shaken
from tests.helpers.strategies import graphs

IN, OUT = 5, 4


def opaque_gcn(width: int, out: int) -> nn.Module:
    conv = pyg.SGConv(width, out, K=2)
    conv.register_forward_hook(lambda module, arguments, out: None)
    return conv


CONVS = {
    "GAT": lambda width, out: pyg.GATConv(width, out, heads=2, concat=False),
    "GATv2": pyg.GATv2Conv,
    "SAGE, max": lambda width, out: pyg.SAGEConv(width, out, aggr=["max", "mean"]),
    "PNA": lambda width, out: pyg.PNAConv(
        width, out, ["mean", "max"], ["identity"], torch.tensor([0, 3, 2])
    ),
    "Edge": lambda width, out: pyg.EdgeConv(nn.Linear(2 * width, out)),
    "two hops": opaque_gcn,
}


def with_hubs(nodes: int, hubs: int, steep: float, seed: int) -> Graph:
    """Stars, or a power law of in-degrees, both ways."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.arange(1, nodes + 1).double() ** -steep
    target = weight.multinomial(3 * nodes, replacement=True, generator=random)
    target = torch.where(torch.rand(3 * nodes, generator=random) < 0.5, target % hubs, target)
    edges = torch.stack([torch.randint(nodes, target.shape, generator=random), target])
    x = torch.randn(nodes, IN, generator=random, dtype=torch.float64)
    return Graph.from_arrays(torch.cat([edges, edges.flip(0)], dim=1), x)


@pytest.mark.parametrize("name", CONVS)
@settings(few, max_examples=4)
@given(
    st.builds(
        with_hubs, st.integers(40, 200), st.integers(1, 3), st.sampled_from([0.0, 1.5]),
        st.integers(0, 99),
    ),
    st.sampled_from(["60kB", "200kB", "600kB", "2MB"]),
    st.sampled_from([None, 16]),
)  # fmt: skip
def test_every_piece_takes_its_share_or_the_bound_is_named(name, graph, memory, chunk_rows):
    model = shaken(LayeredGNN([Block(CONVS[name](IN, OUT)), Block(CONVS[name](OUT, 30))]))
    taken: list[tuple[int, int, bool]] = []
    run = Pieces._run

    def watched(self, around, layer):
        with PeakBytes() as counted:
            out = run(self, around, layer)
        expected = self.cost.of(around.nodes.numel(), around.edges.numel())
        taken.append((counted.peak, expected, expected <= self._budget.piece))
        return out

    def streamed(bound):
        chunks = stream(model, graph, memory=bound, chunk_rows=chunk_rows)
        return torch.cat([out.clone() for *_, out in chunks])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pieces, "_run", watched)
        try:
            found = streamed(memory)
        except InputError as error:
            assert not taken  # before any work
            bound = re.search(r"memory='(\w[\w.]*)'", str(error)[str(error).index("ive ") :])[1]
            assert memory_bytes(bound) > memory_bytes(memory)
            found = streamed(bound)
    assert all(peak <= expected and within for peak, expected, within in taken)
    assert_equal(found, evaluated(model, graph), 1e-8)


@pytest.mark.parametrize("name", CONVS)
def test_the_cost_of_a_star_is_what_it_takes(name):
    phase = Neighbourhood(CONVS[name](IN, OUT).eval(), 0)
    cost = piece_cost(phase, [IN], torch.float32, {}, torch.device("cpu"))
    for nodes, copies in ((3000, 1), (300, 10)):
        into = torch.arange(nodes).repeat(copies)
        with PeakBytes() as counted, torch.no_grad():
            phase.run(torch.randn(nodes, IN), torch.stack([into, 0 * into]), {})
        expected = cost.counted(nodes, len(into))
        assert counted.peak <= expected <= 2 * counted.peak + 60 * len(into)


@few
@given(graphs(min_nodes=1, duplicates=False), st.integers(1, 3))
def test_no_halo_reads_more_edges_than_is_said(graph, hops):
    said = reachable_edges(graph.adj, hops)
    assert most_edges(graph.adj) == int(reachable_edges(graph.adj, 1).max())
    for row in range(graph.num_nodes):
        edges = halo(graph.adj, torch.tensor([row]), hops).edges.numel()
        assert edges <= said[row]
        assert hops > 1 or edges == said[row]
        assert halo(graph.adj, torch.tensor([row]), hops, most=edges) is not None
        if edges:
            assert halo(graph.adj, torch.tensor([row]), hops, most=edges - 1) is None


@few
@given(st.integers(1, 10**10), st.integers(0, 10**9), st.integers(1, 10**7), st.booleans())
def test_the_bound_that_is_named_would_do(piece, held, nodes, files):
    small = with_hubs(8, 1, 0.0, 0)
    of_small = {"num_features": IN, "x": small.x, "adj": small.adj, "node_ptr": None}
    graph: Any = SimpleNamespace(num_nodes=nodes, **of_small)
    model = LayeredGNN([Block(pyg.GATConv(IN, OUT)), Block(pyg.GCNConv(OUT, 3))])
    options = {"in_files": files, "held": held}
    try:
        budget = inference_budget(model, graph, torch.device("cpu"), 10**6 + nodes, **options)
    except InputError as error:
        bound = re.search(r"give memory='(.*?)'", str(error))[1]
    else:
        piece = max(piece, budget.piece + 1)
        bound = re.search(r"memory='(.*?)'", budget.too_small_for(piece))[1]
        assert inference_budget(model, graph, torch.device("cpu"), bound, **options).piece >= piece
    inference_budget(model, graph, torch.device("cpu"), bound, **options)


@few
@given(st.integers(0, 10**13))
def test_sizes_in_words_are_read_back_and_hold_what_they_say(size):
    assert size <= memory_bytes(in_words(max(size, 1))) <= 1.02 * max(size, 1)


class Counting(nn.Module):
    """Counts its runs, whichever copy of it runs."""

    runs = 0

    def forward(self, x, edge_index):
        Counting.runs += 1
        return x


def test_how_wide_rows_are_is_found_by_one_run_of_each_layer():
    model = LayeredGNN([Block(Counting(), act=None), Block(Counting(), act=None)])
    Counting.runs = 0
    assert output_bytes(model, with_hubs(8, 1, 0.0, 0), torch.device("cpu")) == 8 * IN
    assert Counting.runs == 2

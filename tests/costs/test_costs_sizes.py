"""What is chosen by sizes: batches that fit caches, steps enough, and no part too many."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn import GATConv, GraphSAGE
from torch_geometric.utils import subgraph

import gnnscale as gs
from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.graphs import sizes_of_some
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.sizes import Seen, choose_sizes, evaluation_interval, row_bytes
from gnnscale.graph import Partition, cluster
from gnnscale.kernels import CSR
from gnnscale.nn import Block, LayeredGNN
from gnnscale.train import ClusterTrainer
from tests.helpers.graphs import several_graphs
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph


@settings(max_examples=300)
@given(
    nodes=st.integers(1, 10**8),
    degree=st.floats(0, 2000),
    graphs=st.integers(1, 2000),
    row=st.integers(4, 10**5),
)
def test_a_batch_fits_and_an_epoch_has_steps(nodes, degree, graphs, row):
    graphs = min(graphs, nodes)
    parts, drawn = choose_sizes(Seen(nodes, int(nodes * degree), graphs), row, None, None)
    assert graphs <= parts <= nodes and 1 <= drawn <= parts
    batch = nodes * drawn / parts
    slack = 1.5  # a part is the least that a batch can be changed by
    assert drawn == 1 or batch * row <= slack * (8 << 20)
    assert drawn == 1 or batch * degree <= slack * (1 << 20)
    assert drawn == 1 or batch <= slack * max(512, nodes / 8)
    if graphs == 1:
        assert drawn <= 10


@given(st.integers(1, 10**6), st.integers(1, 500), st.integers(1, 500))
def test_what_is_given_is_kept_and_the_batch_stays_as_large(nodes, parts, drawn):
    seen, row = Seen(nodes, 10 * nodes, 1), 1024
    batch = choose_sizes(seen, row, nodes, None)[1]  # where every node is a part
    assert choose_sizes(seen, row, parts, drawn) == (parts, drawn)
    chosen = choose_sizes(seen, row, parts, None)
    assert chosen[0] == parts and 1 <= chosen[1] <= parts
    assert abs(chosen[1] - batch * parts / nodes) <= 0.5 or chosen[1] in (1, parts)
    chosen = choose_sizes(seen, row, None, drawn)
    assert chosen[1] == drawn
    assert nodes * drawn / chosen[0] <= batch or chosen[0] == nodes


def test_papers_sizes():
    """Of Amazon2M (hidden 400), Reddit and PPI, beside 1,710, 3,067 and 900 nodes in the paper."""
    for seen, row, low, high in [
        (Seen(1_709_997, 61_859_140, 1), 1600, 4000, 6000),
        (Seen(153_431, 50_000_000, 1), 2408, 2500, 4000),
        (Seen(44_906, 1_226_368, 20), 2048, 3500, 4500),
    ]:
        parts, drawn = choose_sizes(seen, row, None, None)
        assert low <= seen.nodes * drawn / parts <= high


def test_what_is_trained_on_is_counted():
    graph = several_graphs("masks")
    assert Seen.of(graph, "default", False) == (72, graph.num_edges, 3)
    assert Seen.of(several_graphs("one"), "default", True)[::2] == (1, 1)
    first = several_graphs("first")
    inside = subgraph(first.train_mask, first.edge_index)[0].size(1)
    assert Seen.of(first, "default", True) == (30, inside, 1)
    estimated = Seen.of(graph, "default", True)
    inside = subgraph(graph.train_mask, graph.edge_index)[0].size(1)
    assert estimated.edges == pytest.approx(inside, rel=0.5)


def test_every_graph_is_a_part_at_least():
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES)
    for kind, inductive, parts in [("all", False, 3), ("masks", True, 3), ("first", True, 1)]:
        config = ClusterTrainer(model, several_graphs(kind), inductive=inductive).config
        assert (config.num_parts, config.clusters_per_batch) == (parts, parts)


def test_the_widest_row():
    graph = small_graph()
    assert row_bytes(GraphSAGE(-1, 100, 2, 7), graph) == 400
    assert row_bytes([GATConv(IN, 8, heads=4)], graph) == 128
    assert row_bytes(gs.nn.GCN(IN, 2, 2, 2), graph) == 4 * IN


def test_clusters_of_a_view_are_counted_where_they_are_given():
    """The rest of a store's clusters hold no training nodes."""
    graph = several_graphs("first", sizes=(30, 600, 600))
    ids = torch.arange(graph.num_nodes)
    part = Partition(torch.where(ids < 30, ids % 3, 3 + (ids - 30) // 100), 3 + 12)
    model = gs.nn.GCN(IN, HIDDEN, 2, CLASSES)
    trainer = ClusterTrainer(model, cluster(graph, part), inductive=True)
    assert (trainer.config.num_parts, trainer.config.clusters_per_batch) == (15, 3)
    assert (trainer.loader.clusters_drawn, len(trainer.loader)) == (3, 1)


def some_graphs(x):
    """Twelve rings of 60 nodes, four of which are trained on, and all evaluated."""
    node = torch.arange(720)
    ring = (node + 1) % 60 + node // 60 * 60
    return gs.Graph.from_arrays(
        torch.stack([node, ring]), x, torch.arange(12) % 2, node_ptr=torch.arange(0, 721, 60),
        y_level="graph", num_classes=2, train_mask=node < 240,
        val_mask=(node >= 240) & (node < 480), test_mask=node >= 480,
    )  # fmt: skip


class Picky(torch.nn.Module):
    """Runs on no small piece."""

    def forward(self, x, edge_index):
        assert x.size(0) > 50
        return x


def test_graphs_are_evaluated_by_the_work_of_their_features_whatever_form_these_have():
    x = torch.rand(720, 30) + 1
    ids = torch.tensor([1, 5])
    found = {}
    for name, own in (("dense", x), ("sparse", CSR.from_dense(x))):
        graph = some_graphs(own)
        trainer = gs.GraphTrainer(gs.nn.GCN(30, 4, 1, 2), graph, progress=False)
        found[name] = trainer._evaluator.interval()
        entries = 120 * 30 if name == "sparse" else 0
        assert sizes_of_some(graph, ids) == Sizes(120, 120, entries=entries, segments=2)
    # Three times the graphs, at half the work an edge or so.
    assert found["sparse"] == found["dense"] and 15 <= found["dense"] <= 30


def test_what_runs_on_no_small_piece_is_evaluated_by_the_nodes():
    model = LayeredGNN([Block(Picky(), act=None)], head=torch.nn.Linear(3, 2))
    trainer = gs.GraphTrainer(model, some_graphs(torch.rand(720, 3)), progress=False)
    assert trainer._evaluator.interval() == 15  # 1.5 · 720 nodes beside 3 · 240, ten times
    nothing = Sizes(0, 0)
    assert (
        evaluation_interval(
            Job(trainer.graph, gs.nn.GCN(3, 4, 1, 2)).costs, Sizes(240, 240), nothing
        )
        == 1
    )

"""What an epoch costs under each way to train, against counts over what it does."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import ChebConv, GATConv

import gnnscale as gs
from gnnscale.costs.counted.amounts import Amount, Sizes, total
from gnnscale.costs.counted.epochs import (
    averaged,
    clusters,
    drawn_sizes,
    evaluation,
    full_batch,
    layerwise,
    pipeline,
    propagated,
)
from gnnscale.costs.counted.memory import step_memory
from gnnscale.costs.counted.reading import costs_of, sizes_of_graph
from gnnscale.costs.peak import PeakBytes
from gnnscale.kernels import CSR
from gnnscale.loader.cluster_loader import draw_batches
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.parallel.boundaries import boundaries
from gnnscale.parallel.schedules import make_schedule
from gnnscale.parallel.simulation.simulator import simulate
from tests.helpers.strategies import graphs

few = settings(max_examples=15, deadline=None)
X = torch.randn(3, 5)


@few
@given(graphs(min_nodes=4, max_nodes=12, max_edges=30), st.data())
def test_batches_have_the_sizes_of_the_mean_over_all_draws(graph, data):
    parts = data.draw(st.sampled_from([2, 4]))
    drawn = data.draw(st.integers(1, parts))
    part = torch.arange(graph.num_nodes) % parts
    source, target = part[graph.edge_index]
    whole = sizes_of_graph(graph)
    cut = float((source != target).sum()) / max(whole.edges, 1)
    draws = list(combinations(range(parts), drawn))
    inside = [torch.isin(part, torch.tensor(draw)) for draw in draws]
    edges = [int((chosen[graph.edge_index]).all(0).sum()) for chosen in inside]
    found = drawn_sizes(whole, parts, drawn, cut)
    assert found.nodes == pytest.approx(sum(int(c.sum()) for c in inside) / len(draws))
    assert found.edges == pytest.approx(sum(edges) / len(draws))


@given(st.integers(1, 20), st.integers(1, 8))
def test_all_clusters_in_one_batch_are_the_full_batch(parts, ranks):
    costs, whole = costs_of(gs.nn.GCN(5, 6, 2, 3, dropout=0.5), X), Sizes(100, 700, 9)
    one = clusters(costs, whole, parts, parts, 0.4)
    assert one[:4] == pytest.approx(full_batch(costs, whole)[:4])
    assert one.dropped == pytest.approx(0)
    alone = clusters(costs, whole, parts, 1, 0.4)
    beside = clusters(costs, whole, parts, 1, 0.4, ranks=ranks)
    assert alone.dropped == pytest.approx(0.4 if parts > 1 else 0)
    assert beside.work == alone.work and beside.steps == -(-parts // ranks)
    # W/D grows by less than the ranks: the average over them waits.
    assert beside.parallelism <= ranks * alone.parallelism


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_an_average_over_ranks_sends_what_a_ring_does(ranks):
    """Each rank hands a slice on, which is summed on its way round, and then handed round whole."""
    values = [[float(r * ranks + s) for s in range(ranks)] for r in range(ranks)]
    expected = [sum(column) for column in zip(*values, strict=True)]
    sent = rounds = 0
    for turn in range(2 * (ranks - 1)):
        moving = [(r, (r - turn) % ranks, values[r][(r - turn) % ranks]) for r in range(ranks)]
        for r, s, value in moving:
            there = values[(r + 1) % ranks]
            there[s] = there[s] + value if turn < ranks - 1 else value
            sent += 1
        rounds += 1
    assert all(row == expected for row in values)
    assert averaged(ranks, ranks) == (sent, rounds)


MODELS = {
    "GCN": lambda: gs.nn.GCN(5, 6, 4, 3),
    "jumping": lambda: gs.nn.GraphSAGE(5, 6, 4, 3, jk="cat", dropout=0.5),
    "GCNII": lambda: gs.nn.GCNII(5, 6, 3, 3),
    "dense": lambda: gs.nn.DeepGCN(5, 6, 3, 3),
    "GAT": lambda: gs.nn.GAT(5, 6, 3, 3, norm="batch_norm"),
    "TAG": lambda: gs.nn.TAGCN(5, 4, 2, 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_stages_send_what_later_ones_read(name):
    """By the graph of what depends on what, and as the pipeline finds it by running the model."""
    model = MODELS[name]()
    costs = costs_of(model, X)
    blocks = len(model.blocks)
    depends = nx.DiGraph()
    made = {0: 0}
    for number, block in enumerate(costs.blocks):
        stage = min(number, blocks - 1)  # the head goes with the last block
        for placed in block:
            made.setdefault(placed.gives, stage)
            depends.add_edges_from((value, (stage, placed.gives)) for value in placed.takes)
    for cut in range(1, blocks):
        crossing = {
            value
            for value, reader in depends.edges
            if isinstance(reader, tuple) and made[value] < cut <= reader[0]
        }
        stages = pipeline(costs, [Sizes(7, 20, 4), Sizes(9, 30, 4)], [cut])
        rows = sum(costs.values[value].row for value in crossing)
        assert stages.costs.sent == [[7 * rows, 9 * rows]]
        found = boundaries(model)[cut - 1]
        assert stages.costs.sent[0] == [7 * found.bytes_forward, 9 * found.bytes_forward]
        assert stages.costs.returned[0] == [7 * found.bytes_backward, 9 * found.bytes_backward]
        assert stages.epoch.work == sum(costs.step.of(Sizes(n, m)) for n, m in ((7, 20), (9, 30)))
        assert len(stages.kept) == len(stages.memory) == 2
    # What two stages both keep is one value more, never less.
    kept = [costs.of_blocks(n, n + 1).keeps.of(Sizes(7, 20)) for n in range(len(costs.blocks))]
    assert sum(kept) >= costs.keeps.of(Sizes(7, 20))


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("micro_batches", [3, 6])
def test_the_simulator_runs_on_the_same_costs(schedule, micro_batches):
    costs = costs_of(gs.nn.GCN(5, 16, 4, 3, dropout=0.5), X)
    stages = pipeline(costs, [Sizes(50, 300, 9)] * micro_batches, [1, 3], schedule=schedule)
    timeline = simulate(
        make_schedule(schedule, 3, micro_batches),
        {"forward": stages.costs.forward, "backward": stages.costs.backward},  # a second for each
        sent=stages.costs.sent,
        returned=stages.costs.returned,
        activations=stages.kept,
    )
    assert timeline.peak_stage_bytes == [memory.kept for memory in stages.memory]
    assert timeline.bytes_sent.sum() == stages.epoch.sent
    # It takes no less than what the slowest stage does, nor than one micro-batch through all.
    work = [sum(f) + sum(b) for f, b in zip(*stages.costs[:2], strict=True)]
    assert timeline.makespan >= max(*work, sum(work) / micro_batches)


def test_layers_alone_propagate_once_and_learn_rows():
    model, whole = gs.nn.GCN(5, 8, 2, 3), Sizes(100, 700, 9)
    costs = costs_of(model, X, computed="each")
    first, second, _ = layerwise(costs, whole, 40, 16)
    # P x at the input's width, then once all rows of the output; an epoch has no edges.
    assert first.ahead.work == (700 + 100) * 5 + 100 * 5 * 8
    assert second.ahead.work == (700 + 100) * 8 + 100 * 8 * 3
    assert first.epoch.work == 2 * 40 * 5 * 8 and second.epoch.work == 2 * 40 * 8 * 3
    assert first.epoch.steps == 3 and first.epoch.memory.adjacency == 0


def test_what_was_computed_before_is_no_work_of_a_step():
    model, whole = gs.nn.GCN(5, 8, 2, 3), Sizes(100, 700, 9)
    before = costs_of(model, X, computed="first")
    usual = costs_of(model, X)
    hop = total(kernel.work for kernel in before.once)
    assert hop == Amount(edge=5, node=5)
    assert usual.forward.of(whole) - before.forward.of(whole) == hop.of(whole)
    assert step_memory(before, whole, states=2).features == 4 * 100 * (5 + 5)  # P x beside x
    evaluated = costs_of(model, X, training=False)
    assert evaluation(evaluated, whole).work == usual.forward.of(whole)
    assert evaluation(evaluated, whole).memory.kept == 0
    both = total(kernel.moved for kernel in usual.kernels())
    assert evaluation(evaluated, whole).moved == both.of(whole)


# Rows that are read twice get two gradients, which torch adds up in place; while its operations are
# counted it does not, and takes an array more.
TWICE = {"jumping": 0.85, "TAG": 0.6}


@pytest.mark.parametrize("name", [*MODELS, "GIN", "SGC"])
@pytest.mark.parametrize("nodes", [300, 1200])
def test_a_step_has_in_memory_what_is_said(name, nodes):
    """All that torch allocates in a pass, but for workspace within its operations."""
    model = getattr(gs.nn, name)(5, 6, 3, 3) if name not in MODELS else MODELS[name]()
    graph = gs.load(f"synthetic:planted?nodes={nodes}&classes=3")
    x = graph.x[:, :5].contiguous()

    def step():
        context = Context(graph.adj, True, seed=1)
        model(x, graph.adj, context=context).sum().backward()

    step()  # degrees, and the edges in PyG's form
    model.zero_grad()
    with PeakBytes() as counted:
        step()
    said = step_memory(costs_of(model, x), sizes_of_graph(graph), states=0)
    found = said.kept + said.workspace + said.gradients
    assert TWICE.get(name, 0.97) * counted.peak <= found <= 1.15 * counted.peak


def test_what_is_counted_is_numbers_alone():
    """A plan is searched without torch."""
    code = "import sys, gnnscale.costs.counted.epochs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@given(st.integers(1, 40), st.data())
def test_batches_of_an_epoch_have_all_nodes(parts, data):
    """Where clusters do not divide evenly, batches differ by one, as the loader deals them."""
    drawn = data.draw(st.integers(1, parts))
    costs, whole = costs_of(gs.nn.GCN(5, 6, 2, 3), X), Sizes(100, 700, 9)
    dealt = draw_batches(torch.ones(parts).long(), drawn, shuffle=True, seed=1, epoch=0)
    sizes = [drawn_sizes(whole, parts, len(batch), 0.4) for batch in dealt]
    assert sum(own.nodes for own in sizes) == pytest.approx(100)
    found = clusters(costs, whole, parts, drawn, 0.4)
    assert found.work == pytest.approx(sum(map(costs.step.of, sizes)))
    assert found.moved == pytest.approx(sum(map(costs.moved.of, sizes)))
    most = max(step_memory(costs, own, states=2).total for own in sizes)
    assert found.memory.total == pytest.approx(most)
    assert found.dropped == pytest.approx(1 - sum(own.edges for own in sizes) / 700)
    known = clusters(costs, whole, parts, drawn, 0.4, largest=whole)
    assert known.memory == step_memory(costs, whole, states=2)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_batch_has_in_memory_what_is_said(directed, sparse):
    edges = torch.randint(0, 50, (2, 400))
    edges = edges if directed else torch.cat([edges, edges.flip(0)], 1)
    x = torch.randn(50, 6) * (torch.rand(50, 6) < 0.5)
    graph = gs.Graph.from_arrays(
        edges, CSR.from_dense(x) if sparse else x, edge_attr=torch.randn(edges.size(1), 3)
    )
    model = gs.nn.GCN(6, 8, 2, 3)
    sizes = sizes_of_graph(graph)
    said = step_memory(costs_of(model, graph.x, graph.carried), sizes, states=2)
    model(graph.x, graph.adj).sum().backward()
    assert (graph.adj._t is not None) == directed
    own = [graph.adj, graph.adj._t] if directed else [graph.adj]
    structure = sum(adj.indptr.nbytes + adj.indices.nbytes for adj in own)
    vectors = said.adjacency - structure - graph.edge_attr.nbytes
    assert 0 <= vectors <= 12 * 50
    rows = [graph.x.indptr, graph.x.indices, graph.x.values] if sparse else [x]
    held = sum(part.nbytes for part in rows)
    assert said.features >= held if sparse else said.features == held


def test_stages_hold_all_batches_of_a_step_and_what_goes_over_their_ends():
    costs = costs_of(gs.nn.GCN(5, 16, 3, 3), X)
    sizes = [Sizes(50, 300, 9), Sizes(40, 200, 9), Sizes(60, 100, 9)]
    stages = pipeline(costs, sizes, [1, 2])
    alone = [costs.of_blocks(0, 1), costs.of_blocks(1, 2), costs.of_blocks(2, 4)]
    for number, (stage, memory) in enumerate(zip(alone, stages.memory, strict=True)):
        each = [step_memory(stage, own, states=2) for own in sizes]
        assert memory.adjacency == sum(own.adjacency for own in each)
        assert memory.features == (4 * 5 * 150 if number == 0 else 0)
        ends = 4 * 16 * (1 if number in (0, 2) else 2)
        for own, kept in zip(sizes, stages.kept[number], strict=True):
            assert ends * own.nodes <= kept <= stage.keeps.of(own) + ends * own.nodes


def test_a_layer_alone_reads_its_weights_in_every_step():
    costs, whole = costs_of(gs.nn.GCN(5, 8, 2, 3), X, computed="each"), Sizes(100, 700, 9)
    first, second, _ = layerwise(costs, whole, 40, 16)
    block = costs.of_blocks(0, 1)
    rows = block.moved.of(Sizes(40, 0)) - block.moved.fixed
    assert first.epoch.moved == pytest.approx(3 * block.moved.fixed + rows)
    assert first.ahead.memory.adjacency > 0 and second.epoch.memory.features == 4 * 8 * 16
    both = 4 * 100 * (5 + 8)  # what was propagated, and the output
    assert first.ahead.memory.features + first.ahead.memory.workspace >= both


def test_opaque_layers_are_sent_the_rows_that_they_take():
    model = LayeredGNN([Block(GATConv(5, 8, heads=2)), Block(ChebConv(16, 4, K=3), act=None)])
    hops = 4  # two propagations, degrees, and edges that leave
    sent, rounds = propagated(costs_of(model, X), 10)
    assert (sent, rounds) == (4 * 10 * (5 + hops * 16), 1 + hops)


def test_what_a_peak_has_beside_rows_is_no_row_s():
    """Weights that a layer makes larger for itself: once, however many nodes."""

    class Widening(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            return x @ self.weight.repeat(1, 500).reshape(500, 6, 6).mean(0)

    model = LayeredGNN([Block(Widening(), act=None)])
    costs = costs_of(model, torch.randn(3, 6))
    few, many = (costs.peak(Sizes(nodes, 0)) for nodes in (10, 1010))
    assert many - few <= 1000 * 4 * 6 * 4
    assert few >= 500 * 36 * 4


def test_rows_stay_in_slots_whatever_layers_are_called():
    class Save(nn.Module):
        def forward(self, x):
            return x

    def peak(middle):
        wide, narrow = Block(nn.Linear(6, 64), act=None), Block(nn.Linear(64, 2), act=None)
        model = LayeredGNN([wide, Block(middle, act=None), narrow], head=nn.Linear(2, 99))
        return costs_of(model, torch.randn(3, 6), training=False).peak(Sizes(50, 0))

    assert peak(Save()) == peak(nn.Identity())
    costs = costs_of(MODELS["jumping"](), X)
    assert {placed.slot for placed in costs.placed} > {""}

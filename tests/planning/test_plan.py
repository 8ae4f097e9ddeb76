"""What a plan promises, on small graphs and a machine that is made up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv

import gnnscale as gs
from gnnscale.costs.counted.reading import costs_of, sizes_of_graph
from gnnscale.storage.memory import memory_bytes
from tests.helpers.machines import made_up
from tests.helpers.strategies import graphs

few = settings(max_examples=12, deadline=None)
MACHINE = made_up()
WAYS = {
    "cluster": ("clusters", "full batch"),
    "pipeline": ("pipeline of 2",),
    "layerwise": ("layer by layer",),
}


@pytest.fixture(scope="module")
def graph():
    return gs.load("synthetic:planted?nodes=3000&features=16&classes=4")


def gcn(graph, width=16, layers=3):
    torch.manual_seed(0)
    return gs.nn.GCN(getattr(graph, "graph", graph).num_features, width, layers, 4)


def plan(graph, model=None, memory="1GB", machine=MACHINE, **more):
    model = gcn(graph) if model is None else model
    return gs.plan(graph, model, memory, machine=machine, trial=False, **more)


def rings(numbers):
    ring = [torch.arange(n) for n in numbers]
    return [
        Data(
            x=torch.ones(len(r), 1),
            edge_index=torch.stack([torch.cat([r, r.roll(1)]), torch.cat([r.roll(1), r])]),
            y=int(len(r) == 3),
        )
        for r in ring
    ]


# --- the choice ------------------------------------------------------------------------------


@few
@given(
    graphs(min_nodes=2, max_nodes=60, max_edges=200, dtype=torch.float32),
    st.floats(4, 7),
    st.floats(0, 2),
)
def test_more_memory_never_makes_the_recommended_one_slower(graph, digits, more):
    """Unless it comes nearer to the steps that a trainer takes by itself, or trains all layers."""
    model = gs.nn.GCN(5, 4, 2, 3)
    one, other = (plan(graph, model, int(10**power)).best for power in (digits, digits + more))
    if one is None:
        return
    assert other is not None
    assert 1.1 * one.bytes <= 10**digits and 1.1 * other.bytes <= 10 ** (digits + more)
    if (one.configuration.trainer, one.epoch.steps) == (
        other.configuration.trainer,
        other.epoch.steps,
    ):
        assert other.seconds.epoch <= one.seconds.epoch * (1 + 1e-9)


@pytest.mark.parametrize("memory", ["300kB", "1MB", "10MB", "1GB"])
def test_the_recommended_one_fits_and_none_of_its_like_is_faster(graph, memory):
    found = plan(graph, memory=memory)
    best = found.best
    if best is None:
        assert all(1.1 * one.bytes > memory_bytes(memory) for one in found.predictions)
        return
    assert best in found.predictions and best.bytes <= memory_bytes(memory)
    like = [
        one
        for one in found.predictions
        if one.configuration.ranks == 1
        and one.configuration.trainer == best.configuration.trainer
        and one.epoch.steps == best.epoch.steps
        and one.epoch.dropped <= best.epoch.dropped
        and 1.1 * one.bytes <= memory_bytes(memory)
    ]
    assert best.seconds.epoch == min(one.seconds.epoch for one in like)


def test_where_nothing_fits_the_least_that_would_do_is_said_and_does(graph):
    found = plan(graph, memory="1kB")
    assert found.best is None
    with pytest.raises(gs.InputError, match="nothing fits in 1kB: the least is ") as refused:
        found.trainer()
    least = str(refused.value).split("the least is ")[1].split(",")[0]
    assert plan(graph, memory=least).best is not None
    assert "recommended" in found.table()


def test_layer_by_layer_is_recommended_where_it_is_asked_for_or_nothing_else_fits(graph):
    assert plan(graph).best.configuration.trainer == "cluster"
    assert plan(graph, trainers=["layerwise", "cluster"]).best.configuration.trainer == "layerwise"
    assert plan(graph, trainers=["cluster", "layerwise"]).best.configuration.trainer == "cluster"


def test_a_small_graph_is_trained_at_once_and_a_larger_one_in_clusters(graph):
    assert plan(graph).best.configuration.is_full_batch
    larger = gs.load("synthetic:planted?nodes=20000&features=16&classes=4")
    best = plan(larger).best
    assert not best.configuration.is_full_batch
    usual = gs.ClusterTrainer(gcn(larger), larger).config
    rows = usual.clusters_per_batch / usual.num_parts
    assert 1 / 4 <= 1 / best.epoch.steps / rows <= 4


# --- what is said ----------------------------------------------------------------------------


@pytest.mark.parametrize("trainers", [None, ["cluster"], ["pipeline"], ["layerwise"]])
def test_the_table_has_every_way_that_was_asked_for(graph, trainers):
    table = plan(graph, trainers=trainers, ranks=2).table()
    for trainer, ways in WAYS.items():
        for way in ways:
            assert (way in table.split("forward  ")[0]) == (
                trainers is None or trainer in trainers
            ), way
    for word in ("W/D", "parameters", "dropped", "bound by", "twice the memory", "twice the ranks"):
        assert word in table
    assert max(map(len, table.splitlines())) <= 120


def test_parts_of_memory_sum_to_all_of_it(graph):
    for one in plan(graph).predictions:
        assert sum(one.memory.parts.values()) == pytest.approx(one.bytes)


def test_work_and_depth_are_what_is_counted(graph):
    found = plan(graph)
    costs, sizes = costs_of(gcn(graph), graph.x), sizes_of_graph(graph)
    for one in found.predictions:
        if one.configuration.is_full_batch and not one.configuration.checkpoint:
            assert one.epoch.work == pytest.approx(costs.step.of(sizes))
            assert one.epoch.depth == costs.depth(sizes) + costs.depth_backward(sizes)
        assert one.epoch.parallelism == one.epoch.work / one.epoch.depth
    again = [one.configuration.checkpoint for one in plan(graph, memory="100kB").predictions]
    assert any(again)


def test_without_a_machine_there_are_no_seconds(graph, tmp_path):
    found = plan(graph, machine=None)
    assert all(one.seconds is None for one in found.predictions)
    assert "bound by" not in found.table() and found.best is not None
    found.plot(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 10_000
    with pytest.raises(gs.InputError, match="PNG"):
        found.plot(tmp_path / "plan.pdf")


def test_twice_as_much_is_a_line_each(graph):
    memory, cores, ranks = plan(graph, memory="10MB").changes
    assert memory.startswith("twice the memory, 20MB: ")
    assert cores.startswith("twice the cores, 4: ")
    assert ranks.startswith("twice the ranks, 2: ")
    times = float(cores.split(": ")[1].split()[0])
    assert 1 <= times <= 2  # by W/p + D


def test_staleness_buys_no_more_than_the_waiting(graph):
    found = plan(graph, trainers=["pipeline"], ranks=2).staleness()
    faster = [one.faster for one in found.weights.values()]
    assert min(faster) >= 1 and faster == sorted(faster)
    layers = [one.faster for one in found.neighbours.values()]
    assert list(found.neighbours) == [1, 2, 3]
    assert min(layers) >= 1 and layers == sorted(layers)
    assert any("gnnscale does neither" in line for line in found.words())
    # Without a machine nothing is sent: what is bought is the bubble of stages, and no more.
    found = plan(graph, trainers=["pipeline"], ranks=2, machine=None).staleness()
    bubble = (found.micro_batches + found.stages - 1) / found.micro_batches
    assert all(1 <= one.faster <= bubble + 1e-9 for one in found.weights.values())
    assert not found.neighbours


# --- the trainer -----------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["cluster", "layerwise"])
def test_the_trainer_has_the_settings_of_the_plan_and_trains(graph, trainer):
    found = plan(graph, trainers=[trainer], seed=3)
    made = found.trainer(epochs=1, progress=False)
    report = made.fit()
    assert report.rows
    config, best = made.config, found.best.configuration
    assert config.seed == 3 and config.memory == memory_bytes("1GB")
    if trainer == "cluster":
        assert (config.num_parts, config.clusters_per_batch) == (best.parts, best.clusters)
        assert config.checkpoint_activations == best.checkpoint
    else:
        assert config.batch_rows == best.batch_rows


def test_any_prediction_can_be_built_and_clusters_in_files_lie_in_files(graph):
    found = plan(graph, memory="200kB")
    in_files = next(
        one
        for one in found.predictions
        if one.configuration.trainer == "cluster"
        and one.configuration.storage == "files"
        and one.configuration.parts > 1
        and one.configuration.ranks == 1
    )
    trainer = found.trainer(in_files, epochs=1)
    assert str(trainer.config.store).endswith("clusters")


def test_the_trainer_refuses_what_the_plan_has_decided(graph):
    found = plan(graph)
    with pytest.raises(gs.InputError, match="the plan has decided num_parts"):
        found.trainer(num_parts=3)
    several = next(one for one in found.predictions if one.configuration.ranks == 2)
    with pytest.raises(gs.InputError, match="torchrun --nproc-per-node 2"):
        found.trainer(several)


def test_graphs_are_planned_as_graphs():
    data = rings((3, 4, 5, 6) * 20)
    model = gs.nn.GIN(1, 8, 2, out_channels=2, jk="cat")
    found = plan(data, model, readout="sum")
    assert {one.configuration.trainer for one in found.predictions} == {"graph"}
    best = found.best.configuration
    with pytest.raises(gs.InputError, match="the plan has decided readout"):
        found.trainer(readout="mean")
    assert best.graphs <= 80
    assert "graphs" in found.table()
    with pytest.raises(gs.InputError, match="'cluster' is not for many graphs"):
        plan(data, model, readout="sum", trainers=["cluster"])


# --- what there may be -----------------------------------------------------------------------


def test_a_lazy_model_is_planned_and_stays_lazy(graph):
    model = gs.nn.GCN(-1, 16, 3, 4)
    found = plan(graph, model)
    assert any(map(is_lazy, model.parameters()))
    known = plan(graph, gs.nn.GCN(16, 16, 3, 4))
    assert [one.epoch for one in found.predictions] == [one.epoch for one in known.predictions]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_few_nodes_without_edges_labels_or_split(nodes):
    nothing = torch.empty(2, 0, dtype=torch.int64)
    graph = gs.Graph.from_arrays(edge_index=nothing, x=torch.ones(nodes, 3))
    found = plan(graph, gs.nn.GCN(3, 4, 2, 1))
    assert found.best is not None and math.isfinite(found.best.epoch.parallelism)
    assert found.table()


def test_what_cannot_be_planned_is_refused_by_name(graph):
    class Odd(nn.Module):
        def forward(self, x, edge_index):
            raise RuntimeError("not today")

    for wrong, match in (
        ({"model": [GCNConv(16, 8), Odd()]}, "Odd"),
        ({"model": gs.nn.GCN(17, 8, 2, 4)}, "17"),
        ({"memory": "lots"}, "memory="),
        ({"ranks": 0}, "ranks"),
        ({"trainers": ["fast"]}, "'fast'"),
        ({"trainers": []}, "name one at least"),
        ({"split": "none"}, "split"),
        ({"devices": []}, "devices"),
    ):
        with pytest.raises(gs.GnnscaleError, match=match):
            plan(graph, **wrong)
    with pytest.raises(gs.InputError, match="no features"):
        bare = gs.Graph.from_arrays(edge_index=torch.tensor([[0], [1]]), num_nodes=2)
        plan(bare, gs.nn.GCN(3, 4, 2, 1))


def test_opaque_layers_and_many_parts(graph):
    model = [GATConv(16, 8, heads=2), GATConv(16, 4)]
    assert plan(graph, model).best is not None
    alone = torch.arange(graph.num_nodes)
    clustered = gs.cluster(graph, gs.Partition(alone, graph.num_nodes))
    found = plan(clustered)
    assert found.best is not None and len(found.predictions) < 500


def test_work_of_clusters_is_that_of_their_batches(graph):
    part = gs.partition(graph, 12, method="contiguous")
    clustered = gs.cluster(graph, part)
    costs = costs_of(gcn(graph), graph.x)
    trainer = gs.ClusterTrainer(gcn(graph), clustered, clusters_per_batch=1)
    trainer.prepare()
    work = sum(
        costs.step.of(sizes_of_graph(graph)._replace(nodes=b.num_nodes, edges=b.adj.num_edges))
        for b in trainer.loader
    )
    found = [
        one
        for one in plan(clustered).predictions
        if one.configuration.clusters == 1 and one.configuration.trainer == "cluster"
    ]
    assert found and found[0].epoch.work == pytest.approx(work)
    assert found[0].epoch.dropped == pytest.approx(part.quality(graph).edge_cut)

"""Every trainer looks at a loss before it trains, and learns from what it may be."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import InputError
from tests.helpers import own_tasks, rank_runs, small_runs
from tests.helpers.own_tasks import RUNS, InBatch, learnt, rows_of, run_of
from tests.helpers.small_runs import (
    CLASSES,
    MODELS,
    assert_same,
    small_graph,
    small_trainer,
    with_functions,
)
from tests.train.steps.losses import CE, RANDOM, SUMS, Loss


class Mean(gs.NodeTask):
    def loss(self, out, batch):
        return CE(*rows_of(out, batch))


@pytest.mark.parametrize("kind", RUNS)
def test_every_trainer_looks_before_it_trains(kind, tmp_path):
    trainer = run_of(kind, Mean(), tmp_path / "run")
    before = learnt(trainer)
    with pytest.raises(InputError, match=r"Mean\.loss is not a sum over targets"):
        trainer.fit()
    assert not (tmp_path / "run" / "run.json").exists()
    for name, value in learnt(trainer).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_remedies_learn_what_a_sum_does():
    class Right(Mean):
        additive = False

    class Sum(gs.NodeTask):
        def loss(self, out, batch):
            return CE(*rows_of(out, batch), reduction="sum")

    options = {"model": "gin", "accumulate": 2, "optimizer": "momentum", "epochs": 2}
    weights = []
    for task in (gs.NodeTask(), Right(), Sum()):
        trainer = small_trainer(None, task=task, **options)
        trainer.fit()
        weights.append(learnt(trainer))
    for other in weights[1:]:
        for name, value in weights[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_a_step_of_losses_that_are_no_sums_is_their_weighted_mean():
    """Σ nᵢ Lᵢ / Σ nᵢ over the batches of an update; of one batch its loss as it is."""
    for number in (1, 3):
        task = InBatch()
        options = with_functions({"optimizer": "momentum"})
        trainer = small_trainer(None, "gin", task=task, accumulate=number, **options)
        trainer.start()
        batches = [batch for batch, _ in zip(trainer.loader, range(number), strict=False)]
        total, losses = sum(batch.train_index.numel() for batch in batches), 0.0
        parameters = list(trainer.learnt.parameters())
        trainer.learnt.train()
        for batch in batches:
            out = trainer.model(batch.x, batch.adj)
            losses = losses + task.loss(out, batch) * batch.train_index.numel() / total
        expected = torch.autograd.grad(losses, parameters, allow_unused=True)
        trainer.start()
        trainer.learnt.train()
        for batch in batches:
            trainer.step(batch)  # gradients stay until the next
        for parameter, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_a_layer_without_edges_says_so():
    task = Loss(SUMS["edges"])
    with pytest.raises(InputError, match=r"Loss.loss reads what layer-wise training has not.*edge"):
        run_of("layer by layer", task).fit()


class Features(Loss):
    """Outputs are to be the first features, which it keeps; original ids to rows by `position`."""

    def __init__(self, position=None):
        super().__init__(lambda o, b: (o - self.x[self.place(b.node_id), :CLASSES]).square().sum())
        self.place = (lambda ids: ids) if position is None else (lambda ids: position[ids])
        self.seen = {}

    def prepare(self, graph, split):
        self.x = graph.x

    def loss(self, out, batch):
        rows = self.place(batch.node_id)
        self.seen |= dict(zip(batch.node_id.tolist(), self.x[rows].tolist(), strict=True))
        return super().loss(out, batch)

    def normaliser(self, batch):
        return batch.train_index.numel()


@pytest.mark.parametrize("model", ["gcn", "gat"])
def test_a_layers_input_is_not_taken_for_features(model):
    options = {"num_parts": 4, "clusters_per_batch": 2, "progress": False}
    graph, count = small_graph(), lambda batch: batch.train_index.numel()
    with pytest.raises(InputError, match=r"Loss\.loss reads what layer-wise.*batch\.node_id"):
        task = Loss(SUMS["features"], count)
        gs.LayerwiseTrainer(MODELS[model](), graph, task=task, **options).fit()
    clustered = gs.cluster(graph, gs.partition(graph, 4, method="random"))
    for data, position in ((graph, None), (clustered, clustered.position)):
        task = Features(position)
        gs.LayerwiseTrainer(MODELS[model](), data, task=task, epochs=1, **options).fit()
        train = graph.train_mask.nonzero().flatten().tolist()
        assert [task.seen[node] for node in train] == graph.x[train].tolist()


class Links(Loss):
    def __init__(self):
        super().__init__(RANDOM["negatives"], lambda batch: 2 * batch.adj.num_edges)


@pytest.mark.parametrize("masks", [True, False])
def test_links_are_trained_without_labels(masks, tmp_path, caplog, bare_runs):
    graph = small_graph()
    graph = dataclasses.replace(graph, y=None, splits=graph.splits if masks else {})
    options = {"num_parts": 6, "clusters_per_batch": 2, "method": "random", "epochs": 3}
    options |= {"progress": False, "task": Links(), "run_dir": tmp_path}
    trainer = gs.ClusterTrainer(MODELS["sage"](), graph, **options)
    before = learnt(trainer)
    report = trainer.fit()
    assert "LinkTask" in caplog.text and "LinkTask" in report.notes[0]
    assert "LinkTask" in report.table().replace("\n", " ")
    assert report.final == {} and len(report.rows) == 3
    assert any(not torch.equal(value, before[name]) for name, value in learnt(trainer).items())
    assert trainer.embed().shape[0] == graph.num_nodes
    with pytest.raises(InputError, match=r"nothing to evaluate.*no node-level labels.*LinkTask"):
        trainer.evaluate("test")
    with pytest.raises(InputError, match=r"early_stopping needs validation nodes.*no node-level"):
        gs.ClusterTrainer(MODELS["sage"](), graph, early_stopping=2, **options).fit(resume=False)
    opened = gs.load_run(tmp_path, model=MODELS["sage"](), task=Links())
    assert_same(learnt(opened.trainer), learnt(trainer))


@pytest.mark.parametrize("kind", RUNS)
def test_every_trainer_does_without_labels(kind, monkeypatch):
    def bare(*nodes):
        return dataclasses.replace(small_graph(*nodes), y=None)

    task = Loss(SUMS["all nodes"], lambda batch: batch.train_index.numel())
    if kind == "graph":
        ring = torch.arange(48)  # twelve rings of four
        edges = torch.stack([ring, ring - ring % 4 + (ring + 1) % 4])
        adj = gs.Adjacency.from_edge_index(edges, 48)
        graphs = dataclasses.replace(bare(48), adj=adj, node_ptr=torch.arange(0, 49, 4))
        split = {"train": range(8), "val": range(8, 12)}
        options = {"graphs_per_batch": 3, "split": split, "epochs": 2, "progress": False}
        trainer = gs.GraphTrainer(MODELS["gin"](), graphs, task=task, **options)
    else:
        for room in (rank_runs, own_tasks, small_runs):
            monkeypatch.setattr(room, "small_graph", bare)
        trainer = run_of(kind, task, epochs=2)
    report = trainer.fit()
    assert not report.final and report.rows[-1]["loss"] > 0 and "LinkTask" in report.notes[0]


def test_pipeline_stages_without_features_say_so():
    task = Loss(SUMS["features"])
    with pytest.raises(InputError, match=r"not given batch.x.*accumulate=2"):
        run_of("pipeline", task).fit()
    run_of("pipeline", task, stages=1).fit()

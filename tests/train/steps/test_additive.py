"""A loss that is no sum over targets is found before training; a sum, or a random one, is not."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.loader import Assembler
from gnnscale.train.steps.additive import counted, joined, shortened, summed_loss, try_loss
from gnnscale.train.steps.learnt import Learnt
from tests.helpers import own_tasks, rank_runs, small_runs
from tests.helpers.own_tasks import RUNS, InBatch, OfNodes, learnt, rows_of, run_of
from tests.helpers.small_runs import (
    CLASSES,
    MODELS,
    assert_same,
    small_graph,
    small_trainer,
    with_functions,
)
from tests.helpers.strategies import graphs

CE = functional.cross_entropy


class Loss(OfNodes):
    """A task whose loss is a function of outputs and batch."""

    def __init__(self, function, normaliser=None):
        self.function, self.count = function, normaliser

    def loss(self, out, batch):
        return self.function(out, batch)

    def normaliser(self, batch):
        return batch.step_train_nodes if self.count is None else self.count(batch)


def scores(out, ends):
    return (out[ends[0]] * out[ends[1]]).sum(1)


def edges(out, batch):
    return functional.softplus(-scores(out, batch.edge_index))


def sampled(out, batch, number=None):
    ends = torch.randint(len(out), (2, number or batch.adj.num_edges))
    return functional.softplus(scores(out, ends))


def of_step(out, batch):
    """Negatives that are the same whenever the batch is."""
    seed = torch.Generator().manual_seed(1000 * batch.epoch + batch.step)
    ends = torch.randint(len(out), (2, batch.adj.num_edges), generator=seed)
    return functional.softplus(scores(out, ends))


def by_numpy(out, batch):
    ends = np.random.randint(len(out), size=(2, batch.adj.num_edges))
    return functional.softplus(scores(out, torch.from_numpy(ends)))


def ce(out, batch, **options):
    return CE(*rows_of(out, batch), **options)


def contrast(out, batch):
    rows, y = rows_of(out, batch)
    return CE(rows @ rows.T, torch.arange(len(y)), reduction="sum")


def balanced(out, batch):
    rows, y = rows_of(out, batch)
    weight = 1 / torch.bincount(y, minlength=CLASSES).clamp(min=1)
    return CE(rows, y, weight, reduction="sum")


def pairs(out, batch):
    rows, y = rows_of(out, batch)
    apart = rows[:, None, 0] - rows[None, :, 0]
    return (functional.softplus(apart) * (y[:, None] != y[None])).sum()


SUMS = {
    "cross entropy": lambda o, b: ce(o, b, reduction="sum"),
    "smoothed": lambda o, b: ce(o, b, reduction="sum", label_smoothing=0.1),
    "edges": lambda o, b: edges(o, b).sum(),
    "edges and nodes": lambda o, b: edges(o, b).sum() + ce(o, b, reduction="sum"),
    "weighted edges": lambda o, b: (edges(o, b) * b.edge_weight).sum(),
    "all nodes": lambda o, b: o.square().sum(),
    "features": lambda o, b: (o[:, :3] - b.x[:, :3]).abs().sum(),
    "degrees": lambda o, b: (o[:, 0] - b.adj.indptr.diff()).square().sum(),
    "clusters": lambda o, b: torch.stack([o[s:e].amax() for s, e in spans(b)]).sum(),
    "by id": lambda o, b: (o[:, 0] * b.node_id).sum(),
    "log probabilities": lambda o, b: functional.nll_loss(
        *rows_of(o.log_softmax(1), b), reduction="sum"
    ),
    "a penalty per target": lambda o, b: ce(o, b, reduction="sum") + 0.3 * b.train_index.numel(),
    "a penalty on gradients": lambda o, b: (
        torch.autograd.grad(o.square().sum(), o, create_graph=True)[0].square().sum()
    ),
}
RANDOM = {
    "negatives": lambda o, b: edges(o, b).sum() + sampled(o, b).sum(),
    "negatives of the step": lambda o, b: edges(o, b).sum() + of_step(o, b).sum(),
    "negatives by numpy": lambda o, b: edges(o, b).sum() + by_numpy(o, b).sum(),
    "other rows": lambda o, b: (o - o[torch.randperm(len(o))]).square().sum(),
    "masked": lambda o, b: (o * (torch.rand_like(o) < 0.3)).square().sum(),
    "noise": lambda o, b: ce(o + torch.randn_like(o), b, reduction="sum"),
    "annealed": lambda o, b: ce(o, b, reduction="sum") + b.epoch * o.square().sum(),
    "python": lambda o, b: random.random() * ce(o, b, reduction="sum"),
}
NO_SUMS = {
    "a mean": lambda o, b: ce(o, b),
    "a mean over edges": lambda o, b: edges(o, b).mean(),
    "a mean and a sum": lambda o, b: edges(o, b).sum() + 9 * ce(o, b),
    "divided by the nodes": lambda o, b: ce(o, b, reduction="sum") / b.num_nodes,
    "divided by the normaliser": lambda o, b: ce(o, b, reduction="sum") / b.step_train_nodes,
    "a root": lambda o, b: ce(o, b, reduction="sum").sqrt(),
    "contrast": contrast,
    "all pairs": pairs,
    "balanced within": balanced,
    "greatest": lambda o, b: o.amax(),
    "a term a batch": lambda o, b: ce(o, b, reduction="sum") + 5.0,
    "random negatives, a mean": lambda o, b: edges(o, b).mean() + sampled(o, b).mean(),
    "random masks, a mean": lambda o, b: (o * (torch.rand_like(o) < 0.5)).square().mean(),
    "noise, a mean": lambda o, b: ce(o + torch.randn_like(o), b),
}


def spans(batch):
    return list(itertools.pairwise(batch.ptr.tolist()))


def batch_of(seed, parts, weighted=True):
    part = gs.partition(graph := small_graph(48, seed, weighted), parts, method="random", seed=seed)
    return Assembler(gs.cluster(graph, part))(torch.arange(1 + parts // 2))


def tried(task, batch, out=None):
    out = torch.randn(batch.num_nodes, CLASSES) if out is None else out
    try_loss(Learnt(nn.Identity(), task), task, out, batch)


CASES = st.tuples(st.integers(0, 9), st.integers(1, 4))


@pytest.mark.parametrize("name", [*SUMS, *RANDOM])
@settings(max_examples=4)
@given(case=CASES)
def test_sums_are_taken_however_random(name, case):
    tried(Loss((SUMS | RANDOM)[name]), batch_of(*case))


@pytest.mark.parametrize("name", NO_SUMS)
@settings(max_examples=4)
@given(case=CASES)
def test_what_is_no_sum_is_found(name, case):
    task = Loss(NO_SUMS[name])
    with pytest.raises(InputError, match=r"Loss.loss is not a sum over targets.*reduction='sum'"):
        tried(task, batch_of(*case))
    task.additive = False
    tried(task, batch_of(*case))


@pytest.mark.parametrize("count", [lambda b: 1.0, lambda b: b.num_nodes**0.5])
def test_a_normaliser_counts(count):
    with pytest.raises(InputError, match=r"Loss.normaliser is not a number of targets"):
        tried(Loss(SUMS["cross entropy"], count), batch_of(0, 3))
    tried(Loss(SUMS["edges"], lambda b: 2 * b.adj.num_edges), batch_of(0, 3))


@pytest.mark.parametrize("found", [lambda o, b: o.sum(1), lambda o, b: 3.0])
def test_a_loss_is_one_number(found):
    with pytest.raises(InputError, match=r"returned (\[\d+\]|float).*\.sum\(\)"):
        tried(Loss(found), batch_of(0, 3))


@pytest.mark.parametrize("found", [None, "a", float("nan"), float("inf"), -1, torch.ones(2)])
def test_a_normaliser_is_a_number(found):
    batch = batch_of(0, 3)
    for additive in (True, False):
        task = Loss(SUMS["cross entropy"], lambda batch: found)
        task.additive = additive
        with pytest.raises(InputError, match=r"Loss\.normaliser returned .*finite number from 0"):
            tried(task, batch)
    right = [3, np.float32(3), np.int64(3), torch.tensor(3)]
    found = Loss(None, lambda batch: right.pop())
    assert [counted(found, batch) for _ in range(4)] == [3.0] * 4


@pytest.mark.parametrize("kind", RUNS)
def test_an_epoch_that_skips_every_batch_is_no_success(kind, caplog):
    with pytest.raises(InputError, match=r"no batch of epoch 1.* counted: Loss\.normaliser is 0"):
        run_of(kind, Loss(SUMS["cross entropy"], lambda batch: 0)).fit()
    assert "Loss.normaliser skips a batch" in caplog.text


@pytest.mark.parametrize("kind", RUNS)
def test_a_normaliser_is_a_number_in_every_step(kind):
    calls = itertools.count()
    trial = Loss(SUMS["cross entropy"], lambda batch: next(calls) and batch.step_train_nodes)
    run_of(kind, trial).prepare()
    number, calls = next(calls), itertools.count()

    def then_none(batch):
        return batch.train_index.numel() if next(calls) < number else None

    with pytest.raises(InputError, match=r"Loss\.normaliser returned None"):
        run_of(kind, Loss(SUMS["cross entropy"], then_none)).fit()


@pytest.mark.parametrize(
    "constant",
    [lambda o, b: torch.tensor(3.0), lambda o, b: ce(o.detach(), b, reduction="sum")],
)
@pytest.mark.parametrize("additive", [True, False])
def test_a_loss_depends_on_the_output(constant, additive):
    task = Loss(constant)
    task.additive = additive
    with pytest.raises(InputError, match=r"Loss\.loss does not depend on the model's output"):
        tried(task, batch_of(0, 3))
    with pytest.raises(InputError, match=r"Loss\.loss does not depend on the model's output"):
        summed_loss(task, torch.randn(48, CLASSES, requires_grad=True), batch_of(0, 3))


class Moves(nn.Module, OfNodes):
    """A loss that changes whatever a loss can."""

    def __init__(self):
        super().__init__()
        self.count, self.history, self.drawn = 0, [], torch.Generator().manual_seed(4)
        self.of_numpy = np.random.default_rng(2)
        self.linear = nn.Linear(CLASSES, CLASSES)
        self.register_buffer("mean", torch.zeros(CLASSES))
        self.dropout = nn.Dropout(0.9)

    def loss(self, out, batch):
        self.count += 1
        self.history.append(self.count)
        self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
        self.linear.weight.data.mul_(0.99)
        self.fresh = torch.rand(2, generator=self.drawn)
        noise = torch.rand(()) + random.random() + np.random.rand() + self.of_numpy.random()
        loss = ce(self.dropout(self.linear(out)), batch, reduction="sum")
        loss.backward(retain_graph=True)
        return loss * noise


def everything(task):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    own = task.drawn.get_state(), task.of_numpy.bit_generator.state
    held = {k: v.clone() for k, v in task.state_dict().items()}
    plain = task.count, list(task.history), sorted(vars(task)), [p.grad for p in task.parameters()]
    return str((states[1:], own[1:], plain)), [states[0], own[0], *held.values()]


def test_trying_a_loss_changes_nothing(monkeypatch):
    def seeded(seed):  # torch.manual_seed does, and no one puts back those of all devices
        raise AssertionError("generators of all GPUs were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    task, batch = Moves(), batch_of(0, 3)
    out = torch.randn(batch.num_nodes, CLASSES)
    plain, tensors = everything(task)
    mode = [module.training for module in task.modules()]
    tried(task, batch, out)
    after, later = everything(task)
    assert after == plain
    assert all(map(torch.equal, tensors, later))
    assert [module.training for module in task.modules()] == mode


def test_dropout_of_a_task_does_not_make_a_mean_random():
    class Mean(nn.Module, OfNodes):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def loss(self, out, batch):
            return ce(self.dropout(out), batch)

    with pytest.raises(InputError, match="not a sum"):
        tried(Mean(), batch_of(0, 3))


def test_a_task_that_cannot_read_two_copies_is_not_refused():
    def unique(out, batch):
        assert batch.node_id.unique().numel() == batch.num_nodes
        return ce(out, batch)

    tried(Loss(unique), batch_of(0, 3))


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


@settings(max_examples=20)
@given(graph=graphs(min_nodes=2, classes=3), rows=st.integers(1, 30))
def test_a_part_of_a_batch_is_one(graph, rows):
    part = gs.partition(graph, min(3, graph.num_nodes), method="contiguous")
    batch = Assembler(gs.cluster(graph, part))(torch.arange(min(3, graph.num_nodes)))
    rows = min(rows, batch.num_nodes)
    few = shortened(batch, rows, False)
    inside = (batch.edge_index < rows).all(0)
    assert torch.equal(few.edge_index, batch.edge_index[:, inside])
    assert torch.equal(few.train_mask, batch.train_mask[:rows])
    assert torch.equal(few.train_index, few.train_mask.nonzero().squeeze(1))
    assert int(few.ptr[-1]) == rows and torch.equal(few.y, batch.y[:rows])
    twice = joined(batch, few, batch.num_nodes)
    ends = torch.cat([batch.edge_index, few.edge_index + batch.num_nodes], 1)
    assert torch.equal(twice.edge_index, ends)
    assert twice.num_nodes == batch.num_nodes + rows == int(twice.ptr[-1])
    assert torch.equal(twice.train_mask.nonzero().squeeze(1), twice.train_index)


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


def test_what_says_whether_it_is_additive_says_it_in_a_bool():
    task = Loss(SUMS["edges"])
    task.additive = "yes"
    with pytest.raises(InputError, match=r"Loss\.additive='yes' must be True or False"):
        small_trainer(None, task=task)
    task.additive = False
    batch = batch_of(0, 3)
    out = torch.randn(batch.num_nodes, CLASSES)
    torch.testing.assert_close(
        summed_loss(task, out, batch), task.loss(out, batch) * batch.step_train_nodes
    )

"""A loss that is no sum over targets is found before training; a sum, or a random one, is not."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.loader import Assembler
from gnnscale.train.steps.additive import joined, shortened
from gnnscale.train.task import counted, summed_loss
from tests.helpers.own_tasks import RUNS, OfNodes, run_of
from tests.helpers.small_runs import CLASSES, small_trainer
from tests.helpers.strategies import graphs
from tests.train.steps.losses import NO_SUMS, RANDOM, SUMS, Loss, batch_of, ce, tried

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

"""Losses that are sums over targets, random ones, and some that are no sums."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import gnnscale as gs
from gnnscale.loader import Assembler
from gnnscale.train.steps.additive import try_loss
from gnnscale.train.steps.learnt import Learnt
from tests.helpers.own_tasks import OfNodes, rows_of
from tests.helpers.small_runs import CLASSES, small_graph

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

"""What is known of a run's batches without a walk over all edges, and how far that is right."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gnnscale as gs
from gnnscale import comm
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.train.run.expected import Expectation
from tests.helpers.machines import made_up
from tests.helpers.small_runs import CLASSES, IN, small_graph


class Made(TorchDispatchMode):
    """Counts the values that operations make; views are not made."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = (value for value in tree_leaves(out) if isinstance(value, torch.Tensor))
            self.count += sum(value.numel() for value in tensors)
        return out


WAYS = {
    "clusters": lambda graph, model: gs.ClusterTrainer(model, graph, num_parts=4, progress=False),
    "inductive": lambda graph, model: gs.ClusterTrainer(
        model, graph, num_parts=4, inductive=True, progress=False
    ),
    "layers": lambda graph, model: gs.LayerwiseTrainer(model, graph, progress=False),
    "inductive layers": lambda graph, model: gs.LayerwiseTrainer(
        model, graph, inductive=True, progress=False
    ),
}


@pytest.mark.parametrize("model", [gs.nn.GCN, gs.nn.GAT])
@pytest.mark.parametrize("way", WAYS)
def test_a_prediction_does_not_walk_all_edges(way, model):
    """Of twice as many edges it makes no more values: it looks at so many, wherever they are."""
    made = []
    for edges in (400_000, 800_000):
        random = torch.Generator().manual_seed(0)
        graph = gs.Graph.from_arrays(
            torch.randint(2000, (2, edges), generator=random),
            torch.randn(2000, IN, generator=random),
            torch.arange(2000) % CLASSES,
            train_mask=torch.arange(2000) % 2 == 0,
        )
        trainer = WAYS[way](graph, model(IN, 4, 2, CLASSES))
        trainer.prepare()
        expectation = Expectation(trainer._setup, trainer._data, trainer._sessions)
        with Made() as counted:
            expectation._predict(made_up())
        assert trainer._setup.report.predicted["epoch"] > 0
        made.append(counted.count)
    assert made[1] < made[0] + 100_000


@pytest.mark.parametrize("inductive", [False, True])
@pytest.mark.parametrize("per_batch", [1, 2, 4])
def test_of_a_small_graph_it_is_what_is_counted(inductive, per_batch):
    model, graph = gs.nn.GCN(IN, 4, 2, CLASSES), small_graph(400)
    trainer = gs.ClusterTrainer(
        model, graph, num_parts=4, clusters_per_batch=per_batch, inductive=inductive, progress=False
    )
    trainer.prepare()
    found = trainer._setup.job(trainer._data)
    seen = trainer._data.seen
    exact = Job(seen, model, inductive=inductive)
    chosen = Configuration(parts=4, clusters=per_batch, epochs=50)
    a, b = found.batches(chosen), exact.batches(chosen)
    assert (a.number, a.mean.nodes, a.largest.nodes) == (b.number, b.mean.nodes, b.largest.nodes)
    assert a.mean.edges == pytest.approx(b.mean.edges, rel=0.05)
    assert a.largest.edges == pytest.approx(b.largest.edges, rel=0.15)
    assert found.trained.edges == pytest.approx(exact.trained.edges)
    sizes = found.sizes._replace(leaving=exact.sizes.leaving)  # as many arrive as leave, at most
    assert sizes == exact.sizes


def test_what_is_kept_of_it_holds_no_longer_than_layers_learn_and_clusters_stay():
    trainer = WAYS["clusters"](small_graph(), gs.nn.GCN(IN, 4, 2, CLASSES))
    trainer.prepare()
    setup, data = trainer._setup, trainer._data
    first = setup.job(data)
    assert setup.job(data) is first
    next(iter(setup.model.parameters())).requires_grad_(False)
    frozen = setup.job(data)
    assert frozen is not first and setup.job(data) is frozen
    data._seen = replace(data.seen)
    assert setup.job(data) is not frozen


@pytest.mark.parametrize("together", [False, True])
def test_costs_of_norms_over_all_ranks_are_counted_without_the_others(together, monkeypatch):
    def talks(*_):
        raise AssertionError("it waits for the other ranks")

    monkeypatch.setattr(comm, "world_size", lambda *_: 2)
    monkeypatch.setattr(comm, "sum_over_ranks", talks)
    model = gs.nn.GCN(IN, 4, 2, CLASSES, norm="batch_norm")
    norms = [part for part in model.modules() if hasattr(part, "synchronised")]
    for norm in norms:
        norm.synchronised = together
    assert norms and Job(small_graph(), model).costs().step.node > 0
    assert all(norm.synchronised == together for norm in norms)
    assert isinstance(norms[0], nn.Module)

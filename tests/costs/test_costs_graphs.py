"""GraphTrainer within a bound: what graphs take is known before they run."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn.aggr import Set2Set

import gnnscale as gs
from gnnscale.costs.graphs import cut, sizes_of
from gnnscale.costs.peak import PeakBytes, pass_peak
from gnnscale.errors import InputError
from gnnscale.nn.blocks.context import run_phases
from gnnscale.storage.memory import memory_bytes

pytestmark = pytest.mark.usefixtures("code_that_takes_nothing")

SPLIT = {"train": range(40), "val": range(40, 50), "test": range(50, 60)}


def some_graphs(largest=60):
    """Single nodes, paths, dense graphs and a star: what they take differs in every way."""
    random = torch.Generator().manual_seed(0)
    found = []
    for i in range(60):
        n = (1, 20, 50, 12)[i % 4] if i != 7 else largest
        edges = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        if i % 4 == 2:
            edges = torch.ones(n, n).nonzero().t()
        elif i == 7:
            edges = torch.stack([torch.arange(1, n), torch.zeros(n - 1, dtype=torch.int64)])
        x = torch.randn(n, 4, generator=random)
        found.append(Data(x=x, edge_index=edges, y=torch.tensor([i % 2])))
    return found


GRAPHS = some_graphs()
MODELS = {
    "GIN": lambda: gs.nn.GraphModel(gs.nn.GIN(4, 16, 2, 2, jk="cat", norm="graph_norm"), "sum"),
    "GAT": lambda: gs.nn.GraphModel(gs.nn.GAT(4, 16, 2, 2), "attention"),
    "wide readout": lambda: gs.nn.GraphModel(gs.nn.GCN(4, 16, 2, 64), Set2Set(64, 3)),
}


def trainer(name="GAT", **options):
    torch.manual_seed(0)
    options = {"split": SPLIT, "graphs_per_batch": 40, "prefetch": 0, "epochs": 1, **options}
    return gs.GraphTrainer(MODELS[name](), GRAPHS, progress=False, **options)


def bound_of(refused):
    return re.search(r"give memory='(.*?)'", str(refused.value))[1]


def peak_of(action):
    with PeakBytes() as counted:
        found = action()
    return counted.peak, found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_graphs_take_what_is_said(name, training):
    run = trainer(name, memory="1GB")
    run.prepare()
    cost = run._evaluator._measured(run_phases, training=training, copies=2)
    costs = cost.of_graphs(*sizes_of(run.graph, torch.arange(60)))

    def forward(batch):
        context = gs.nn.Context.of(batch, training=False)
        return run.model(batch.x, batch.adj, context=context)

    kept = sum(parameter.nbytes for parameter in run.model.parameters()) if training else 0
    for ids in (range(60), range(0, 60, 4), range(2, 60, 4), [7], [2], [0]):
        batch = run._data.assembled(torch.tensor([*ids]))
        taken = pass_peak(forward, run.model, batch, training=training)
        said = int(costs[[*ids]].sum()) + cost.fixed
        assert taken - kept <= said <= 6 * taken + 200 * batch.adj.nnz + 10**5


def test_evaluation_keeps_its_bound():
    free = trainer()
    expected = free.predict()
    taken, _ = peak_of(free.predict)
    with pytest.raises(InputError, match=r"graph 2 by itself \(50 nodes, 2,500 edges\)") as refused:
        trainer(memory="60kB").predict()
    bound = bound_of(refused)
    run = trainer(memory=bound)
    used, found = peak_of(run.predict)
    torch.testing.assert_close(found, expected)
    size = memory_bytes(bound)
    assert used <= size < taken
    assert peak_of(lambda: run.evaluate("test"))[0] <= size
    with pytest.raises(InputError, match="graph 2 by itself"):
        trainer(memory=int(0.95 * size)).predict()
    assert torch.equal(trainer(memory="1GB").predict(), expected)


def test_a_step_that_has_no_room_is_refused_with_what_would_do():
    free = trainer()
    taken, _ = peak_of(free.fit)
    with pytest.raises(InputError, match="a step on 40 graphs takes up to") as refused:
        trainer(memory="6MB").fit()
    bound = bound_of(refused)
    size = memory_bytes(bound)
    run = trainer(memory=bound)
    used, _ = peak_of(run.fit)
    assert taken > 6_000_000 and used <= size
    for before, after in zip(free.model.parameters(), run.model.parameters(), strict=True):
        torch.testing.assert_close(before, after)
    fewer = int(re.search(r"graphs_per_batch=(\d+)", str(refused.value))[1])
    assert peak_of(trainer(memory="6MB", graphs_per_batch=fewer).fit)[0] <= 6_000_000
    with pytest.raises(InputError, match="a step on"):
        trainer(memory="6MB", graphs_per_batch=fewer + 1).fit()
    with pytest.raises(InputError, match=r"512 nodes takes .* with what is held") as refused:
        trainer(memory="10kB", graphs_per_batch=1).fit()
    trainer(memory=bound_of(refused), graphs_per_batch=1).fit()


def test_where_no_graph_has_room_in_a_step_the_bound_of_one_is_said():
    with pytest.raises(InputError, match="with graphs_per_batch=1") as refused:
        trainer(memory="1.2MB").fit()
    alone = re.search(r"or '(.*?)' with graphs_per_batch=1", str(refused.value))[1]
    trainer(memory=alone, graphs_per_batch=1).fit()


def test_another_bound_resumes_a_run(tmp_path):
    whole = trainer(epochs=2)
    whole.fit()
    trainer(run_dir=tmp_path, memory="50MB").fit()
    run = trainer(run_dir=tmp_path, memory="60MB", epochs=2)
    run.fit()
    for before, after in zip(whole.model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(before, after)
    opened = gs.load_run(tmp_path, model=MODELS["GAT"]())
    assert opened.trainer.config.memory == "60MB"
    torch.testing.assert_close(opened.trainer.predict(), run.predict())


class Pairs(nn.Module):
    """Takes n² for a graph of n nodes."""

    def forward(self, x, ptr):
        rows = [x[a:b] for a, b in itertools.pairwise(ptr)]
        return torch.stack([((r @ r.t()).softmax(1) @ r).sum(0) for r in rows])


class Padded(nn.Module):
    """Takes for every graph what the largest does."""

    def forward(self, x, ptr):
        dense = x.new_zeros(len(ptr) - 1, int(ptr.diff().max()), x.size(1))
        graph = torch.repeat_interleave(torch.arange(len(ptr) - 1), ptr.diff())
        dense[graph, torch.arange(len(x)) - ptr[graph]] = x
        return dense.relu().exp().log().sum(1)


@pytest.mark.parametrize("readout", [Pairs(), Padded()])
def test_what_is_no_sum_of_nodes_and_edges_is_refused(readout):
    model = gs.nn.GraphModel(gs.nn.GCN(4, 8, 2, 2), readout)
    run = gs.GraphTrainer(model, GRAPHS, split=SPLIT, memory="1GB", progress=False)
    with pytest.raises(InputError, match="square of a graph's nodes"):
        run.predict()


def test_graphs_are_cut_where_there_is_no_more_room():
    assert cut(torch.tensor([3, 3, 3, 6, 1, 5]), 6) == [2, 1, 1, 2]
    assert cut(torch.tensor([], dtype=torch.int64), 6) == []

"""What a run adds: what is counted against what torch allocates, and what a bound changes."""

import dataclasses

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale.costs.peak import PeakBytes
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.memory import run_memory

BOUND = 10**12


class Own(nn.Module):
    """A user's layer: a message for every edge."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.lin = nn.Linear(wide, out)

    def forward(self, x, edge_index):
        source, target = edge_index
        rows = self.lin(x)
        return rows.index_add(0, target, torch.relu(rows[source]))


@pytest.fixture(scope="module")
def graph():
    return gs.load("synthetic:planted?nodes=3000")


def model_of(name, graph):
    torch.manual_seed(0)
    wide, out = graph.num_features, graph.num_classes
    if name == "own":
        return gs.nn.LayeredGNN([gs.nn.Block(Own(wide, 32)), gs.nn.Block(Own(32, out))])
    return getattr(gs.nn, name)(wide, 32, 3, out)


NETWORKS = ["GCN", "GraphSAGE", "GIN", "GAT", "ClusterGCN", "SGC", "own"]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_has_what_torch_allocates(graph, name):
    """Two-layer models add gradients of rows that are read twice where one of them is."""
    model = model_of(name, graph)
    job = Job(graph, model)
    parts = run_memory(job, Configuration(memory=BOUND)).moments["step"]
    job.model.train()
    job.model(graph.x, graph.adj).sum().backward()  # what is made once
    job.model.zero_grad()
    with PeakBytes() as counted:
        job.model(graph.x, graph.adj).sum().backward()
    said = parts["kept"] + parts["workspace"]
    assert 0.97 * counted.peak < said + parts["gradients"] < 1.25 * counted.peak


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("trainer", ["cluster", "layerwise", "pipeline"])
def test_more_of_anything_takes_no_less(graph, name, trainer):
    """Of width, of batches ahead, of the number of clusters in a batch; and a bound takes less."""
    job = Job(graph, model_of(name, graph))
    few = Configuration(trainer, parts=16, clusters=2, micro_batches=2, memory=BOUND)

    def total(**changed):
        return run_memory(job, dataclasses.replace(few, **changed)).total

    assert total() <= total(clusters=4)
    assert total(prefetch=0) <= total(prefetch=4)
    assert total() <= total(memory=None)
    assert total() <= total(micro_batches=4)


def test_blocks_that_are_computed_again_keep_less(graph):
    job = Job(graph, gs.nn.GCN(graph.num_features, 64, 8, graph.num_classes))
    usual, again = (
        run_memory(job, Configuration(checkpoint=checkpoint, memory=BOUND)).moments["step"]
        for checkpoint in (False, True)
    )
    assert again["kept"] + again["workspace"] < usual["kept"] + usual["workspace"]

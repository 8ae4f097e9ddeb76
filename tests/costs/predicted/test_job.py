"""What is planned for, and the batches that a configuration makes of it."""

import pytest
import torch

import gnnscale as gs
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.memory import run_memory


@pytest.fixture(scope="module")
def graph():
    return gs.load("synthetic:planted?nodes=600")


@pytest.fixture(scope="module")
def model(graph):
    torch.manual_seed(0)
    return gs.nn.GCN(graph.num_features, 16, 2, graph.num_classes)


@pytest.mark.parametrize("trainer", ["cluster", "layerwise"])
def test_a_prediction_names_its_moment_and_its_parts(graph, model, trainer):
    configuration = Configuration(trainer, parts=6, clusters=2, batch_rows=100)
    memory = run_memory(Job(graph, model), configuration)
    assert memory.moment in memory.moments
    assert memory.total == sum(memory.parts.values()) > 0


def test_full_batch_has_all_edges(graph, model):
    batches = Job(graph, model).batches(Configuration())
    assert batches.number == 1 and batches.dropped == 0
    assert batches.mean == batches.largest and batches.mean.edges == graph.num_edges

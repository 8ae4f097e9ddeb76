"""Seconds of runs on a made-up machine."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.seconds import corrected, from_steps, run_seconds
from gnnscale.costs.predicted.trial import Tried, piece, try_steps
from gnnscale.graph import Graph
from gnnscale.nn import GCN, SGC, GraphSAGE

NODES = 600


@pytest.fixture(scope="module")
def graph():
    random = torch.Generator().manual_seed(0)
    edges = torch.randint(NODES, (2, 4 * NODES), generator=random)
    mask = torch.arange(NODES) % 3
    sets = {"train": mask == 0, "val": mask == 1, "test": mask == 2}
    return Graph.from_arrays(
        edge_index=torch.cat([edges, edges.flip(0)], 1),
        x=torch.rand(NODES, 16, generator=random),
        y=torch.randint(5, (NODES,), generator=random),
        splits={"default": sets},
    )


@pytest.fixture(scope="module")
def job(graph):
    return Job(graph, GCN(16, 32, 3, 5, dropout=0.2))


FULL = Configuration()
CLUSTERS = Configuration(parts=12, clusters=3)
LAYERS = Configuration(trainer="layerwise", batch_rows=64)
STAGES = Configuration(trainer="pipeline", parts=12, clusters=1, micro_batches=4, stages=(1,))
ALL = [FULL, CLUSTERS, LAYERS, STAGES, replace(STAGES, ranks=2), replace(CLUSTERS, ranks=2)]


@pytest.mark.parametrize("chosen", ALL, ids=lambda c: f"{c.trainer}-{c.parts}-{c.ranks}")
def test_every_way_to_train_takes_time_by_its_parts(job, machine, chosen):
    found = run_seconds(job, chosen, machine)
    assert found.epoch == pytest.approx(sum(found.parts.values()))
    assert found.epoch > 0
    assert found.evaluation > 0
    assert min(found.parts.values()) >= 0
    assert found.bound_by in ("compute", "memory", "disk", "network", "overhead")


@pytest.mark.parametrize("model", [SGC(16, 32, 2, 5), GraphSAGE(16, 256, 4, 5)])
def test_wider_and_deeper_models_take_longer(graph, machine, model):
    small = run_seconds(Job(graph, GraphSAGE(16, 8, 1, 5)), CLUSTERS, machine)
    assert run_seconds(Job(graph, model), CLUSTERS, machine).epoch > small.epoch


def test_what_costs_more_shows(job, machine):
    def epoch(chosen, on=machine):
        return run_seconds(job, chosen, on).epoch

    assert epoch(replace(CLUSTERS, checkpoint=True)) > epoch(CLUSTERS)
    assert epoch(replace(CLUSTERS, clusters=1)) > epoch(CLUSTERS)  # more steps
    assert epoch(replace(CLUSTERS, storage="files")) > epoch(CLUSTERS)
    more = replace(machine, processors=8)  # one that prepares batches beside the step
    assert epoch(CLUSTERS, more) < epoch(replace(CLUSTERS, prefetch=0), more)
    slow = replace(machine, latency=1.0)
    assert run_seconds(job, replace(CLUSTERS, ranks=2), slow).bound_by == "network"


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_trial_puts_passes_right(job, machine, small, large):
    """Twice as slow pieces make twice as slow passes, of sizes between them in between."""

    def passes(tried):
        parts = run_seconds(job, CLUSTERS, machine, tried).parts
        return parts["dense"] + parts["sparse"] + parts["rows"]

    def said(nodes, factor):
        sizes = Sizes(nodes, 8 * nodes)
        return Tried(sizes, factor, factor, factor)

    low, high = min(small, large), max(small, large)
    first = passes([said(50, low), said(400, low)])
    between = passes([said(50, low), said(400, high)])
    assert passes([]) > 0
    assert first <= 1.000001 * between <= 1.00001 * passes([said(50, high), said(400, high)])


def test_measured_epochs_put_a_prediction_right(job, machine):
    found = run_seconds(job, CLUSTERS, machine)
    now = corrected(found, 3 * found.epoch)
    assert now.evaluation == pytest.approx(3 * found.evaluation)
    assert sum(now.parts.values()) == pytest.approx(now.epoch)
    assert now.bound_by == found.bound_by


def test_steps_alone_tell_an_epoch(job):
    found = from_steps(job, CLUSTERS, 0.5)
    assert found.epoch == pytest.approx(0.5 * job.batches(CLUSTERS).number)
    assert found.evaluation > 0


@pytest.mark.parametrize("clustered", [True, False])
def test_a_piece_is_of_the_graph(graph, clustered):
    batch = piece(graph, 100, clustered)
    assert batch.num_nodes == 100
    degrees = graph.adj.in_degree()[250:350]
    assert torch.equal(batch.adj.in_degree(), degrees)
    assert torch.equal(batch.x, graph.x[250:350])
    assert int(batch.adj.indices.max()) < 100


def test_a_trial_leaves_the_model_as_it_was(graph):
    model = GCN(16, 32, 2, 5, norm="batch_norm", dropout=0.5).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    tried = try_steps(model, graph, clustered=True, seconds=0.01)
    assert tried
    assert all(min(own[1:]) > 0 for own in tried)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())

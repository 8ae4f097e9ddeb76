"""Seconds of runs on a made-up machine."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale import comm
from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.predicted import seconds as predicted
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.seconds import from_epoch, run_seconds
from gnnscale.costs.predicted.trial import Tried, piece, try_steps
from gnnscale.costs.sizes import INFERENCE_COST
from gnnscale.graph import Graph
from gnnscale.nn import GCN, SGC, GraphSAGE
from gnnscale.parallel.simulation.predicted import pipeline_seconds

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
    assert found.epoch > 0
    assert found.evaluation > 0
    assert min(found.parts.values()) >= 0


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


@given(
    st.sampled_from([1, 2, 4]), st.sampled_from([1, 2]), st.floats(1e-3, 1e3), st.integers(1, 12)
)
def test_an_epoch_alone_tells_an_evaluation_whatever_a_step_is(job, many, ranks, epoch, clusters):
    """An evaluation is of the work: how many batches make an update changes nothing."""
    chosen = replace(CLUSTERS, clusters=clusters)
    alone = from_epoch(job, chosen, epoch)
    for other in (
        replace(chosen, accumulate=many),
        replace(STAGES, clusters=clusters, micro_batches=many),
    ):
        found = from_epoch(job, replace(other, ranks=ranks), epoch / ranks)
        assert found.epoch == epoch / ranks
        assert found.evaluation == pytest.approx(alone.evaluation)
    trained = job.costs().step.of(job.trained)
    share = job.costs(training=False).forward.of(job.sizes) / trained
    assert alone.evaluation >= INFERENCE_COST * share * epoch * 0.999  # dropped edges are no work
    full = from_epoch(job, FULL, epoch)
    assert full.evaluation == pytest.approx(INFERENCE_COST * share * epoch)


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 8))
def test_ranks_share_cores_and_none_is_slower_for_their_number_alone(machine, threads, ranks, here):
    """On ideal cores p ranks are p times as fast; where they are there, threads are theirs."""
    cores = {n: float(n) for n in {1, threads * 8}}
    ideal = replace(
        machine, threads=threads, alone={n: float(n) for n in {1, threads}}, cores=cores
    )
    own = max(1, threads // ranks)
    assert ideal.slower(threads) == pytest.approx(1)
    assert ideal.slower(own, ranks) == pytest.approx(threads / own)
    full = replace(ideal, cores={n: float(n) for n in {1, threads}})
    assert full.slower(threads, here) == pytest.approx(here)  # nothing is left for others


def test_ranks_of_other_hosts_do_not_share_this_ones_cores(job, machine, monkeypatch):
    twice = replace(CLUSTERS, ranks=2)
    planned = run_seconds(job, twice, machine).evaluation
    monkeypatch.setattr(comm, "world_size", lambda: 2)
    apart = run_seconds(job, twice, machine).evaluation
    assert apart == pytest.approx(run_seconds(job, CLUSTERS, machine).evaluation)
    monkeypatch.setattr(comm, "ranks_here", lambda: 2)
    assert planned > apart < run_seconds(job, twice, machine).evaluation


@pytest.mark.parametrize("chosen", ALL, ids=lambda c: f"{c.trainer}-{c.parts}-{c.ranks}")
def test_without_messages_ranks_have_no_seconds(job, machine, chosen):
    silent = replace(machine, latency=None, sent=None)
    assert (run_seconds(job, chosen, silent) is None) == (chosen.ranks > 1)
    assert (pipeline_seconds(job, chosen, silent) is None) == (chosen.ranks > 1)


@given(st.integers(2, 4))
def test_pipelines_beside_each_other_exchange_what_they_learnt(job, machine, beside):
    several = replace(STAGES, ranks=2 * beside)
    slower = replace(machine, sent=10 * machine.sent)
    network = [
        run_seconds(job, several, on, waiting=0.0).parts["network"] for on in (machine, slower)
    ]
    assert 0 < network[0] < network[1]


@given(st.floats(0, 2))
def test_what_memory_does_not_hold_is_read_from_the_disk(job, machine, held):
    """Between all from memory and all from the disk; of what is in memory nothing is read."""
    files = replace(CLUSTERS, storage="files", prefetch=0)

    def seconds(room, chosen=files, on=machine):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(predicted, "available_memory", lambda: room)
            found = run_seconds(job, chosen, on)
            return found.parts.get("read", 0.0), found.evaluation

    sizes = job.sizes
    every = 64 * sizes.nodes + 4 * sizes.edges
    least, most = seconds(10 * every), seconds(0)
    for low, now, high in zip(least, seconds(held * every), most, strict=True):
        assert low <= now * 1.000001 and now <= high * 1.000001
    assert least[0] < most[0] and least[1] < most[1]
    slower = replace(machine, read=10 * machine.read)
    assert seconds(10 * every, on=slower) == least
    assert seconds(0, on=slower) > most
    assert seconds(0, replace(files, storage="memory")) == seconds(every, CLUSTERS)


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

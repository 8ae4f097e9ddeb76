"""Pipelines on a made-up machine: the simulator with costs that nothing was timed for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.costs.counted.epochs import pipeline
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.seconds import run_seconds, stage_seconds
from gnnscale.parallel.schedules import CHUNKS
from gnnscale.parallel.simulation.predicted import pipeline_seconds, predicted_timeline

LAYERS = 5


@cache
def job() -> Job:
    graph = gs.load("synthetic:planted?nodes=400")
    return Job(graph, gs.nn.GCN(graph.num_features, 16, LAYERS, graph.num_classes, dropout=0.2))


@st.composite
def configurations(draw) -> Configuration:
    schedule = draw(st.sampled_from(["gpipe", "1f1b", "interleaved"]))
    numbers = st.integers(1, LAYERS - 1)
    cuts = sorted(draw(st.sets(numbers, min_size=1)))
    stages = (len(cuts) + 1) // CHUNKS[schedule] * CHUNKS[schedule]
    cuts = cuts[: stages - 1]
    devices = max(1, (len(cuts) + 1) // CHUNKS[schedule])
    return Configuration(
        trainer="pipeline", parts=12, clusters=1, schedule=schedule, stages=tuple(cuts),
        micro_batches=devices * draw(st.integers(1, 3)), ranks=devices,
    )  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(chosen=configurations())
def test_a_step_takes_what_its_stages_do_and_wait(machine, chosen):
    found = predicted_timeline(job(), chosen, machine)
    stages = stage_seconds(job(), chosen, machine)
    micro_batches = chosen.micro_batches
    assert len(stages) == len(chosen.stages) + 1
    assert found.busy.sum() == pytest.approx(micro_batches * sum(map(sum, stages)))
    assert found.makespan >= max(found.busy.max(), sum(map(sum, stages)))
    batch = job().batches(chosen).mean
    counted = pipeline(job().costs(), [batch] * micro_batches, chosen.stages)
    crossed = [a != b for a, b in pairwise(found.placement)]
    sent = sum(map(sum, (*counted.costs.sent, *counted.costs.returned)))
    assert found.bytes_sent.sum() == pytest.approx(sent if all(crossed) else 0, rel=1e-3)
    slower = predicted_timeline(job(), chosen, replace(machine, latency=1.0, sent=1e-6))
    assert slower.makespan >= found.makespan - 1e-12


@settings(deadline=None, max_examples=20)
@given(chosen=configurations())
def test_an_epoch_has_the_simulators_steps(machine, chosen):
    found = pipeline_seconds(job(), chosen, machine)
    assert found.epoch == pytest.approx(sum(found.parts.values()))
    if chosen.ranks == 1:
        assert found == run_seconds(job(), chosen, machine)
        return
    timeline = predicted_timeline(job(), chosen, machine)
    batches = job().batches(chosen).number
    steps = -(-batches // chosen.micro_batches)
    slowest = max(map(sum, stage_seconds(job(), chosen, machine)))
    waiting = timeline.makespan - chosen.micro_batches * slowest
    assert found.parts["waiting"] == pytest.approx(steps * waiting)
    assert "network" not in found.parts
    if batches % chosen.micro_batches == 0 and chosen.prefetch:
        beside = ("loading", "read", "update")
        loops = batches * machine.fixed["loop"]
        stepping = found.epoch - sum(found.parts.get(name, 0.0) for name in beside) - loops
        assert stepping == pytest.approx(steps * timeline.makespan)

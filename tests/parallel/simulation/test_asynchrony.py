"""What bounded staleness would buy: never less than nothing, never more than the slowest stage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import make_schedule
from gnnscale.parallel.simulation.asynchrony import _undrained, stale_neighbours, stale_weights
from gnnscale.parallel.simulation.links import Link
from gnnscale.parallel.simulation.simulator import simulate

LINK = Link(0.01, 1000.0, 0.02, 0.001, 0.03)
names, few = st.sampled_from(["gpipe", "1f1b"]), st.integers(1, 4)


def costs_of(schedule, seed):
    rng = np.random.default_rng(seed)
    shape = (schedule.stages, schedule.micro_batches)
    return {"forward": rng.uniform(0.1, 1, shape), "backward": rng.uniform(0.1, 1, shape)}


@settings(deadline=None, max_examples=25)
@given(name=names, devices=few, micro_batches=few, seed=st.integers(0, 99), messages=st.booleans())
def test_more_staleness_never_takes_longer(name, devices, micro_batches, seed, messages):
    schedule, steps = make_schedule(name, devices, micro_batches), 4
    seconds = costs_of(schedule, seed)
    link = LINK if messages else Link()
    many = {kind: np.tile(values, steps) for kind, values in seconds.items()}
    costs = {"sent": 10, "returned": 10, "ahead": 1, **link._asdict()}
    alone = [
        simulate(_undrained(schedule, t, steps), many, **costs).makespan / steps for t in range(5)
    ]
    assert all(more <= less + 1e-9 for less, more in pairwise(alone))
    found = [
        stale_weights(schedule, seconds, t, sent=10, link=link, ahead=1, steps=steps)
        for t in range(5)
    ]
    assert found[0].stale == found[0].synchronous
    assert all(one.stale <= least + 1e-9 for one, least in zip(found[1:], alone[1:], strict=True))
    slowest = (seconds["forward"] + seconds["backward"]).sum(1).max()
    assert found[-1].stale >= slowest - 1e-9


@settings(deadline=None, max_examples=25)
@given(name=names, devices=few, micro_batches=few, seed=st.integers(0, 99))
def test_with_enough_of_it_the_slowest_stage_says_how_long(name, devices, micro_batches, seed):
    schedule = make_schedule(name, devices, micro_batches)
    seconds = {kind: values[:, :1] for kind, values in costs_of(schedule, seed).items()}
    through = (seconds["forward"] + seconds["backward"]).sum()
    slowest = micro_batches * (seconds["forward"] + seconds["backward"]).max()
    steps = 12
    found = stale_weights(schedule, seconds, devices, steps=steps)
    # But for filling once, and draining at the end.
    assert slowest - 1e-9 <= found.stale <= slowest + through / steps + 1e-9
    assert found.faster >= 1


@settings(deadline=None, max_examples=25)
@given(devices=few, micro_batches=few, iterations=st.integers(0, 3))
def test_no_weights_are_older_than_they_may_be(devices, micro_batches, iterations):
    schedule = make_schedule("1f1b", devices, micro_batches)
    found = _undrained(schedule, iterations, steps=4)
    found.check()
    for row in found.table:
        gradients = 0
        for action in row:
            gradients += action.kind == "backward"
            updates = gradients // micro_batches
            if action.kind == "forward":
                assert updates >= action.micro_batch // micro_batches - iterations
    if not iterations:
        first = [a for a in found.table[0] if a.micro_batch < micro_batches]
        assert tuple(first) == schedule.table[0]


seconds = st.floats(0, 10)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=5), st.integers(0, 2), st.data())
def test_neighbours_rows_travel_while_layers_compute(both, iterations, data):
    computing, exchanging = map(list, zip(*both, strict=True))
    layers = data.draw(st.integers(0, len(both)))
    found = stale_neighbours(computing, exchanging, iterations, layers)
    assert found.stale <= found.synchronous
    assert found.stale >= max(sum(computing), sum(exchanging)) - 1e-9
    if iterations and layers == len(both):
        assert found.stale == pytest.approx(max(sum(computing), sum(exchanging)))
    if not iterations or not layers:
        assert found.stale == found.synchronous


def test_faults_are_named():
    with pytest.raises(InputError) as error:
        stale_weights(make_schedule("interleaved", 2, 2), {}, -1, steps=0)
    assert len(error.value.faults) == 3
    with pytest.raises(InputError, match="2 layers compute and 1 exchange"):
        stale_neighbours([1, 2], [1], 1, 1)

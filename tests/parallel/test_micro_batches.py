"""Micro-batches: dealt out evenly, and in an order that fills and drains a pipeline fast."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.parallel.micro_batches import (
    BalancedLoader,
    balance_micro_batches,
    order_micro_batches,
)
from gnnscale.parallel.schedules import ROWS, make_schedule
from gnnscale.parallel.simulation.simulator import simulate
from tests.helpers.small_runs import small_graph

costs = st.lists(st.integers(0, 20), min_size=1, max_size=7)


@settings(deadline=None)
@given(costs=costs, data=st.data())
def test_micro_batches_are_within_four_thirds_of_the_best(costs, data):
    micro_batches = data.draw(st.integers(1, min(3, len(costs))))
    groups = balance_micro_batches(costs, micro_batches)
    assert sorted(c for group in groups for c in group) == list(range(len(costs)))
    assert all(group and group == sorted(group) for group in groups)
    assert groups == balance_micro_batches(costs, micro_batches)
    best = min(
        max(np.bincount(dealt, weights=costs, minlength=micro_batches))
        for dealt in product(range(micro_batches), repeat=len(costs))
    )
    assert max(sum(costs[c] for c in group) for group in groups) <= 4 / 3 * best + 1e-9


@pytest.mark.parametrize(("ranks", "inductive"), [(1, False), (2, True)])
def test_an_update_deals_its_clusters_anew(ranks, inductive):
    graph = small_graph(240)
    clustered = gs.cluster(graph, gs.partition(graph, 30, method="random", seed=1))
    seen = clustered.view("train") if inductive else clustered
    drawn = gs.ClusterLoader(seen, 4, world_size=ranks)
    loader = BalancedLoader(seen, 4, world_size=ranks, micro_batches=3)
    known, spread = [], []
    for steps in (drawn.steps(0), loader.steps(0)):
        updates = [
            [clusters for step in steps[at : at + 3] for clusters in step]
            for at in range(0, len(steps), 3)
        ]
        known.append([sorted(torch.cat(update).tolist()) for update in updates])
        loads = [[int(loader._costs[batch].sum()) for batch in update] for update in updates]
        spread.append(sum(max(of_update) - min(of_update) for of_update in loads))
    assert known[0] == known[1]
    assert spread[1] < spread[0] / 2
    assert [len(step) for step in loader.steps(0)] == [len(step) for step in drawn.steps(0)]
    if not inductive:
        assert int(loader._costs.sum()) == graph.num_nodes + graph.num_edges


@given(costs=costs)
def test_order_rises_then_falls(costs):
    order = order_micro_batches(costs)
    assert sorted(order) == list(range(len(costs)))
    ordered = [costs[place] for place in order]
    top = ordered.index(max(ordered))
    assert all(one <= other for one, other in pairwise(ordered[: top + 1]))
    assert all(one >= other for one, other in pairwise(ordered[top:]))
    if len(costs) > 2:
        assert sorted(ordered)[:2] == sorted([ordered[0], ordered[-1]])


@pytest.mark.parametrize("name", sorted(ROWS))
@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_order_is_no_slower_on_average(name, skew):
    rng = np.random.default_rng(0)
    schedule = make_schedule(name, 4, 8)
    given_order, ordered = [], []
    for _ in range(40):
        size = rng.lognormal(0, 0.3, 8)
        speed = np.exp(rng.normal(0, skew, schedule.stages))
        for order, spans in (
            (range(8), given_order),
            (order_micro_batches(list(size)), ordered),
        ):
            one = np.outer(speed, size[list(order)])
            seconds = {"forward": one, "backward": 2 * one, "input_grad": one, "weight_grad": one}
            spans.append(simulate(schedule, seconds).makespan)
    assert np.mean(ordered) <= np.mean(given_order) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("clusters", "micro_batches", "message"),
    [
        ([1.0, 2.0], 3, "2 clusters make 1 to 2 micro-batches, not 3"),
        ([1.0], 0, "not 0"),
        ([1.0, -2.0, float("nan")], 2, "at least 0: cost 1 is -2.0, cost 2 is nan"),
    ],
)
def test_costs_that_cannot_be_dealt_out_are_refused(clusters, micro_batches, message):
    with pytest.raises(InputError, match=message):
        balance_micro_batches(clusters, micro_batches)

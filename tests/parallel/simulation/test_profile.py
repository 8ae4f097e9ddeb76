"""What blocks cost, and the cuts that follow."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.nn import GATConv, GCNConv

import gnnscale as gs
from gnnscale.costs.seconds import fit
from gnnscale.errors import InputError, StoreError
from gnnscale.nn import Block, LayeredGNN
from gnnscale.parallel.simulation.profile import Profile, best_cuts, profile

IN, HIDDEN, OUT = 5, 8, 3
seconds = st.floats(0.01, 10)


@given(st.data())
def test_the_slowest_stage_takes_least_time_of_all_cuts(data):
    blocks = data.draw(st.integers(1, 8))
    of_block = np.array(data.draw(st.lists(seconds, min_size=blocks, max_size=blocks)))
    traffic = np.array(data.draw(st.lists(seconds, min_size=blocks - 1, max_size=blocks - 1)))
    stages = data.draw(st.integers(1, blocks))

    def slowest(cuts):
        crossing = [0, *traffic, 0]
        return max(
            of_block[a:b].sum() + crossing[a] + crossing[b] for a, b in pairwise([0, *cuts, blocks])
        )

    found = best_cuts(of_block, traffic, stages)
    assert all(a < b for a, b in pairwise([0, *found, blocks]))
    every = combinations(range(1, blocks), stages - 1)
    assert slowest(found) == pytest.approx(min(map(slowest, every)), rel=1e-12)


@pytest.mark.parametrize("stages", [0, 4])
def test_more_stages_than_blocks(stages):
    with pytest.raises(InputError, match="from 1 to 3"):
        best_cuts([1, 1, 1], [0, 0], stages)


@given(st.tuples(seconds, seconds, seconds))
def test_the_fit_finds_the_costs_that_made_the_times(truth):
    sizes = np.array(
        [(100, 900, 1), (100, 1100, 1), (200, 1500, 1), (400, 4400, 1), (400, 4000, 1)]
    )
    scaled = np.array(truth) / [400, 4400, 1]
    assert fit(sizes, sizes @ scaled) @ sizes.T == pytest.approx(sizes @ scaled, rel=1e-6)


def test_no_cost_is_negative():
    sizes = np.array([(100, 900, 1), (200, 1500, 1), (400, 4400, 1)], float)
    assert (fit(sizes, [3.0, 2.0, 1.0]) >= 0).all()


def clustered():
    graph = gs.load("synthetic:planted?nodes=400")
    return gs.cluster(graph, gs.partition(graph, 8, method="contiguous"))


def of(graph, **options):
    convs = [GCNConv(graph.num_features, HIDDEN), GATConv(HIDDEN, HIDDEN, dropout=0.2)]
    blocks = [Block(conv, "batch_norm", dropout=0.3) for conv in convs]
    return LayeredGNN([*blocks, GCNConv(HIDDEN, HIDDEN)], torch.nn.Linear(HIDDEN, OUT), **options)


def test_a_profile_leaves_the_model_as_it_was(tmp_path):
    clusters = clustered()
    model = of(clusters.graph, jk="max").eval()
    model.blocks[0].conv.bias.grad = kept = torch.ones(HIDDEN)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    found = profile(model, clusters, 4, loss=lambda out, batch: out.square().sum(), repeats=1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients == [kept] and not any(module.training for module in model.modules())

    assert found.num_blocks == 3 and found.nodes == 200
    assert (found.forward >= 0).all() and (found.backward >= 0).all()
    assert (found.forward.sum(1) > 0).all() and (found.backward.sum(1) > 0).all()
    assert found.boundaries[1].widths == (("x", HIDDEN), ("jumping_knowledge", HIDDEN))

    found.save(tmp_path / "profile.json")
    again = Profile.load(tmp_path / "profile.json")
    assert again.boundaries == found.boundaries and again.cut(2) == found.cut(2)
    assert np.array_equal(again.forward, found.forward)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(StoreError, match="profile again"):
        Profile.load(tmp_path / "other.json")


def test_blocks_without_parameters_have_no_backward_pass():
    clusters = clustered()
    first = gs.nn.Block(torch.nn.Identity(), act=None)
    last = GCNConv(clusters.graph.num_features, OUT)
    found = profile(LayeredGNN([first, last]), clusters, 8, repeats=1)
    assert not found.backward[0].any() and found.backward[1].any()
    assert found.boundaries[0].gradients == frozenset()
    assert found.costs([1], [(50, 99)]).returned == [[0]]


def made(forward, widths, nodes=10.0):
    from gnnscale.parallel.boundaries import Boundary

    crossing = [Boundary((("x", width),), frozenset({"x"})) for width in widths]
    forward = np.array(forward, float)
    return Profile(forward, 2 * forward, crossing, nodes, 0.0, 0.0)


def test_costs_of_stages_are_those_of_their_blocks():
    found = made([(1, 0, 0), (0, 1, 0), (0, 0, 1)], [4, 6])
    costs = found.costs([2], [(10, 70), (20, 80)])
    assert costs.forward == [[80, 100], [1, 1]]
    assert costs.backward == [[160, 200], [2, 2]]
    assert costs.sent == costs.returned == [[4 * 6 * 10, 4 * 6 * 20]]
    assert found.costs([], [(10, 70)]).sent == []


def test_what_a_node_costs_in_edges():
    assert made([(6, 1, 0), (3, 2, 5)], [4]).node_cost == 3
    assert made([(6, 0, 0)], []).node_cost == 1e6
    assert made([(1, 2, 0)], []).node_cost == 1


def test_a_slow_wire_moves_the_cut_to_where_little_crosses():
    found = made([(1, 0, 0)] * 4, [100, 100, 1])
    assert found.cut(2) == [2]
    assert found.cut(2, bandwidth=100.0) == [3]
    with pytest.raises(InputError, match="bandwidth=0"):
        found.cut(2, bandwidth=0)


def test_faults_are_listed_together():
    clusters = clustered()
    with pytest.raises(InputError) as error:
        profile(of(clusters.graph), clusters, 0, repeats=0)
    assert len(error.value.faults) == 2

"""No part is heavier than was asked for, where nodes fit elsewhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.partitioning import partition, undirected
from gnnscale.partitioning.repairs import even_out
from tests.partitioning.partition_cases import SEEING, graphs, planted


@settings(deadline=None, max_examples=80)
@given(
    graph=graphs(min_nodes=1),
    imbalance=st.sampled_from([0.0, 0.03, 0.3, math.inf]),
    weighted=st.booleans(),
    data=st.data(),
)
def test_heavy_parts_give_nodes_to_light_ones(graph, imbalance, weighted, data):
    structure = undirected(graph.adj.indptr.numpy(), graph.adj.indices.numpy())
    n = graph.num_nodes
    k = data.draw(st.integers(1, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    before = rng.permutation(np.concatenate([np.arange(k), rng.integers(0, k, n - k)]))
    before = before.astype(np.int32)
    weight = rng.integers(1, 9, n) if weighted else np.ones(n, np.int64)
    given_weight = weight if weighted else None
    after = even_out(before, k, structure, given_weight, imbalance)
    limit = min(n * 9, (1 + imbalance) * math.ceil(weight.sum() / k))
    old, new = (np.bincount(part, weights=weight, minlength=k) for part in (before, after))
    assert np.bincount(after, minlength=k).all()
    moved = before != after
    assert (old[before[moved]] > limit).all()  # heavy parts give, and no part becomes heavy
    assert (new <= np.maximum(old, limit)).all()
    assert (new[old <= limit] <= limit).all()
    if not weighted:
        assert new.max() <= limit


def test_the_node_with_most_neighbours_elsewhere_goes_there():
    # Two stars; a leaf of the first is in the part of the second.
    centre = np.array([0, 0, 0, 5, 5, 5, 5])
    leaf = np.array([1, 2, 3, 4, 6, 7, 8])
    matrix = np.zeros((9, 9), int)
    matrix[centre, leaf] = matrix[leaf, centre] = 1
    structure = undirected(np.concatenate([[0], matrix.sum(1).cumsum()]), np.nonzero(matrix)[1])
    before = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1], np.int32)
    after = even_out(before, 2, structure, None, 0.0)
    assert after.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("method", SEEING)
def test_small_parts_are_as_even_as_asked(method):
    part = partition(planted(1000, 10), 100, method, imbalance=0.03, cache=False)
    assert set(part.sizes.tolist()) == {10}
    loose = partition(planted(1000, 10), 100, method, imbalance=0.1, cache=False)
    assert int(loose.sizes.max()) <= 11

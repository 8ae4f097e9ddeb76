"""What costs are measured on, and the growth that is read off it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.costs.passes import growth, rings

bytes_of_each = st.integers(0, 10**6)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 12))
def test_as_many_edges_arrive_at_every_node_from_its_own_graph(sizes, each):
    adj = rings(sizes, each)
    graph = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    assert adj.indptr.diff().tolist() == [each] * sum(sizes)
    sources, targets = adj.edge_index
    assert torch.equal(graph[sources], graph[targets])
    for start in adj.indptr[:-1].tolist():
        row = adj.indices[start : start + each]
        assert torch.equal(row, row.sort().values)


@given(bytes_of_each, bytes_of_each)
def test_a_sum_of_nodes_and_edges_is_found(node, edge):
    found = growth(lambda sizes, each: sum(sizes) * (node + edge * each))
    assert found[:3] == pytest.approx((node + edge, edge, 0))
    assert found.squares == pytest.approx((0, 0))
    assert found.of(1000, 5000) == pytest.approx(1000 * node + 5000 * edge)


@given(bytes_of_each, st.integers(1, 10**4))
def test_squares_are_found(node, square):
    found = growth(lambda sizes, each: sum(node * n + square * n * n for n in sizes))
    assert found.squares == pytest.approx((square, square))


@given(bytes_of_each, bytes_of_each, st.integers(0, 10**9), st.integers(512, 10**6))
def test_what_is_fixed_hides_no_growth(node, later, fixed, nodes):
    """The peak is at another moment while graphs are small."""

    def peak(sizes, each):
        return max(fixed + node * sum(sizes), (node + later) * sum(sizes))

    found = growth(peak)
    assert peak([nodes], 1) <= 1.000001 * (found.fixed + found.of(nodes, nodes)) + 1

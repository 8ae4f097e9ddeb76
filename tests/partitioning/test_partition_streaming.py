"""The streaming partitioner keeps its balance and takes any rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.partitioning import run_streaming
from tests.partitioning.partition_cases import graphs, planted


@settings(max_examples=50)
@given(graph=graphs(), data=st.data(), imbalance=st.sampled_from([0, 0.03, 0.3, 1e30]))
def test_balance_holds(graph, data, imbalance):
    n = graph.num_nodes
    parts = data.draw(st.integers(1, n))
    part = run_streaming(
        graph.adj.indptr.numpy(), graph.adj.indices.numpy(), parts, imbalance=imbalance
    )
    assert part.min() >= 0
    sizes = np.bincount(part, minlength=parts)
    assert len(sizes) == parts
    assert sizes.max() <= max(-(-n // parts), int((1 + imbalance) * n / parts))


def test_every_step_lowers_the_cut():
    graph = planted()
    rows = graph.adj.row_index.numpy()
    indptr, indices = graph.adj.indptr.numpy(), graph.adj.indices.numpy()

    def cut(**passes):
        part = run_streaming(indptr, indices, 20, **passes)
        return (part[rows] != part[indices]).mean()

    none = cut(grouping_passes=0, restreaming_passes=0)
    moved = cut(grouping_passes=0, restreaming_passes=4)
    assert cut() < moved < none < 0.95


def test_wrong_requests():
    indptr, indices = np.array([0, 1, 2]), np.array([1, 0])
    with pytest.raises(InputError, match=r"num_parts is 3; with 2 nodes"):
        run_streaming(indptr, indices, 3)
    with pytest.raises(InputError, match=r"indices span"):
        run_streaming(indptr, indices + 1, 2)
    with pytest.raises(InputError, match=r"node_weight must be positive"):
        run_streaming(indptr, indices, 2, node_weight=np.array([1, 0]))

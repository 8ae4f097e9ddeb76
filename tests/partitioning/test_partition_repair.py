"""Repair and the sharing of parts over graphs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, PartitionError
from gnnscale.partitioning import Structure, repair
from gnnscale.partitioning.methods import share_parts
from gnnscale.partitioning.repairs import cut_order
from tests.partitioning.partition_cases import graphs


def structure_of(graph):
    return Structure(graph.adj.indptr.numpy(), graph.adj.indices.numpy())


@settings(max_examples=50)
@given(graph=graphs(min_nodes=1), data=st.data())
def test_repair_only_splits(graph, data):
    n = graph.num_nodes
    parts = data.draw(st.integers(1, n))
    before = np.array(data.draw(st.lists(st.integers(0, parts - 1), min_size=n, max_size=n)))
    weight = np.array(data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)))
    after = repair(before, parts, structure_of(graph), weight)
    assert set(after) == set(range(parts))
    assert len(set(zip(before, after, strict=True))) == parts  # no new part joins two old ones
    full = np.bincount(before, minlength=parts).all()
    assert not full or np.array_equal(before, after)


def test_repair_cuts_a_path_where_it_hangs_together():
    n = 12
    order = np.random.default_rng(0).permutation(n)
    matrix = np.zeros((n, n), int)
    matrix[order[:-1], order[1:]] = matrix[order[1:], order[:-1]] = 1
    indptr = np.concatenate([[0], np.cumsum(matrix.sum(1))])
    structure = Structure(indptr, np.nonzero(matrix)[1].astype(np.int32))
    part = repair(np.zeros(n, int), 2, structure)
    assert sorted(np.bincount(part)) == [6, 6]


def test_repair_refuses_what_is_no_assignment():
    structure = Structure(np.zeros(4, np.int64), np.zeros(0, np.int32))
    for wrong in (np.zeros(2, int), np.zeros(3), np.array([0, 1, 2])):
        with pytest.raises(PartitionError):
            repair(wrong, 2, structure)


@settings(max_examples=100)
@given(weight=st.lists(st.integers(1, 50), min_size=1, max_size=40), data=st.data())
def test_cut_order_leaves_no_piece_empty(weight, data):
    pieces = data.draw(st.integers(1, len(weight)))
    part = cut_order(np.array(weight), pieces)
    assert list(part) == sorted(part)
    assert set(part) == set(range(pieces))
    sizes = np.bincount(cut_order(np.ones(len(weight), int), pieces))
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=100)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12), data=st.data())
def test_shares_are_in_proportion(sizes, data):
    sizes = np.array(sizes)
    graphs_with_nodes, nodes = int((sizes > 0).sum()), int(sizes.sum())
    if nodes == 0:
        return
    parts = data.draw(st.integers(graphs_with_nodes, nodes))
    shares = share_parts(sizes, parts)
    assert shares.sum() == parts
    assert (shares <= sizes).all()
    assert (shares[sizes > 0] >= 1).all()
    quota = sizes * parts / nodes
    if (quota[sizes > 0] >= 1).all():
        assert (np.abs(shares - quota) < 1 + 1e-9).all()
    with pytest.raises(InputError):
        share_parts(sizes, nodes + 1)

"""What is handed to a native partitioner is simple and undirected, or refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings

from gnnscale.errors import InputError
from gnnscale.partitioning import check_undirected, run_kaminpar, run_metis, undirected
from tests.partitioning.partition_cases import NATIVE, graphs

BACKENDS = {"kaminpar": run_kaminpar, "metis": run_metis}


def dense(indptr, indices):
    n = len(indptr) - 1
    matrix = np.zeros((n, n), int)
    np.add.at(matrix, (np.repeat(np.arange(n), np.diff(indptr)), indices), 1)
    return matrix


@settings(max_examples=50)
@given(graph=graphs(min_nodes=1, max_nodes=12))
def test_undirected_is_the_pattern_of_a_plus_its_transpose(graph):
    indptr, indices = graph.adj.indptr.numpy(), graph.adj.indices.numpy()
    rng = np.random.default_rng(0)
    for start, stop in itertools.pairwise(indptr):
        rng.shuffle(indices[start:stop])
    matrix = dense(indptr, indices)
    expected = ((matrix + matrix.T) > 0) & ~np.eye(len(matrix), dtype=bool)
    structure = undirected(indptr, indices)
    assert np.array_equal(dense(*structure), expected)
    again = check_undirected(*structure)
    assert all(np.shares_memory(a, b) or a.size == 0 for a, b in zip(structure, again, strict=True))
    regular = np.array_equal(matrix, expected) and all(
        (np.diff(indices[a:b]) > 0).all() for a, b in itertools.pairwise(indptr)
    )
    if not regular:
        with pytest.raises(InputError):
            check_undirected(indptr, indices)


@pytest.mark.parametrize("method", NATIVE)
@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1, 1], [1], "must be symmetric: a neighbour of node 0 does not list it back"),
        ([0, 2, 3, 4], [2, 1, 0, 0], "rows must be sorted: 1 entries"),
        ([0, 2, 4], [1, 1, 0, 0], "stored once: 2 duplicates"),
        ([0, 2, 3], [0, 1, 0], "self-loops must be absent: there are 1"),
        ([0, 1, 2], [1, 2], r"indices span \[1, 2\]; with 2 nodes they must lie in \[0, 1\]"),
        ([0, 1, 2], [-1, 0], r"indices span \[-1, 0\]"),
        ([0, 1, 3], [1, 0], "from 0 to the number of entries 2, it runs from 0 to 3"),
        ([0, 2, 1, 2], [1, 0], "must not fall"),
        ([0, 1, 2], [1.0, 0.0], "integer array"),
        ([], [], "indptr"),
    ],
)
def test_a_backend_refuses_what_would_crash_it(method, indptr, indices, message):
    with pytest.raises(InputError, match=message):
        BACKENDS[method](np.array(indptr), np.array(indices), 2)


@pytest.mark.parametrize("method", NATIVE)
def test_a_backend_called_directly(method):
    n = 60
    ring = np.stack([(np.arange(n) - 1) % n, (np.arange(n) + 1) % n], 1)
    ring.sort(axis=1)
    indptr, indices = np.arange(0, 2 * n + 1, 2), ring.ravel()
    indices.flags.writeable = False
    part = BACKENDS[method](indptr, indices, 3, node_weight=np.ones(n, int))
    assert part.shape == (n,)
    assert set(part) == {0, 1, 2}
    with pytest.raises(InputError) as caught:
        BACKENDS[method](indptr, indices, n + 1, node_weight=np.zeros(n, int))
    assert len(caught.value.faults) == 2

"""A graph in a file is cut as one in memory is, and does not become resident."""

import mmap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.graph import Graph
from gnnscale.partitioning import (
    check_undirected,
    partition,
    run_streaming,
    undirected,
)
from gnnscale.partitioning.native import libraries as native
from gnnscale.partitioning.native.structure import Structure
from gnnscale.partitioning.rows import RowBlocks, entry_blocks
from gnnscale.storage.mapped import map_array
from tests.helpers.memory import linux, resident_file_pages
from tests.partitioning.partition_cases import SEEING, graphs, planted


def in_file(array, path):
    array.tofile(path)
    return map_array(path, array.dtype, array.shape).numpy()


def ring(num_nodes):
    """Every node beside its four nearest on either side."""
    steps = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
    indices = np.sort((np.arange(num_nodes)[:, None] + steps) % num_nodes, axis=1)
    return Structure(np.arange(num_nodes + 1) * 8, indices.ravel().astype(np.int32))


@settings(max_examples=30)
@given(graph=graphs(), entries=st.integers(1, 20))
def test_blocks_are_the_rows_in_order(graph, entries, tmp_path_factory):
    indptr, indices = graph.adj.indptr.numpy(), graph.adj.indices.numpy()
    if not len(indices):
        return
    mapped = in_file(indices, tmp_path_factory.mktemp("rows") / "indices")
    for array in (indices, mapped):
        blocks = RowBlocks(indptr, array, entries)
        rows = [(b.start, b.indptr.copy(), b.indices.copy()) for b in blocks]
        assert [start for start, _, _ in rows] == blocks.bounds[:-1].tolist()
        assert np.array_equal(np.concatenate([kept for _, _, kept in rows]), indices)
        for start, pointers, kept in rows:
            assert np.array_equal(pointers, indptr[start : start + len(pointers)])
            assert len(kept) <= entries or len(pointers) == 2
        assert np.array_equal(np.concatenate(list(entry_blocks(array))), indices)


@pytest.mark.parametrize("method", SEEING)
@pytest.mark.parametrize("directed", [False, True])
def test_a_graph_in_a_file_is_cut_as_one_in_memory(tmp_path, method, directed):
    graph = planted()
    if directed:
        edges = graph.edge_index
        graph = Graph.from_arrays(edges[:, edges[0] < edges[1]], num_nodes=2000)
    adj = graph.adj
    stored = type(adj)(
        torch.from_numpy(in_file(adj.indptr.numpy(), tmp_path / "indptr")),
        torch.from_numpy(in_file(adj.indices.numpy(), tmp_path / "indices")),
    )
    options = {"cache": False, "deterministic": True}
    there = partition(stored, 20, method, **options).assignment
    assert torch.equal(there, partition(graph, 20, method, **options).assignment)


@linux
def test_no_pass_over_a_file_leaves_it_resident(tmp_path):
    indptr, indices = ring(400_000)
    path = tmp_path / "indices"
    mapped = in_file(indices, path)
    structure = check_undirected(indptr, mapped)
    assert undirected(*structure).indices.base is structure.indices.base
    native.write_parhip(tmp_path / "parhip", structure)
    run_streaming(*structure, 100)
    assert resident_file_pages(path) < mapped.nbytes / 10 / mmap.PAGESIZE
    assert np.array_equal(
        np.fromfile(tmp_path / "parhip", "<u4", offset=8 * (3 + len(indptr))), indices
    )

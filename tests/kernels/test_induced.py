"""The induced subgraph is the submatrix of the batch's rows and columns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.kernels import CSR, induced_subgraph
from gnnscale.kernels.induced import reference
from tests.kernels.matrices import clustered, csr_from, dense_from

quick = settings(max_examples=50)


@quick
@given(clustered(), st.sampled_from([torch.int32, torch.int64]), st.booleans())
def test_batch_is_the_submatrix(drawn, index, with_positions):
    entries, starts, ends, cluster_of, clusters = drawn
    row, col, _, shape = entries
    graph = csr_from((row, col, None, shape), index=index)
    window = torch.zeros(starts.numel(), 2, dtype=torch.int64)
    batch = starts[clusters], ends[clusters]
    given_ = graph.indptr, graph.indices, cluster_of, *batch, clusters, window, with_positions
    out, expected = induced_subgraph(*given_), reference.induced_subgraph(*given_)
    for ours, theirs in zip(out, expected, strict=True):
        assert (ours is None and theirs is None) or torch.equal(ours, theirs)
    assert not window.any()

    ranges = [torch.arange(int(a), int(b)) for a, b in zip(*batch, strict=True)]
    nodes = torch.cat([torch.empty(0, dtype=torch.int64), *ranges])
    dense = dense_from((row, col, None, shape))[nodes][:, nodes]
    local = CSR(out[0], out[1], None, (nodes.numel(), nodes.numel()))
    assert torch.equal(local.to_dense(torch.float64), dense)
    if with_positions:
        assert torch.equal(nodes[local.indices.long()], graph.indices[out[2]].long())
        assert torch.equal(nodes[local.row_index], graph.row_index[out[2]])


@pytest.mark.filterwarnings("error")
def test_mapped_files_serve_as_storage(tmp_path):
    graph = CSR.from_dense(torch.ones(6, 6))
    np.save(tmp_path / "indptr.npy", graph.indptr.numpy())
    np.save(tmp_path / "indices.npy", graph.indices.numpy())
    mapped = [
        torch.from_numpy(np.load(tmp_path / f"{name}.npy", mmap_mode="c"))
        for name in ("indptr", "indices")
    ]
    cluster_of = torch.tensor([0, 0, 1, 1, 2, 2], dtype=torch.int32)
    window = torch.zeros(3, 2, dtype=torch.int64)
    clusters = torch.tensor([2, 0])
    indptr, indices, _ = induced_subgraph(
        *mapped, cluster_of, torch.tensor([4, 0]), torch.tensor([6, 2]), clusters, window
    )
    assert indptr.tolist() == [0, 4, 8, 12, 16]
    assert indices.tolist() == [2, 3, 0, 1] * 4  # storage order: columns of cluster 0 come first

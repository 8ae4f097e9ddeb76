"""Matrices are walked in blocks of bounded size, whatever the lengths of their rows."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.graph import adjacency
from gnnscale.kernels import CSR


@given(lengths=st.lists(st.integers(0, 30), max_size=60), most=st.integers(1, 40))
def test_blocks_are_the_rows_in_order_and_none_is_large(lengths, most):
    indptr = torch.tensor([0, *lengths]).cumsum(0)
    matrix = CSR(indptr, torch.arange(int(indptr[-1])), None, (len(lengths), 2000))
    before, adjacency._MOST = adjacency._MOST, most
    try:
        blocks = list(adjacency.row_blocks(matrix))
    finally:
        adjacency._MOST = before
    at = 0
    for start, stop, rows in blocks:
        assert start == at and rows.shape[0] == stop - start <= max(most, 1)
        assert rows.nnz <= most or stop - start == 1
        assert torch.equal(rows.indptr, indptr[start : stop + 1] - indptr[start])
        at = stop
    assert at == len(lengths)
    entries = [rows.indices for _, _, rows in blocks]
    assert torch.equal(torch.cat([matrix.indices[:0], *entries]), matrix.indices)

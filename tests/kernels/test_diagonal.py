"""Sums of rows, diagonal entries apart: the kernel equals its reference and the dense matrix."""

import pytest
import torch
from hypothesis import given, settings

from gnnscale.kernels import row_sums
from gnnscale.kernels.diagonal.reference import row_sums as row_sums_reference
from tests.kernels.conftest import DEVICES
from tests.kernels.matrices import coo, csr_from, dense_from


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40)
@given(entries=coo(square=True))
def test_sums_are_those_of_the_matrix(device, entries):
    a = csr_from(entries)
    dense = dense_from(entries).double()
    sums = row_sums(a.to(device))
    own = dense.diagonal()
    weights = torch.ones(a.nnz) if a.values is None else a.values
    torch.testing.assert_close(sums.diagonal.cpu(), own)
    torch.testing.assert_close(sums.others.cpu(), dense.sum(1) - own, rtol=1e-6, atol=1e-5)
    stored = torch.zeros(a.shape[0], dtype=torch.bool)
    stored[a.row_index[a.row_index == a.indices]] = True  # whatever the value
    assert torch.equal(sums.has_diagonal.cpu(), stored)
    last = torch.zeros(a.shape[0], dtype=torch.float64)
    for row, column, value in zip(a.row_index, a.indices, weights, strict=True):
        if row == column:
            last[row] = value
    assert torch.equal(sums.last.cpu(), last)
    for mine, plain in zip(sums, row_sums_reference(a), strict=True):
        torch.testing.assert_close(mine.cpu(), plain)
    for start in range(a.shape[0] + 1):  # block by block
        rest = row_sums(a.slice_rows(start, a.shape[0]), start)
        assert all(torch.equal(r, s[start:]) for r, s in zip(rest, row_sums(a), strict=True))

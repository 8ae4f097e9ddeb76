"""The sparse matrix agrees with its dense twin."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.kernels import CSR
from tests.kernels.matrices import coo, csr_from, dense_from

index_types = st.sampled_from([torch.int32, torch.int64])


@given(coo(), index_types)
def test_transpose_is_the_dense_transpose(entries, index):
    matrix = csr_from(entries, index=index)
    dense = dense_from(entries)
    torch.testing.assert_close(matrix.to_dense(torch.float64), dense)
    torch.testing.assert_close(matrix.t().to_dense(torch.float64), dense.t())
    assert matrix.t() is matrix.t()
    assert matrix.t().shape == (matrix.shape[1], matrix.shape[0])


@given(coo(), index_types)
def test_transpose_is_stable_and_knows_its_permutation(entries, index):
    matrix = csr_from(entries, index=index)
    expected = torch.argsort(matrix.indices.long(), stable=True)
    assert torch.equal(matrix.t_permutation, expected)
    assert torch.equal(matrix.t().indices.long(), matrix.row_index[expected])
    assert torch.equal(matrix.t().row_index, matrix.indices[expected].long())


@given(coo())
def test_from_coo_sorts_stably(entries):
    row, col, values, shape = entries
    matrix, permutation = CSR.from_coo(row, col, values, shape)
    expected = torch.argsort(row * shape[1] + col, stable=True)
    assert torch.equal(permutation, expected)
    assert torch.equal(matrix.row_index, row[expected])
    assert torch.equal(matrix.indices.long(), col[expected])
    if values is not None:
        assert torch.equal(matrix.values, values[expected])


@given(coo(), st.data())
def test_rows_taken_are_the_dense_rows(entries, data):
    matrix, dense = csr_from(entries), dense_from(entries)
    rows = matrix.shape[0]
    a = data.draw(st.integers(0, rows))
    b = data.draw(st.integers(a, rows))
    part = matrix.slice_rows(a, b)
    torch.testing.assert_close(part.to_dense(torch.float64), dense[a:b])
    assert int(part.indptr[0]) == 0
    if rows:
        index = torch.tensor(data.draw(st.lists(st.integers(0, rows - 1))), dtype=torch.int64)
        torch.testing.assert_close(matrix.select_rows(index).to_dense(torch.float64), dense[index])
    mask = torch.arange(rows) % 2 == 0
    torch.testing.assert_close(matrix.select_rows(mask).to_dense(torch.float64), dense[mask])


@given(coo())
def test_from_dense_round_trip(entries):
    dense = dense_from(entries)
    assert torch.equal(CSR.from_dense(dense).to_dense(), dense)


@pytest.mark.parametrize("row", [-1, 3])
def test_rows_that_are_not_there_are_refused(row):
    with pytest.raises(InputError, match=r"outside 0\.\.2"):
        CSR.from_dense(torch.eye(3)).select_rows(torch.tensor([0, row]))


def test_from_dense_keeps_nan():
    dense = torch.tensor([[0.0, float("nan")], [2.0, 0.0]])
    assert CSR.from_dense(dense).nnz == 2


def test_slices_are_views():
    matrix = CSR.from_dense(torch.eye(6))
    part = matrix.slice_rows(2, 5)
    assert part.values is not None and matrix.values is not None
    assert part.indices.data_ptr() == matrix.indices[2:].data_ptr()
    assert part.values.data_ptr() == matrix.values[2:].data_ptr()


def test_faults_are_reported_together():
    with pytest.raises(InputError) as caught:
        CSR.from_coo(torch.tensor([0, 5]), torch.tensor([-1, 0]), torch.ones(3), (3, 3))
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "row index 5 is outside 0..2" in text
    assert "column index -1 is outside 0..2" in text
    assert "values has shape [3], expected [2]" in text


def test_a_subclass_slices_to_plain_csr_and_moves_as_itself():
    class Special(CSR):
        pass

    matrix = CSR.from_dense(torch.eye(3))
    special = Special(matrix.indptr, matrix.indices, matrix.values, matrix.shape)
    special.note = "kept"
    assert type(special.slice_rows(0, 2)) is CSR
    assert special.to("cpu") is special
    moved = special.to("meta")
    assert type(moved) is Special and moved.note == "kept" and moved.device.type == "meta"
    assert special.device.type == "cpu"


def test_a_batch_leaves_no_reference_cycle():
    import gc
    import weakref

    matrix = CSR.from_dense(torch.eye(3))
    matrix.t()
    gone = weakref.ref(matrix)
    gc.disable()
    try:
        del matrix
        assert gone() is None
    finally:
        gc.enable()


def test_moved_matrix_is_the_same_matrix(device):
    dense = torch.randn(7, 5) * (torch.rand(7, 5) < 0.4)
    matrix = CSR.from_dense(dense)
    matrix.t()
    moved = matrix.to(device)
    torch.testing.assert_close(moved.to_dense().cpu(), dense)
    torch.testing.assert_close(moved.t().to_dense().cpu(), dense.t())
    torch.testing.assert_close(CSR.from_dense(dense.to(device)).t().to_dense().cpu(), dense.t())

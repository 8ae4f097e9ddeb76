"""The extremum over neighbours equals torch's, and so does its gradient, ties included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.kernels import CSR, extremum
from gnnscale.kernels.extrema import reference
from tests.kernels.matrices import coo, csr_from


def extremum_reference(x, a, kind="max"):
    return reference.extremum(x, a, 1 if kind == "max" else -1)


kinds = st.sampled_from(["max", "min"])
# Every index and every value type, not every pair: each pair compiles three kernels anew.
types = st.sampled_from([(torch.int64, torch.float32), (torch.int32, torch.float64)])


@given(coo(), kinds, types, st.integers(0, 9))
def test_extremum_and_gradient_are_those_of_torch(entries, kind, types, width):
    index, dtype = types
    matrix = csr_from(entries, dtype, index)
    # Few different values: ties are the rule.
    x = torch.randint(-2, 3, (entries[3][1], width)).to(dtype).requires_grad_()
    expected = extremum_reference(x, matrix, kind)
    out = extremum(x, matrix, kind)
    assert torch.equal(out, expected)
    weight = torch.randn_like(out)
    (ours,) = torch.autograd.grad((out * weight).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(ours, theirs)


@given(coo(square=True), kinds)
def test_symmetric_structure_needs_no_transpose(entries, kind):
    row, col, _, shape = entries
    both = torch.cat([row, col]), torch.cat([col, row]), None, shape
    matrix = csr_from(both)
    x = torch.randn(shape[0], 3, dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(extremum(x, matrix, kind, symmetric).square().sum(), x)[0]
        for symmetric in (False, True)
    ]
    torch.testing.assert_close(*grads)


def test_every_device_and_half_precision(device):
    matrix = CSR.from_dense((torch.rand(20, 20) < 0.2).float())
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = torch.randn(20, 5).to(dtype)
        out = extremum(x.to(device), matrix.to(device))
        assert torch.equal(out.cpu(), extremum_reference(x, matrix)) and out.dtype == dtype


def test_nan_shows_in_every_row_that_has_it():
    matrix = CSR.from_dense(torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]))
    x = torch.tensor([[float("nan")], [1.0], [-2.0]])
    for kind in ("max", "min"):
        out = extremum(x, matrix, kind)
        torch.testing.assert_close(out, extremum_reference(x, matrix, kind), equal_nan=True)


def test_what_does_not_fit_is_named():
    matrix = CSR.from_dense(torch.ones(2, 3))
    with pytest.raises(InputError, match=r"expected floating \[3, channels\]"):
        extremum(torch.ones(2, 2), matrix)
    with pytest.raises(InputError, match="kind='mean'"):
        extremum(torch.ones(3, 2), matrix, "mean")

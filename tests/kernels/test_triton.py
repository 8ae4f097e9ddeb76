"""The Triton kernels equal the references: on CUDA, or on the CPU in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.kernels.extrema import reference as extrema
from gnnscale.kernels.hash_dropout import reference, stream_of
from gnnscale.kernels.product.reference import spmm as spmm_reference
from tests.kernels.matrices import coo, csr_from

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

from gnnscale.kernels.extrema import cuda as triton_extremum  # noqa: E402
from gnnscale.kernels.hash_dropout import cuda as triton_dropout  # noqa: E402
from gnnscale.kernels.product import cuda as triton_spmm  # noqa: E402

quick = settings(max_examples=20)
half_types = [torch.bfloat16, torch.float16]
keys = st.tuples(st.integers(-(2**70), 2**70), st.integers(0, 2**40), st.integers(0, 100))


def optional(data, length, dtype):
    """Draw a vector, or None."""
    return torch.rand(length, dtype=dtype) if data.draw(st.booleans()) else None


def moved(tensor):
    return None if tensor is None else tensor.to(DEVICE)


def assert_same(out, expected):
    """Bit for bit; but Triton 3.9's interpreter truncates to bfloat16, where GPUs round."""
    assert out.dtype == expected.dtype
    if DEVICE == "cpu" and out.dtype == torch.bfloat16:
        assert torch.equal(out == 0, expected == 0)
        torch.testing.assert_close(out, expected, rtol=torch.finfo(out.dtype).eps, atol=0)
    else:
        assert torch.equal(out.cpu(), expected)


@quick
@given(
    coo(),
    st.sampled_from([torch.int32, torch.int64]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0, 1, 3, 16, 47, 130]),
    st.data(),
)
def test_the_product_is_the_reference(entries, index, dtype, width, data):
    (rows, cols), matrix = entries[3], csr_from(entries, dtype, index)
    x = torch.randn(cols, width, dtype=dtype)
    x_self = torch.randn(rows, width, dtype=dtype)
    factors = [optional(data, length, dtype) for length in (rows, cols, rows)]
    expected = spmm_reference(matrix, x, *factors, x_self)
    out = triton_spmm.spmm(matrix.to(DEVICE), moved(x), *(moved(f) for f in factors), moved(x_self))
    assert out.dtype == dtype
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("half", half_types)
def test_half_precision_is_summed_in_float32_and_rounded_once(half):
    row = torch.arange(3).repeat_interleave(1000)
    matrix = csr_from((row, torch.arange(1000).repeat(3), None, (3, 1000)))
    x, right = (1 + torch.rand(1000, 5)).to(half), torch.rand(1000)
    out = triton_spmm.spmm(matrix.to(DEVICE), moved(x), None, moved(right), None, None)
    exact = spmm_reference(matrix, x.double(), right=right.double())
    torch.testing.assert_close(out.cpu(), exact.to(half), rtol=2 * torch.finfo(half).eps, atol=0)


@quick
@given(
    st.lists(st.integers(0, 2**62), max_size=9),
    st.sampled_from([0, 1, 3, 33, 600]),
    st.floats(0.01, 1),
    keys,
    st.sampled_from([torch.float32, *half_types]),
    st.booleans(),
)
def test_dropout_is_the_reference_bit_for_bit(ids, width, p, key, dtype, relu):
    node, x = torch.tensor(ids, dtype=torch.int64), torch.randn(len(ids), width).to(dtype)
    slope = 0 if relu else 1
    out = triton_dropout.dropout(moved(x), p, stream_of(key), moved(node), slope)
    assert_same(out, reference.dropout(x, p, stream_of(key), node, slope))
    grad = torch.randn_like(x)
    back = triton_dropout.relu_gradient(moved(grad), out, 0.2)
    assert_same(back, torch.where(out.cpu() > 0, grad.float() * 1.25, 0).to(dtype))


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_not_finite_shows(relu):
    x = torch.full((2, 40), float("nan"))
    x[1] = float("inf")
    node, slope = torch.arange(2), 0 if relu else 1
    with np.errstate(invalid="ignore"):  # the interpreter's
        out = triton_dropout.dropout(moved(x), 0.5, stream_of((1, 2, 3)), moved(node), slope)
    expected = reference.dropout(x, 0.5, stream_of((1, 2, 3)), node, slope)
    torch.testing.assert_close(out.cpu(), expected, equal_nan=True)


@quick
@given(
    coo(), st.sampled_from([0, 1, 3, 47, 130]), st.sampled_from(["max", "min"]), st.integers(0, 99)
)
def test_the_extremum_and_its_gradient_are_the_reference(entries, width, kind, seed):
    """Many values are equal, so that the gradient is shared."""
    matrix, random = csr_from(entries), torch.Generator().manual_seed(seed)
    there, sign = matrix.to(DEVICE), 1.0 if kind == "max" else -1.0
    x = torch.randint(-2, 3, (entries[3][1], width), generator=random).double()
    grad = torch.randn(entries[3][0], width, dtype=torch.float64)
    out = triton_extremum.extremum(moved(x), there, sign)
    theirs = x.clone().requires_grad_()
    expected = extrema.extremum(theirs, matrix, sign)
    assert torch.equal(out.cpu(), expected)
    back = triton_extremum.extremum_gradient(moved(grad), moved(x), out, there, False)
    (wanted,) = torch.autograd.grad(expected, theirs, grad)
    torch.testing.assert_close(back.cpu(), wanted)
    x = x.masked_fill(torch.rand(x.shape, generator=random) < 0.1, float("nan"))
    out, expected = (
        triton_extremum.extremum(moved(x), there, sign),
        extrema.extremum(x, matrix, sign),
    )
    torch.testing.assert_close(out.cpu(), expected, equal_nan=True, rtol=0, atol=0)

"""The sparse product equals the dense one, and its gradients are right."""

import threading

import numba
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.kernels import (
    CSR,
    THREADING_LAYER,
    induced_subgraph,
    propagate,
    sparse_linear,
    spmm,
)
from gnnscale.kernels.product.cusparse import spmm as cusparse_spmm
from gnnscale.kernels.product.reference import spmm as spmm_reference
from tests.kernels.conftest import DEVICES
from tests.kernels.matrices import coo, csr_from, dense_from

index_types = st.sampled_from([torch.int32, torch.int64])
float_types = st.sampled_from([torch.float32, torch.float64])
# Every index and every value type, not every pair: each pair compiles the kernels anew.
types = st.sampled_from([(torch.int32, torch.float32), (torch.int64, torch.float64)])
widths = st.sampled_from([0, 1, 3, 8, 33])


def optional_vectors(data, lengths, dtype):
    """Draw a vector or None for each length."""
    return [
        torch.randn(length, dtype=dtype) if data.draw(st.booleans()) else None for length in lengths
    ]


def with_diagonals(dense, left, right):
    """Return ``diag(left) @ dense @ diag(right)``."""
    if left is not None:
        dense = left.unsqueeze(1) * dense
    return dense if right is None else dense * right


@pytest.mark.parametrize("product", [spmm, spmm_reference])
@given(coo(), types, widths, st.data())
def test_product_is_the_dense_product(product, entries, types, width, data):
    (index, dtype), (rows, cols) = types, entries[3]
    matrix = csr_from(entries, dtype, index)
    left, right, diag = optional_vectors(data, (rows, cols, rows), dtype)
    x = torch.randn(cols, width, dtype=dtype)
    x_self = torch.randn(rows, width, dtype=dtype)
    expected = with_diagonals(dense_from(entries, dtype), left, right) @ x
    if diag is not None:
        expected = expected + diag.unsqueeze(1) * x_self
    out = product(matrix, x, left, right, diag, x_self)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


@given(coo(), float_types, st.integers(1, 140))
def test_a_channel_does_not_depend_on_those_beside_it(entries, dtype, width):
    """Channels are summed in groups, the last of which may go back over others."""
    matrix = csr_from(entries, dtype)
    rows, cols = matrix.shape
    x, right, diag = torch.randn(cols, width), torch.rand(cols), torch.rand(rows)
    own = torch.randn(rows, width)
    x, right, diag, own = (tensor.to(dtype) for tensor in (x, right, diag, own))
    out = spmm(matrix, x, None, right, diag, own)
    for c in range(width):
        alone = spmm(matrix, x[:, c : c + 1], None, right, diag, own[:, c : c + 1])
        assert torch.equal(out[:, c : c + 1], alone)


def test_kernel_equals_reference_on_every_device(device):
    torch.manual_seed(0)
    row, col = torch.randint(0, 300, (2, 4000))
    matrix, _ = CSR.from_coo(row, col, torch.rand(4000), (300, 300))
    left, right, diag, x = torch.rand(300), torch.rand(300), torch.rand(300), torch.randn(300, 40)
    expected = spmm_reference(matrix, x, left, right, diag)
    moved = [tensor.to(device) for tensor in (x, left, right, diag)]
    torch.testing.assert_close(spmm(matrix.to(device), *moved).cpu(), expected)
    empty = CSR.from_dense(torch.zeros(300, 300)).to(device)
    assert not spmm(empty, moved[0]).any()


@given(coo(), types, widths, st.data())
def test_torchs_own_product_is_the_reference(entries, types, width, data):
    """What runs on CUDA without Triton; its matrix is made once for all layers of a step."""
    (index, dtype), (rows, cols) = types, entries[3]
    for device in DEVICES:
        matrix = csr_from(entries, dtype, index, device)
        vectors = optional_vectors(data, (rows, cols, rows), dtype)
        left, right, diag = (None if v is None else v.to(device) for v in vectors)
        for _ in range(2):
            x = torch.randn(cols, width, dtype=dtype, device=device)
            x_self = torch.randn(rows, width, dtype=dtype, device=device)
            out = cusparse_spmm(matrix, x, left, right, diag, x_self)
            expected = spmm_reference(matrix, x, left, right, diag, x_self)
            torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        assert len(matrix.products) == (matrix.nnz > 0 and width > 0)
        assert not matrix.to("meta").products


def test_strided_input_and_other_types():
    matrix = CSR.from_dense(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    x = torch.randn(3, 2).t()
    torch.testing.assert_close(spmm(matrix, x), matrix.to_dense() @ x)
    wide = spmm(matrix, x.double(), left=torch.ones(2))  # operands follow x
    assert wide.dtype == torch.float64


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32_and_rounded_once(half):
    """Summed in bfloat16, a thousand rows around 1 would stop growing at 256."""
    matrix = CSR.from_dense(torch.ones(2, 1000))
    x = (1 + torch.rand(1000, 3)).to(half).requires_grad_()
    right = torch.rand(1000)
    out = propagate(x, matrix, right=right)
    exact = propagate(x.detach().float(), matrix, right=right)
    assert torch.equal(out, exact.to(half))
    torch.testing.assert_close(spmm_reference(matrix, x, right=right), out, rtol=0.05, atol=0)
    out.sum().backward()
    assert torch.equal(x.grad, (2 * right).to(half).unsqueeze(1).expand(-1, 3))


def test_self_operand_defaults_to_x():
    matrix = CSR.from_dense(torch.ones(3, 3))
    x, diag = torch.randn(3, 2), torch.rand(3)
    assert torch.equal(spmm(matrix, x, diag=diag), spmm(matrix, x, diag=diag, x_self=x))


def test_wrong_shapes_are_named():
    matrix = CSR.from_dense(torch.ones(3, 4))
    with pytest.raises(InputError, match=r"x has shape \[3, 2\], expected \[4, channels\]"):
        spmm(matrix, torch.ones(3, 2))
    with pytest.raises(InputError) as caught:
        spmm(matrix, torch.ones(4, 2), torch.ones(4), torch.ones(3), torch.ones(3))
    assert len(caught.value.faults) == 3


def test_result_does_not_depend_on_threads():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    row = (torch.rand(20000).pow(3) * 500).long()  # skewed: blocks of very unlike rows
    matrix, _ = CSR.from_coo(row, torch.randint(0, 500, (20000,)), torch.randn(20000), (500, 500))
    x, scale = torch.randn(500, 37), torch.rand(500)
    try:
        torch.set_num_threads(1)
        single = spmm(matrix, x, scale, scale, scale)
        torch.set_num_threads(2)
        assert torch.equal(single, spmm(matrix, x, scale, scale, scale))
    finally:
        torch.set_num_threads(before)


@given(coo(square=True, max_nodes=6, max_edges=15), index_types, st.booleans(), st.data())
def test_gradient_of_propagation(entries, index, symmetric, data):
    row, col, values, (n, _) = entries
    if symmetric:
        both = None if values is None else torch.cat([values, values])
        entries = torch.cat([row, col]), torch.cat([col, row]), both, (n, n)
    matrix = csr_from(entries, index=index)
    left, right, diag = optional_vectors(data, (n, n, n), torch.float64)
    x = torch.randn(n, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda value: propagate(value, matrix, left, right, diag, symmetric), (x,)
    )


def test_propagation_of_what_needs_no_gradient_is_plain():
    matrix = CSR.from_dense(torch.ones(3, 3))
    x = torch.randn(3, 2)
    assert not propagate(x, matrix).requires_grad
    weight = torch.randn(2, 2, requires_grad=True)
    propagate(x @ weight, matrix).sum().backward()  # an expanded gradient
    torch.testing.assert_close(weight.grad, x.t() @ torch.full((3, 2), 3.0))


def test_gradients_on_every_device(device):
    torch.manual_seed(0)
    dense = torch.randn(30, 30, dtype=torch.float64) * (torch.rand(30, 30) < 0.2)
    matrix = CSR.from_dense(dense.to(device))
    x = torch.randn(30, 4, dtype=torch.float64, device=device, requires_grad=True)
    propagate(x, matrix).square().sum().backward()
    expected = 2 * dense.t() @ (dense @ x.detach().cpu())
    torch.testing.assert_close(x.grad.cpu(), expected)


@given(coo(max_nodes=6, max_edges=15), index_types, st.booleans())
def test_gradient_of_sparse_linear(entries, index, with_bias):
    features = csr_from(entries, index=index)
    weight = torch.randn(3, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True) if with_bias else None
    expected = torch.nn.functional.linear(dense_from(entries), weight, bias)
    torch.testing.assert_close(sparse_linear(features, weight, bias), expected)
    inputs = (weight,) if bias is None else (weight, bias)
    assert torch.autograd.gradcheck(lambda *given: sparse_linear(features, *given), inputs)


@given(coo(max_nodes=6, max_edges=15), types)
def test_gradient_without_a_transpose_is_the_same_bits(entries, types):
    """Of a small batch the transpose is not made, where it is there it is read."""
    index, dtype = types
    features = csr_from(entries, index=index)
    if features.values is not None:
        features.values = features.values.to(dtype)
    weight = torch.randn(3, features.shape[1], dtype=dtype, requires_grad=True)
    gradients = []
    for _ in range(2):
        gradients += torch.autograd.grad(sparse_linear(features, weight).square().sum(), weight)
        features.t()
    assert torch.equal(*gradients)


def test_parallel_kernels_beside_a_prefetch_thread():
    torch.manual_seed(0)
    n, parts = 2000, 20
    row, col = torch.randint(0, n, (2, 20000))
    graph, _ = CSR.from_coo(row, col, None, (n, n))
    ends = torch.arange(1, parts + 1) * (n // parts)
    starts = ends - n // parts
    cluster_of = torch.repeat_interleave(torch.arange(parts), n // parts).to(torch.int32)
    chosen = torch.arange(0, parts, 2)
    stop, results, faults = threading.Event(), set(), []

    def prefetch():
        window = torch.zeros(parts, 2, dtype=torch.int64)
        try:
            while not stop.is_set():
                indptr, indices, _ = induced_subgraph(
                    graph.indptr,
                    graph.indices,
                    cluster_of,
                    starts[chosen],
                    ends[chosen],
                    chosen,
                    window,
                )
                results.add(CSR(indptr, indices).t().nnz)
        except BaseException as error:
            faults.append(error)

    x = torch.randn(n, 16)
    expected = spmm(graph, x)
    thread = threading.Thread(target=prefetch)
    thread.start()
    try:
        same = all(torch.equal(spmm(graph, x), expected) for _ in range(200))
    finally:
        stop.set()
        thread.join()
    assert same and not faults and len(results) == 1
    assert THREADING_LAYER == "serial" or numba.threading_layer() != "workqueue"

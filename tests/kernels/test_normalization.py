"""GraphNorm's kernel equals PyG's layer, with its gradients, and its float32 is no worse."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.nn import GraphNorm

from gnnscale.errors import InputError
from gnnscale.kernels import graph_norm
from gnnscale.kernels.normalization.reference import graph_norm_formula
from tests.helpers.layers import few, shaken

# One value of 2,500 columns takes blocks of 64 rows: segments of one block, and of several.
SIZES = st.lists(st.sampled_from([0, 1, 2, 5, 63, 64, 65, 200]), min_size=1, max_size=5)


def inputs(sizes, channels, mean=0.0, dtype=torch.float64):
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    x = (torch.randn(int(ptr[-1]), channels, dtype=torch.float64) + mean).to(dtype)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), ptr.diff())
    return x.requires_grad_(), ptr, batch


def run(function, x, norm, *last):
    out = function(x, norm.weight, norm.bias, norm.mean_scale, norm.eps, *last)
    return [out, *gradients(out, x, norm)]


def gradients(out, x, norm):
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out.dtype)
    return torch.autograd.grad(out, [x, *norm.parameters()], direction)


@few
@given(SIZES, st.sampled_from([1, 3, 2500]))
def test_equal_to_pyg_with_gradients(sizes, channels):
    x, ptr, batch = inputs(sizes, channels)
    norm = shaken(GraphNorm(channels))
    out = norm(x, batch, len(sizes))
    theirs = [out, *gradients(out, x, norm)]
    for function in (graph_norm, graph_norm_formula):
        for ours, wanted in zip(run(function, x, norm, ptr), theirs, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)


def test_gradients_by_differences():
    x, ptr, _ = inputs([3, 0, 1, 4], 2)
    norm = shaken(GraphNorm(2))
    arguments = (x, norm.weight, norm.bias, norm.mean_scale)
    for pointers in (ptr, None):
        assert torch.autograd.gradcheck(
            lambda *a, pointers=pointers: graph_norm(*a, 1e-3, pointers), arguments
        )


# Of a few nodes, where spread is no more than chance, either may be worse.
@few
@given(
    st.lists(st.sampled_from([30, 64, 200]), min_size=1, max_size=4),
    st.sampled_from([0.0, 1.0, 1e3]),
    st.booleans(),
)
def test_single_precision_is_no_worse_than_pygs(sizes, mean, first_is_apart):
    exact, ptr, batch = inputs(sizes, 64, mean, torch.float32)
    if first_is_apart:
        exact.data[0] += 100  # a shift by the first row would cancel
    norm = shaken(GraphNorm(64)).float()
    wide = shaken(GraphNorm(64))
    wide.load_state_dict(norm.state_dict())
    x = exact.detach().double().requires_grad_()
    out = wide(x, batch, len(sizes))
    wanted = [out, *gradients(out, x, wide)]
    out = norm(exact, batch, len(sizes))
    theirs = [out, *gradients(out, exact, norm)]
    ours = run(graph_norm, exact, norm, ptr)
    # Root mean squares: single roundings may fall either way.
    for mine, other, true in zip(ours, theirs, wanted, strict=True):
        error, allowed = ((v.double() - true).square().mean().sqrt() for v in (mine, other))
        assert error <= 1.05 * allowed + 2e-7 * true.square().mean().sqrt() + 1e-12


def test_every_device_and_half_precision(device):
    x, ptr, _ = inputs([70, 0, 1, 30], 8, dtype=torch.float32)
    norm = shaken(GraphNorm(8)).float()
    wanted = run(graph_norm, x, norm, ptr)
    there = x.detach().to(device).requires_grad_()
    found = run(graph_norm, there, norm.to(device), ptr.to(device))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-5)
    half = graph_norm(
        there.bfloat16(), norm.weight, norm.bias, norm.mean_scale, norm.eps, ptr.to(device)
    )
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float().cpu(), wanted[0], rtol=0.03, atol=0.03)


def test_result_does_not_depend_on_threads():
    x, ptr, _ = inputs([100, 29_900], 40, dtype=torch.float32)
    norm = shaken(GraphNorm(40)).float()
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(run(graph_norm, x, norm, ptr))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_pointers_that_do_not_fit():
    with pytest.raises(InputError, match="ascending from 0 to 3"):
        graph_norm(torch.ones(3, 2), *torch.ones(3, 2), 1e-5, torch.tensor([0, 4]))


def test_pointers_may_come_from_inference_mode_and_are_saved_as_they_are():
    x, one = torch.randn(6, 3), torch.ones(3)
    ptr = torch.tensor([0, 2, 6])
    expected = graph_norm(x, one, one, one, 0.1, ptr)
    with torch.inference_mode():
        inside = graph_norm(x, one, one, one, 0.1, torch.tensor([0, 2, 6]))
    assert torch.equal(inside, expected)
    file = io.BytesIO()
    torch.save(ptr, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), ptr)
    ptr[1] = 3  # what was kept of the pointers is not used again
    again = graph_norm(x, one, one, one, 0.1, torch.tensor([0, 3, 6]))
    assert torch.equal(graph_norm(x, one, one, one, 0.1, ptr), again)

"""Moments of segments equal those of float64 arithmetic, however blocks and threads cut them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.kernels import segment_moments
from gnnscale.kernels.moments.reference import segment_moments as segment_moments_reference

sizes = st.lists(st.sampled_from([0, 1, 2, 7, 63, 64, 65, 9000, 30_000]), max_size=4)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


@given(sizes, st.integers(0, 5), dtypes)
def test_kernel_equals_reference(lengths, width, dtype):
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    x = (torch.randn(int(ptr[-1]), width) + 100).to(dtype)  # far from 0: E[x²] − E[x]² would fail
    for ours, theirs in zip(
        segment_moments(x, ptr), segment_moments_reference(x, ptr), strict=True
    ):
        # In tiles of float32: a rounding of differences, not of the values themselves.
        close = 1e-9 if dtype == torch.float64 else 1e-6
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


def test_every_device(device):
    x, ptr = torch.randn(50, 3), torch.tensor([0, 20, 20, 50])
    for ours, theirs in zip(
        segment_moments(x.to(device), ptr.to(device)), segment_moments(x, ptr), strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs)


def test_result_does_not_depend_on_threads():
    x, ptr = torch.randn(30_000, 5), torch.tensor([0, 100, 30_000])
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(torch.cat(segment_moments(x, ptr)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("ptr", [[0, 4], [1, 3], [0, 2, 1, 3], []])
def test_pointers_that_do_not_fit(ptr):
    with pytest.raises(InputError, match="ascending from 0 to 3"):
        segment_moments(torch.ones(3, 2), torch.tensor(ptr, dtype=torch.int64))

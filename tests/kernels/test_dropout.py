"""The counter-hash dropout: one mask whatever the batch, and as good as random."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.kernels import CSR, dropout, dropout_csr, relu_dropout
from gnnscale.kernels.hash_dropout import reference as hashed
from gnnscale.kernels.hash_dropout import stream_of
from tests.kernels.matrices import coo, csr_from

keys = st.tuples(st.integers(-(2**70), 2**70), st.integers(0, 2**40), st.integers(0, 100))
all_types = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
node_ids = st.lists(st.integers(0, 2**62), max_size=12).map(
    lambda ids: torch.tensor(ids, dtype=torch.int64)
)


def dropout_reference(x, p, key, node, slope=1):
    """The reference, which takes where the hash of a key begins."""
    return hashed.dropout(x, p, stream_of(key), node, slope)


relu_dropout_reference = partial(dropout_reference, slope=0)
PAIRS = [(dropout, dropout_reference), (relu_dropout, relu_dropout_reference)]


def keep_mask(node, width, p=0.5, key=(0, 0, 0)):
    """Return which elements are kept."""
    return dropout(torch.ones(node.numel(), width), p, key, node) != 0


@pytest.mark.parametrize("pair", PAIRS)
@given(node_ids, st.integers(0, 40), st.floats(0, 1), keys, all_types)
def test_kernel_equals_reference_bit_for_bit(pair, node, width, p, key, dtype):
    x = torch.randn(node.numel(), width, dtype=dtype)
    kernel, reference = pair
    assert torch.equal(kernel(x, p, key, node), reference(x, p, key, node))


def test_every_device_draws_the_same_mask(device):
    node, x = torch.arange(50) * 10**9, torch.randn(50, 33)
    for kernel, reference in PAIRS:
        out = kernel(x.to(device), 0.3, (5, 1, 2), node.to(device))
        torch.testing.assert_close(out.cpu(), reference(x, 0.3, (5, 1, 2), node))


@given(st.permutations(range(12)), st.integers(0, 12), keys)
def test_mask_does_not_depend_on_row_grouping(order, cut, key):
    node = torch.tensor(order)
    whole = keep_mask(torch.arange(12), 19, 0.4, key)
    parts = [keep_mask(node[:cut], 19, 0.4, key), keep_mask(node[cut:], 19, 0.4, key)]
    assert torch.equal(torch.cat(parts), whole[node])


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_keep_rate_and_its_spread(p):
    rows, width = 4000, 512
    kept = keep_mask(torch.arange(rows), width, p).double()
    variance = p * (1 - p)
    assert abs(kept.mean() - (1 - p)) < 4 * (variance / kept.numel()) ** 0.5
    # The means of rows and channels scatter as those of independent draws do.
    assert kept.mean(1).var() * width / variance == pytest.approx(1, abs=0.1)
    assert kept.mean(0).var() * rows / variance == pytest.approx(1, abs=0.3)


def test_no_visible_correlation():
    rows, width = 3000, 400
    node = torch.arange(rows)
    masks = {
        key: keep_mask(node, width, 0.5, key).double() - 0.5
        for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    }
    base = masks[0, 0, 0]
    pairs = list(itertools.combinations(masks.values(), 2))
    pairs += [(base[:, :-lag], base[:, lag:]) for lag in (1, 2, 3, 4, 8, 16, 64)]
    pairs += [(base[:-lag], base[lag:]) for lag in (1, 2, 3, 4, 8, 64, 1024)]
    pairs += [(base[:-1, :-1], base[1:, 1:]), (base[:-1, 1:], base[1:, :-1])]
    for a, b in pairs:
        correlation = 4 * float((a * b).mean())
        assert abs(correlation) < 4.5 / a.numel() ** 0.5


def test_ends_of_the_range():
    x, node = torch.randn(5, 4), torch.arange(5)
    assert dropout(x, 0.0, (0, 0, 0), node) is x
    assert torch.equal(relu_dropout(x, 0.0, (0, 0, 0), node), torch.relu(x))
    assert not dropout(x, 1.0, (0, 0, 0), node).any()
    assert not relu_dropout(x, 1.0, (0, 0, 0), node).any()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_probability_outside_the_range(p):
    with pytest.raises(InputError, match="expected 0 to 1"):
        dropout(torch.ones(2, 2), p, (0, 0, 0), torch.arange(2))


def test_node_ids_must_match_the_rows():
    for node in (torch.arange(3), torch.arange(2, dtype=torch.int32)):
        with pytest.raises(InputError, match="node_id"):
            relu_dropout(torch.ones(2, 2), 0.5, (0, 0, 0), node)


@pytest.mark.parametrize("kernel", [relu_dropout, relu_dropout_reference])
def test_nan_passes_relu(kernel):
    x = torch.full((3, 4), float("nan"))
    assert kernel(x, 0.5, (0, 0, 0), torch.arange(3)).isnan().all()
    assert F.dropout(torch.relu(x), 0.5).isnan().all()  # as torch does


@pytest.mark.parametrize("pair", PAIRS)
def test_gradients(pair, device):
    kernel, reference = pair
    node = torch.arange(6, device=device)
    x = torch.randn(6, 5, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda value: kernel(value, 0.4, (1, 2, 3), node), (x,))
    (ours,) = torch.autograd.grad(kernel(x, 0.4, (1, 2, 3), node).sum(), x)  # expanded gradient
    (theirs,) = torch.autograd.grad(reference(x, 0.4, (1, 2, 3), node).sum(), x)
    torch.testing.assert_close(ours, theirs)


def test_more_dimensions_are_channels():
    x, node = torch.randn(4, 3, 5), torch.arange(4)
    flat = dropout(x.view(4, 15), 0.5, (0, 0, 0), node)
    assert torch.equal(dropout(x, 0.5, (0, 0, 0), node), flat.view(4, 3, 5))


# Every index and every value type, not every pair: each pair compiles the kernel anew.
types = st.sampled_from([(torch.int32, torch.float32), (torch.int64, torch.float64)])


@given(coo(), st.floats(0, 1), keys, types)
def test_sparse_dropout_uses_the_dense_mask(entries, p, key, types):
    index, dtype = types
    x = csr_from(entries, dtype, index)
    node = torch.arange(x.shape[0]) * 7
    out = dropout_csr(x, p, key, node)
    dense = dropout(x.to_dense(), p, key, node)
    torch.testing.assert_close(out.to_dense(), dense)
    assert out.nnz == x.nnz


def test_sparse_dropout_on_every_device(device):
    x = CSR.from_dense(torch.randn(20, 30) * (torch.rand(20, 30) < 0.3))
    node = torch.arange(20)
    out = dropout_csr(x.to(device), 0.5, (0, 0, 0), node.to(device))
    torch.testing.assert_close(
        out.to_dense().cpu(), dropout_reference(x.to_dense(), 0.5, (0, 0, 0), node)
    )

"""Activation and dropout in one: what the two give one after another, gradients as well."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn.resolver import activation_resolver

from gnnscale.errors import InputError
from gnnscale.kernels import activation_dropout
from gnnscale.kernels.hash_dropout import reference, stream_of

KEY = (1, 2, 3)
OPTIONS = {"Threshold": (0.1, -2.0), "Softmax": (1,), "Softmin": (1,), "LogSoftmax": (1,)}
NAMES = set(nn.modules.activation.__all__) - {"RReLU", "MultiheadAttention", "Softmax2d"}
ACTIVATIONS = {name: activation_resolver(name, *OPTIONS.get(name, ())) for name in NAMES}
ACTIVATIONS["swish"] = activation_resolver("swish")
ACTIVATIONS["steep"] = nn.LeakyReLU(1.5)
ACTIVATIONS["negative"] = nn.LeakyReLU(-0.5)
TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
quick = settings(max_examples=10)


def both(activation, x, p, node):
    """Outputs and gradients of the fused path and of the plain one."""
    found = []
    weight = torch.randn(x.shape, dtype=torch.float64).to(x)
    paths = (
        lambda rows: activation_dropout(rows, activation, p, KEY, node),
        lambda rows: reference.dropout(activation(rows), p, stream_of(KEY), node),
    )
    for path in paths:
        rows = x.clone().requires_grad_()
        out = path(rows)
        (out * weight[..., : out.shape[-1]]).sum().backward()
        assert torch.equal(rows, x)  # what is written over is not the input
        found.append((out.detach(), rows.grad))
    return found


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@quick
@given(st.integers(0, 9), st.integers(1, 20), st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_one_after_the_other(name, rows, width, p):
    x = torch.randn(rows, 2 * width).mul_(3)
    x[::2, ::3] = 0  # where the piecewise ones have their corner
    (out, gradient), (expected, plain) = both(ACTIVATIONS[name], x, p, torch.arange(rows) * 7)
    assert torch.equal(out, expected)
    torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "Tanh"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_device_and_type(name, dtype, device):
    x, node = torch.randn(30, 12, device=device).to(dtype), torch.arange(30, device=device)
    (out, gradient), (expected, plain) = both(ACTIVATIONS[name], x, 0.4, node)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "SiLU", "Sigmoid"])
def test_without_a_gradient_and_on_transposed_rows(name):
    x, node = torch.randn(8, 5).t(), torch.arange(5)
    before = x.clone()
    out = activation_dropout(x, ACTIVATIONS[name], 0.5, KEY, node)
    assert torch.equal(out, reference.dropout(ACTIVATIONS[name](x), 0.5, stream_of(KEY), node))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "SiLU"])
def test_what_is_not_finite_shows(name):
    x = torch.tensor([[float("nan"), float("inf"), -float("inf"), 0.0]] * 40)
    node = torch.arange(40)
    out = activation_dropout(x, ACTIVATIONS[name], 0.5, KEY, node)
    expected = reference.dropout(ACTIVATIONS[name](x), 0.5, stream_of(KEY), node)
    torch.testing.assert_close(out, expected, equal_nan=True)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "SiLU"])
def test_probability_and_ids_are_checked(name):
    with pytest.raises(InputError, match="expected 0 to 1"):
        activation_dropout(torch.ones(2, 2), ACTIVATIONS[name], 1.5, KEY, torch.arange(2))
    with pytest.raises(InputError, match="node_id"):
        activation_dropout(torch.ones(2, 2), ACTIVATIONS[name], 0.5, KEY, torch.arange(3))

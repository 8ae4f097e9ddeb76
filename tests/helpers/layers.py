"""Layers, models and comparisons that the tests of nn/ and inference/ share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from gnnscale.graph import Graph
from gnnscale.inference import stream
from gnnscale.kernels import CSR
from gnnscale.nn import Block, Context, LayeredGNN
from gnnscale.nn.blocks.phases import Neighbourhood
from tests.helpers.memory import few_columns

few = settings(max_examples=10)


class DegreeConv(nn.Module):
    """A user's layer that computes degrees in `forward`: it reaches two hops."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lin = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        source, target = edge_index
        weight = x.new_ones(source.numel()) if edge_weight is None else edge_weight
        degree = x.new_ones(x.size(0)).index_add(0, target, weight)
        scale = weight / (degree[source] * degree[target]).sqrt()
        return self.lin(x).index_add(0, target, scale.unsqueeze(1) * self.lin(x)[source])


class DifferenceConv(MessagePassing):
    """A user's layer with edge attributes: it reaches one hop."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(aggr="max")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lin = nn.Linear(in_channels + 2, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> Tensor:
        if edge_attr is None:
            edge_attr = x.new_zeros(edge_index.size(1), 2)
        return self.propagate(edge_index, x=x, edge_attr=edge_attr)

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        return self.lin(torch.cat([x_i - x_j, edge_attr], dim=1)).tanh()


class FarConv(nn.Module):
    """A user's layer that walks `steps` hops by itself."""

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = channels
        self.steps = steps

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        for _ in range(self.steps):
            x = x + torch.zeros_like(x).index_add(0, target, x[source]).tanh()
        return x


def dense(x: Tensor | CSR) -> Tensor:
    return x.to_dense() if isinstance(x, CSR) else x


def is_opaque(model: LayeredGNN, block: int = 0) -> bool:
    return any(isinstance(phase, Neighbourhood) for phase in model.phases[block])


def assert_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Where PyG counts degrees in the default type, whatever the rows are."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def assert_same_function(ours, theirs, x: Tensor, parameters: list[nn.Parameter]) -> None:
    """Two functions of x agree in value and in the gradient of x and the parameters."""
    results = []
    for function in (ours, theirs):
        leaf = x.detach().clone().requires_grad_()
        out = function(leaf)
        direction = torch.randn(out.shape, dtype=out.dtype, generator=_generator())
        gradients = torch.autograd.grad(
            (out * direction).sum(), [leaf, *parameters], allow_unused=True
        )
        results.append((out, gradients))
    (out, gradients), (expected, expected_gradients) = results
    assert_equal(out, expected)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        if gradient is None or wanted is None:
            assert gradient is None and (wanted is None or not wanted.any())
        else:
            assert_equal(gradient, wanted, 1e-8)


def evaluated(model: LayeredGNN, graph: Graph) -> Tensor:
    """The plain forward in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        context = Context(graph.adj, False, edge_attr=graph.edge_attr)
        out = model(graph.x, graph.adj, context=context)
    for module, mode in modes.items():
        module.training = mode
    return out


def shaken(model: nn.Module) -> nn.Module:
    """The model in float64, no parameter or running statistic left at its initial value."""
    model.double()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point():
                value.add_(0.3 * torch.rand(value.shape, dtype=value.dtype))
                assert "var" not in name or bool((value > 0).all())
    return model


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def streamed(model, graph, chunk_rows=None, place="memory", **options) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        storage = None if place == "memory" else folder
        parts, at = [], 0
        one_or_two = few_columns(10 * max(graph.num_nodes, 1))
        with one_or_two if place == "columns" else contextlib.nullcontext():
            for start, end, out in stream(
                model, graph, chunk_rows=chunk_rows, storage=storage, **options
            ):
                assert start == at and out.size(0) == end - start
                parts.append(out.clone())
                at = end
        assert at == graph.num_nodes
        assert not os.listdir(folder)
    return torch.cat(parts)


WIDTHS = st.sampled_from([(5, 3), (5, 9), (5, 5)])


def assert_as_pyg(conv: nn.Module, graph, weighted: bool) -> None:
    shaken(conv)
    model = LayeredGNN([Block(conv, act=None)])
    assert not is_opaque(model)
    weight = (graph.edge_weight,) if weighted else ()
    assert_same_function(
        lambda x: model(x, graph.adj),
        lambda x: conv(x, graph.edge_index, *weight),
        dense(graph.x),
        list(conv.parameters()),
    )

"""Propagation: what a convolution is when it is a fixed sparse product and a dense transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR, propagate, sparse_linear
from gnnscale.nn.matrices import Matrix, coefficients, structure


@dataclass(frozen=True, eq=False)
class Propagation:
    """A convolution read as  x ↦ then( Pᴷ x Wᵀ + b + root(x) ).

    Because Pᴷ and W commute, whichever order is narrower is computed; the layer-wise trainer
    aggregates Pᴷ x once; and inference needs no halo.

    Attributes:
        matrix: P, or a function that returns it (where a buffer of the convolution enters it).
        hops: K.
        weight: W `[out_channels, in_channels]`, or None for the identity.
        bias: b `[out_channels]`, or None.
        root: a row-local map of the input that is added, or None.
        then: modules that follow, each row-local or a norm.
    """

    matrix: Matrix | Callable[[], Matrix]
    hops: int = 1
    weight: nn.Parameter | None = None
    bias: nn.Parameter | None = None
    root: Callable[[Tensor], Tensor] | None = None
    then: Sequence[nn.Module] = ()

    def transform_first(self, x: Tensor | CSR) -> bool:
        """Whether P(XW) is taken rather than (PX)W: the narrower, and always on sparse features."""
        if self.weight is None:
            return False
        return isinstance(x, CSR) or self.weight.size(0) < self.weight.size(1)

    def resolve(self) -> Matrix:
        """P's description, as the convolution stands now."""
        # A Matrix is recognised by its method: it may itself be callable.
        return self.matrix if hasattr(self.matrix, "coefficients") else self.matrix()  # type: ignore

    def aggregate(self, x: Tensor, adj: Adjacency) -> Tensor:
        """Pᴷ x, differentiable in x. `x`: `[num_nodes, channels]`."""
        left, right, diag, weighted = coefficients(self.resolve(), adj, x.dtype)
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        symmetric = needs_gradient and adj.symmetric  # looked up only for a backward pass
        for _ in range(self.hops):
            x = propagate(x, structure(adj, weighted), left, right, diag, symmetric)
        return x

    def linear(self, x: Tensor | CSR) -> Tensor:
        """X Wᵀ, without bias."""
        assert self.weight is not None
        if isinstance(x, CSR):
            return sparse_linear(x, self.weight, None)
        return functional.linear(x, self.weight)

    def combine(self, aggregated: Tensor, x: Tensor | CSR) -> Tensor:
        """(Pᴷ X) Wᵀ + b + root(X), given Pᴷ X: the row-local rest, what L-GCN trains alone."""
        if self.weight is not None:
            return self.finish(functional.linear(aggregated, self.weight, self.bias), x, False)
        return self.finish(aggregated, x, self.bias is not None)

    def finish(self, out: Tensor, x: Tensor | CSR, add_bias: bool = True) -> Tensor:
        """Add the bias and root(x) to the propagated and transformed values."""
        if add_bias and self.bias is not None:
            out = out + self.bias
        return out if self.root is None else out + call_rows(self.root, x)

    def __call__(self, x: Tensor | CSR, adj: Adjacency) -> Tensor:
        """The convolution up to `then`."""
        if self.transform_first(x):
            return self.finish(self.aggregate(self.linear(x), adj), x)
        dense = densify(x)
        return self.combine(self.aggregate(dense, adj), dense)


def densify(x: Tensor | CSR) -> Tensor:
    """The dense rows of a batch."""
    return x.to_dense() if isinstance(x, CSR) else x


def call_rows(module: Any, x: Tensor | CSR) -> Tensor:
    """Apply a row-local module; a linear layer takes sparse rows without making them dense."""
    if not isinstance(x, CSR):
        return module(x)
    weight = getattr(module, "weight", None)
    if is_plain_linear(module) and isinstance(weight, Tensor):
        return sparse_linear(x, weight, module.bias)
    return module(x.to_dense())


def is_plain_linear(module: Any) -> bool:
    """Whether a module is x Wᵀ + b and nothing else: exact type, no hooks, no parametrizations."""
    from torch_geometric.nn.dense.linear import Linear

    return type(module) in (nn.Linear, Linear) and not is_intercepted(module)


def is_intercepted(module: nn.Module) -> bool:
    """Whether hooks, parametrizations or patched methods see calls that a fast path would skip."""
    state = module.__dict__
    return (
        "parametrizations" in state["_modules"]
        or any(state[name] for name in _HOOKS)
        or any(state.get(name) for name in _CONV_HOOKS)
        or any(name in state for name in OVERRIDABLE)
        or bool(state.get("_explain"))
    )


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CONV_HOOKS = tuple(
    f"_{step}_forward_{when}"
    for step in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for when in ("pre_hooks", "hooks")
)
# What a subclass or an instance may replace, and a fast path would then bypass.
OVERRIDABLE = (
    "forward",
    "message",
    "message_and_aggregate",
    "aggregate",
    "update",
    "edge_update",
    "propagate",
)

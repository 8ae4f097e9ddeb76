"""Convolutions that transform every power of the propagation by a weight of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR, propagate
from gnnscale.nn.convs.propagation import Propagation, densify, linear_rows, narrows


@dataclass(frozen=True, eq=False)
class Stacked(Propagation):
    """A convolution read as  x ↦ then( [x ‖ P x ‖ … ‖ Pᴷ x] [W_0 ‖ … ‖ W_K]ᵀ + b + root(x) ).

    Where the weights narrow, it is X W_0ᵀ + P(X W_1ᵀ + P(X W_2ᵀ + …)) that is computed.

    Attributes:
        weights: W_0 … W_K, each `[out_channels, in_channels]`; none for the identity, which leaves
            the stack `[num_nodes, (K + 1) · in_channels]` to `then`.
    """

    weights: Sequence[nn.Parameter] = ()

    @override
    def width(self, width: int | None) -> int | None:
        """Channels after it, given those before; None where unknown."""
        if self.weights:
            return self.weights[0].size(0)
        return None if width is None else (self.hops + 1) * width

    @override
    def transform_first(self, x: Tensor | CSR) -> bool:
        """Whether the weights come before propagation."""
        return bool(self.weights) and narrows(self.weights[0], x)

    @override
    def start(self, x: Tensor) -> Tensor:
        """X W_Kᵀ out of `linear`."""
        return x[:, self.hops * (x.size(1) // (self.hops + 1)) :]

    @override
    def hop(self, k: int, propagated: Tensor, x: Tensor) -> Tensor:
        """P y + X W_kᵀ, the latter out of `linear`."""
        width = propagated.size(1)
        return propagated.add_(x[:, k * width : (k + 1) * width])

    @override
    def aggregate(self, x: Tensor, adj: Adjacency) -> Tensor:
        """[x ‖ P x ‖ … ‖ Pᴷ x], `[num_nodes, (K + 1) · channels]`, differentiable in x."""
        operator = self.operator(adj, x.dtype)
        symmetric = torch.is_grad_enabled() and x.requires_grad and adj.symmetric
        stack = [x]
        for _ in range(self.hops):
            stack.append(propagate(stack[-1], *operator, symmetric))
        return torch.cat(stack, dim=1)

    @override
    def linear(self, x: Tensor | CSR) -> Tensor:
        """[X W_0ᵀ ‖ … ‖ X W_Kᵀ], without bias."""
        return linear_rows(x, torch.cat(list(self.weights)))

    @override
    def combine(self, aggregated: Tensor | CSR, x: Tensor | CSR) -> Tensor:
        """The row-local rest, given the stack."""
        if self.weights:
            weight = torch.cat(list(self.weights), dim=1)
            return self.finish(linear_rows(aggregated, weight, self.bias), x, False)
        return self.finish(densify(aggregated), x)


@dataclass(frozen=True, eq=False)
class Branched(Stacked):
    """A convolution read as  x ↦ then( [x W_0ᵀ ‖ P x W_1ᵀ ‖ … ‖ Pᴷ x W_Kᵀ] + b ).

    Of SIGN (Frasca et al., arXiv 2004.11198, eq. 4) and, with all powers up to K, MixHop. Where
    that propagates fewer columns, X [W_0 ‖ … ‖ W_K]ᵀ comes first, and every hop propagates the
    branches that go so far: K (K + 1) / 2 branches in all, instead of K times the input.
    """

    @override
    def width(self, width: int | None) -> int | None:
        """Channels after it."""
        return sum(weight.size(0) for weight in self.weights)

    @override
    def transform_first(self, x: Tensor | CSR) -> bool:
        """Whether fewer columns are propagated after the weights; always on sparse features."""
        out_channels, in_channels = self.weights[0].shape
        return isinstance(x, CSR) or (self.hops + 1) * out_channels < 2 * in_channels

    @override
    def hop(self, k: int, propagated: Tensor, x: Tensor) -> Tensor:
        """[X W_kᵀ ‖ P y], the former out of `linear`: a branch more than y has."""
        width = x.size(1) // (self.hops + 1)
        return torch.cat([x[:, k * width : (k + 1) * width], propagated], dim=1)

    @override
    def combine(self, aggregated: Tensor | CSR, x: Tensor | CSR) -> Tensor:
        """The row-local rest, given the stack."""
        if isinstance(aggregated, CSR):
            weight = torch.block_diag(*self.weights)
            return self.finish(linear_rows(aggregated, weight, self.bias), x, False)
        powers = aggregated.chunk(self.hops + 1, dim=1)
        pairs = zip(powers, self.weights, strict=True)
        return self.finish(torch.cat([linear_rows(h, w) for h, w in pairs], dim=1), x)

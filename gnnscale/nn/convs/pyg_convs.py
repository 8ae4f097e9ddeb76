"""PyG's convolutions of one hop as propagations, and row-local networks taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import aggr
from torch_geometric.nn import conv as pyg
from typing_extensions import override

from gnnscale.graph import Adjacency
from gnnscale.kernels import extremum
from gnnscale.nn.convs.matrices import Matrix, Mean, Sum, SymmetricNormalisation
from gnnscale.nn.convs.propagation import Propagation, is_intercepted, is_plain_linear
from gnnscale.nn.convs.registry import is_transparent, register
from gnnscale.nn.norms import statistics


class Normalize(nn.Module):
    """Rows divided by their Euclidean length (SAGEConv with normalize=True)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, p=2.0, dim=-1)


class SelfWeight:
    """(1 + ε)·x with a trained ε, as the root of a propagation."""

    def __init__(self, conv: pyg.GINConv) -> None:
        self.conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        return (1 + self.conv.eps) * x


def aggregates_by(conv: pyg.MessagePassing, *aggregations: str) -> bool:
    """Whether a convolution aggregates over incoming edges by one of these, and nothing else."""
    # The module aggregates, whatever the string says.
    known = type(conv.aggr_module) in (aggr.MeanAggregation, aggr.SumAggregation)
    plain = conv.flow == "source_to_target" and conv.node_dim == -2
    return known and plain and conv.aggr in aggregations


def gcn_matrix(normalize: bool, add_self_loops: bool, loop: float = 1.0) -> Matrix:
    """What PyG propagates by where it normalises as GCN does, or else sums."""
    if not normalize:
        return Sum(weighted=True)
    return SymmetricNormalisation(loop if add_self_loops else None)


def _gcn(conv: pyg.GCNConv) -> Propagation | None:
    if (
        not aggregates_by(conv, "add", "sum")
        or not is_plain_linear(conv.lin)
        or conv.lin.bias is not None
    ):
        return None
    loop = 2.0 if conv.improved else 1.0
    matrix = gcn_matrix(conv.normalize, conv.add_self_loops, loop)
    return Propagation(matrix, weight=conv.lin.weight, bias=conv.bias)


def _sage(conv: pyg.SAGEConv) -> Propagation | None:
    if (
        not aggregates_by(conv, "mean", "add", "sum")
        or conv.project
        or not is_plain_linear(conv.lin_l)
    ):
        return None
    if conv.root_weight and not is_plain_linear(conv.lin_r):
        return None
    return Propagation(
        Mean() if conv.aggr == "mean" else Sum(),
        weight=conv.lin_l.weight,
        bias=conv.lin_l.bias,
        root=conv.lin_r if conv.root_weight else None,
        then=(Normalize(),) if conv.normalize else (),
    )


def sage_by_extremum(conv: Any) -> Callable[[Tensor, Adjacency], Tensor] | None:
    """GraphSAGE's max or min over neighbours on an adjacency, without values of edge size."""
    if type(conv) is not pyg.SAGEConv or conv.aggr not in ("max", "min"):
        return None
    known = type(conv.aggr_module) in (aggr.MaxAggregation, aggr.MinAggregation)
    if not known or conv.flow != "source_to_target" or conv.node_dim != -2:
        return None
    kind: Any = conv.aggr

    def forward(x: Tensor, adj: Adjacency) -> Tensor:
        rows = conv.lin(x).relu() if conv.project else x
        needs_gradient = torch.is_grad_enabled() and rows.requires_grad
        out = conv.lin_l(extremum(rows, adj, kind, needs_gradient and adj.symmetric))
        if conv.root_weight:
            out = out + conv.lin_r(x)
        return functional.normalize(out, p=2.0, dim=-1) if conv.normalize else out

    return forward if is_transparent(conv) else None


def _gin(conv: pyg.GINConv) -> Propagation | None:
    if not aggregates_by(conv, "add", "sum"):
        return None
    steps = row_modules(conv.nn)
    if steps is None:
        return None
    if isinstance(conv.eps, nn.Parameter):
        return Propagation(Sum(), root=SelfWeight(conv), then=steps)
    matrix = _gin_matrix(conv)
    first: Any = steps[0] if steps else None
    if first is not None and is_plain_linear(first):
        return Propagation(matrix, weight=first.weight, bias=first.bias, then=steps[1:])
    return Propagation(matrix, then=steps)


def _gin_matrix(conv: pyg.GINConv) -> Callable[[], Sum]:
    known: tuple[Tensor, int, Sum] | None = None

    def matrix() -> Sum:
        nonlocal known
        eps = conv.eps
        # Read once: reading a CUDA scalar stops the host.
        if known is None or known[0] is not eps or known[1] != eps._version:
            known = (eps, eps._version, Sum(self_weight=1.0 + float(eps)))
        return known[2]

    return matrix


def _gcn2(conv: pyg.GCN2Conv) -> Propagation | None:
    if not aggregates_by(conv, "add", "sum"):
        return None
    matrix = gcn_matrix(conv.normalize, conv.add_self_loops)
    return Propagation(matrix, join=_InitialResidual(conv))


class _InitialResidual:
    """((1 − α) Px + α x₀)((1 − β) I + βΘ) of GCNII (Chen et al., ICML 2020, eq. 5), given Px.

    With weights that are not shared, one Θ for each of the two terms (GCNII*).
    """

    def __init__(self, conv: pyg.GCN2Conv) -> None:
        self.conv = conv

    def __call__(self, initial: Tensor, propagated: Tensor) -> Tensor:
        conv = self.conv
        initial = initial.to(propagated.dtype)  # under autocast the two may differ
        if conv.weight2 is None:
            return self._map(propagated.lerp(initial, conv.alpha), conv.weight1)
        own = self._map((1 - conv.alpha) * propagated, conv.weight1)
        return own + self._map(conv.alpha * initial, conv.weight2)

    def _map(self, x: Tensor, theta: Tensor) -> Tensor:
        beta = self.conv.beta
        return torch.addmm(x, x, theta, beta=1 - beta, alpha=beta)


def row_modules(module: nn.Module) -> list[nn.Module] | None:
    """A row-local network as its steps, norms among them; None where it cannot be read.

    PyG's `MLP` and `nn.Sequential` are taken apart, so that a norm inside becomes a phase of its
    own; anything else, and one with hooks of its own, is one step, provided it holds no norm.
    """
    from torch_geometric.nn import MLP

    if type(module) is MLP and not is_intercepted(module):
        return _mlp_steps(module)
    if type(module) is nn.Sequential and not is_intercepted(module):
        steps: list[nn.Module] = []
        for child in module:
            inner = row_modules(child)
            if inner is None:
                return None
            steps += inner
        return steps
    hidden = any(is_norm(child) for child in module.modules() if child is not module)
    return [module] if is_norm(module) or not hidden else None


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalization layer: of torch, of PyG, or one that is registered."""
    from torch_geometric.nn import norm as pyg_norm

    kinds = tuple(getattr(pyg_norm, name) for name in pyg_norm.__all__)
    torch_kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    return isinstance(module, kinds + torch_kinds) or statistics.is_registered(module)


def _mlp_steps(mlp: Any) -> list[nn.Module]:
    steps: list[nn.Module] = []
    for i, lin in enumerate(mlp.lins):
        steps.append(lin)
        plain = mlp.plain_last and i == len(mlp.lins) - 1
        if not plain:
            act = [] if mlp.act is None else [_module(mlp.act)]
            norm = [mlp.norms[i]] if i < len(mlp.norms) else []
            steps += act + norm if mlp.act_first else norm + act
        if mlp.dropout[i]:
            steps.append(nn.Dropout(mlp.dropout[i]))
    return [step for step in steps if not isinstance(step, nn.Identity)]


class Call(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    @override
    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _module(function: Any) -> nn.Module:
    return function if isinstance(function, nn.Module) else Call(function)


register(pyg.GCNConv, propagation=_gcn, hops=2)  # the degrees of in-neighbours enter
register(pyg.SAGEConv, propagation=_sage, hops=1)
register(pyg.GINConv, propagation=_gin, hops=1)
register(pyg.GCN2Conv, propagation=_gcn2, hops=lambda conv: 2 if conv.normalize else 1)

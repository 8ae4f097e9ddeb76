"""PyG's convolutions: those that are propagations, and how far the others reach.

`cached=True` is not heeded where a convolution reads as a propagation: the coefficients are kept
with each adjacency, and are right for every batch.
"""

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
from gnnscale.nn.convs.matrices import (
    Matrix,
    Mean,
    RowNormalisation,
    Sum,
    SymmetricNormalisation,
    Unweighted,
)
from gnnscale.nn.convs.networks import row_modules
from gnnscale.nn.convs.propagation import (
    Propagation,
    is_plain_linear,
    is_transparent,
    reach_of,
    register,
)
from gnnscale.nn.convs.stacked import Branched, Stacked


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


_AGGREGATED = (aggr.MeanAggregation, aggr.SumAggregation)


def aggregates_by(conv: pyg.MessagePassing, *aggregations: str) -> bool:
    """Whether a convolution aggregates over incoming edges by one of these, and nothing else."""
    # The module aggregates, whatever the string says.
    known = type(conv.aggr_module) in _AGGREGATED and conv.aggr in aggregations
    return known and conv.flow == "source_to_target" and conv.node_dim == -2


def gcn_matrix(normalize: bool, add_self_loops: bool, loop: float = 1.0) -> Matrix:
    """What PyG propagates by where it normalises as GCN does, or else sums."""
    added = loop if add_self_loops else None
    return SymmetricNormalisation(added) if normalize else Sum(weighted=True)


def _gcn(conv: pyg.GCNConv) -> Propagation | None:
    plain = is_plain_linear(conv.lin) and conv.lin.bias is None
    if not (plain and aggregates_by(conv, "add", "sum")):
        return None
    matrix = gcn_matrix(conv.normalize, conv.add_self_loops, 2.0 if conv.improved else 1.0)
    return Propagation(matrix, weight=conv.lin.weight, bias=conv.bias)


def _sage(conv: pyg.SAGEConv) -> Propagation | None:
    plain = is_plain_linear(conv.lin_l) and not conv.project
    if not (plain and aggregates_by(conv, "mean", "add", "sum")):
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
    modules = row_modules(conv.nn)
    if modules is None:
        return None
    if isinstance(conv.eps, nn.Parameter):
        return Propagation(Sum(), root=SelfWeight(conv), then=modules)
    matrix = _gin_matrix(conv)
    first: Any = modules[0] if modules else None
    if first is not None and is_plain_linear(first):
        return Propagation(matrix, weight=first.weight, bias=first.bias, then=modules[1:])
    return Propagation(matrix, then=modules)


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


def _sums(conv: pyg.MessagePassing) -> bool:
    return aggregates_by(conv, "add", "sum") and getattr(conv, "K", 1) > 0


def _sg(conv: pyg.SGConv) -> Propagation | None:
    if not _sums(conv) or not is_plain_linear(conv.lin):
        return None
    matrix = gcn_matrix(True, conv.add_self_loops)
    return Propagation(matrix, conv.K, conv.lin.weight, conv.lin.bias)


def _ssg(conv: pyg.SSGConv) -> Propagation | None:
    if not _sums(conv) or not is_plain_linear(conv.lin):
        return None
    powers = [conv.alpha] + conv.K * [(1 - conv.alpha) / conv.K]
    matrix = gcn_matrix(True, conv.add_self_loops)
    return Propagation(matrix, conv.K, conv.lin.weight, conv.lin.bias, powers=powers)


def _appnp(conv: pyg.APPNP) -> Propagation | None:
    if not _sums(conv) or conv.dropout:
        return None
    walks = [(1 - conv.alpha) ** k for k in range(conv.K + 1)]
    powers = [conv.alpha * walk for walk in walks[:-1]] + walks[-1:]
    return Propagation(gcn_matrix(conv.normalize, conv.add_self_loops), conv.K, powers=powers)


def _tag(conv: pyg.TAGConv) -> Propagation | None:
    if not _sums(conv) or not all(is_plain_linear(lin) for lin in conv.lins):
        return None
    weights = [lin.weight for lin in conv.lins]
    return Stacked(gcn_matrix(conv.normalize, False), conv.K, bias=conv.bias, weights=weights)


def _mix_hop(conv: pyg.MixHopConv) -> Propagation | None:
    hops = max(conv.powers)
    every = conv.powers == list(range(hops + 1)) and hops > 0
    if not every or not _sums(conv) or not all(is_plain_linear(lin) for lin in conv.lins):
        return None
    weights = [lin.weight for lin in conv.lins]
    return Branched(gcn_matrix(True, conv.add_self_loops), hops, bias=conv.bias, weights=weights)


def _cluster_gcn(conv: pyg.ClusterGCNConv) -> Propagation | None:
    out, root = conv.lin_out, conv.lin_root
    # Without self-loops of its own, PyG adds λ to whichever edges come first.
    if not _sums(conv) or not conv.add_self_loops:
        return None
    if not is_plain_linear(out) or not is_plain_linear(root):
        return None
    matrix = Unweighted(RowNormalisation(diag_lambda=conv.diag_lambda))
    return Propagation(matrix, weight=out.weight, bias=out.bias, root=root)


register(pyg.GCNConv, propagation=_gcn, hops=2)  # the degrees of in-neighbours enter
register(pyg.SAGEConv, propagation=_sage, hops=1)
register(pyg.GINConv, propagation=_gin, hops=1)
register(pyg.GCN2Conv, propagation=_gcn2, hops=lambda conv: 2 if conv.normalize else 1)
register(pyg.ClusterGCNConv, propagation=_cluster_gcn, hops=1)
# A hop for each, and one more for the degrees of the last.
register(pyg.SGConv, propagation=_sg, hops=lambda conv: conv.K + 1)
register(pyg.SSGConv, propagation=_ssg, hops=lambda conv: conv.K + 1)
register(pyg.MixHopConv, propagation=_mix_hop, hops=lambda conv: max(conv.powers) + 1)
for _optional, _reading in ((pyg.APPNP, _appnp), (pyg.TAGConv, _tag)):
    register(_optional, propagation=_reading, hops=lambda conv: max(conv.K + conv.normalize, 1))

# --- those that run as they are: how far each reaches ------------------------------------------
#
# One hop is the node, its in-neighbours and the edges between. Every propagation inside costs one,
# and degrees of neighbours that enter cost one more. What a norm inside reads is found by the check
# before first use (`invariance`).


def _cheb(conv: pyg.ChebConv) -> int:
    hops = len(conv.lins) - 1
    return hops + 2 if hops else 1  # what leaves a node arrives one hop further out


def _eg(conv: pyg.EGConv) -> int | None:
    if "symnorm" in conv.aggregators:
        return 2
    return None if conv.add_self_loops else 1  # those are added up to the last node with an edge


def _directed(conv: pyg.DirGNNConv) -> int | None:
    inner = reach_of(conv.conv_in)
    return None if inner is None else inner + 1


def _antisymmetric(conv: pyg.AntiSymmetricConv) -> int | None:
    inner = reach_of(conv.phi)
    return None if inner is None else inner + conv.num_iters - 1


for _one_hop in (
    pyg.AGNNConv,
    pyg.CGConv,
    pyg.EdgeConv,
    pyg.FeaStConv,
    pyg.GATConv,
    pyg.GATv2Conv,
    pyg.GENConv,
    pyg.GINEConv,
    pyg.GMMConv,
    pyg.GeneralConv,
    pyg.GraphConv,
    pyg.LEConv,
    pyg.MFConv,
    pyg.NNConv,
    pyg.PNAConv,
    pyg.ResGatedGraphConv,
    pyg.SimpleConv,
    pyg.SuperGATConv,
    pyg.TransformerConv,
    pyg.WLConvContinuous,
):
    register(_one_hop, hops=1)
for _normalised in (pyg.FAConv, pyg.LGConv, pyg.PDNConv):
    register(_normalised, hops=lambda conv: 2 if conv.normalize else 1)
register(pyg.EGConv, hops=_eg)
register(pyg.ARMAConv, hops=lambda conv: conv.num_layers + 1)
register(pyg.GatedGraphConv, hops=lambda conv: conv.num_layers)
register(pyg.AntiSymmetricConv, hops=_antisymmetric)
# From a node to its hyperedges and back, over the sizes of both.
register(pyg.HypergraphConv, hops=3, symmetric=True)
# Those read out-degrees, or go along edges both ways.
register(pyg.ChebConv, hops=_cheb, symmetric=True)
register(pyg.DirGNNConv, hops=_directed, symmetric=True)

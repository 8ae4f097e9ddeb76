"""PyG's convolutions of several hops, and its Cluster-GCN, as propagations.

`cached=True` is not heeded where a convolution reads as a propagation: the coefficients are kept
with each adjacency, and are right for every batch.
"""

from __future__ import annotations

from torch_geometric.nn import conv as pyg

from gnnscale.nn.convs.matrices import RowNormalisation, Unweighted
from gnnscale.nn.convs.propagation import Propagation, is_plain_linear
from gnnscale.nn.convs.pyg_convs import aggregates_by, gcn_matrix
from gnnscale.nn.convs.registry import register
from gnnscale.nn.convs.stacked import Branched, Stacked


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


register(pyg.ClusterGCNConv, propagation=_cluster_gcn, hops=1)
# A hop for each, and one more for the degrees of the last.
register(pyg.SGConv, propagation=_sg, hops=lambda conv: conv.K + 1)
register(pyg.SSGConv, propagation=_ssg, hops=lambda conv: conv.K + 1)
register(pyg.MixHopConv, propagation=_mix_hop, hops=lambda conv: max(conv.powers) + 1)
for _optional, _reading in ((pyg.APPNP, _appnp), (pyg.TAGConv, _tag)):
    register(_optional, propagation=_reading, hops=lambda conv: max(conv.K + conv.normalize, 1))

"""PyG's convolutions that run as they are: how far each reaches.

One hop is the node, its in-neighbours and the edges between. Every propagation inside costs one,
and degrees of neighbours that enter cost one more. What a norm inside reads is found by the check
before first use (`invariance`).
"""

from __future__ import annotations

from torch_geometric.nn import conv as pyg

from gnnscale.nn.convs.propagation import reach_of, register


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

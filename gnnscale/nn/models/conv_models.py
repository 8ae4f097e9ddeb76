"""Models that PyG has the layers of, but not by name: what `to_pyg` gives for them."""

from __future__ import annotations

from typing import ClassVar

from torch_geometric.nn import MessagePassing, SGConv, SSGConv, TAGConv
from torch_geometric.nn.models.basic_gnn import BasicGNN

from gnnscale.nn.convs.cluster_gcn import ClusterGCNConv


class ConvModel(BasicGNN):
    """A `BasicGNN` all of whose layers are of one class."""

    supports_edge_weight = True
    supports_edge_attr = False
    layer: ClassVar[type[MessagePassing]]

    def init_conv(self, in_channels: object, out_channels: int, **kwargs: object) -> MessagePassing:
        """One layer; called by PyG's `BasicGNN`."""
        return self.layer(in_channels, out_channels, **kwargs)


class ClusterGCN(ConvModel):
    """Layers of Cluster-GCN (Chiang et al., KDD 2019)."""

    layer = ClusterGCNConv


class SGC(ConvModel):
    """Layers of simple graph convolution (Wu et al., ICML 2019)."""

    layer = SGConv


class SSGC(ConvModel):
    """Layers of simple spectral graph convolution (Zhu & Koniusz, ICLR 2021)."""

    layer = SSGConv


class TAGCN(ConvModel):
    """Layers of the topology adaptive GCN (Du et al., arXiv 1710.10370)."""

    layer = TAGConv

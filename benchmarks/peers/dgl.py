"""DGL: its subgraph of a batch's clusters and its layers.

`ClusterGCNSampler` is given the contest's partition in the place of its METIS. Normalised edge
weights are computed once a batch, and count as loading.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peers.contest import WITH_SELF_LOOPS, Field, Setup, TorchContestant

NAME = "DGL"


class Layers(nn.Module):
    """Layers with ReLU and dropout between."""

    def __init__(self, layers: list[nn.Module], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout

    def forward(self, graph: Any, x: Tensor, **beside: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number:
                x = functional.dropout(x.relu(), self.dropout, self.training)
            x = layer(graph, x, **beside).flatten(1)
        return x


class DGL(TorchContestant):
    """`ClusterGCNSampler` and DGL's layers."""

    name = NAME

    def __init__(self, setup: Setup) -> None:
        os.environ.setdefault("DGLBACKEND", "pytorch")  # else it says on import that it has none
        import dgl

        super().__init__(setup)
        graph = setup.clustered.graph
        source, target = graph.adj.edge_index.int()
        stored = dgl.graph((source, target), num_nodes=graph.num_nodes)
        if setup.case.model in WITH_SELF_LOOPS:
            stored = dgl.add_self_loop(stored)
        split = graph.split(setup.clustered.split)
        assert split is not None
        stored.ndata.update(x=graph.x, y=graph.y, train_mask=split.train)
        self._stored = stored
        self._sampler = _sampler(setup)

    def make_model(self, dropout: float) -> nn.Module:
        setup = self.setup
        reference = setup.network(dropout, prepared=True)
        make = {"gcn": _gcn, "sage": _sage, "gin": _gin, "gat": _gat}[setup.case.model]
        layers = [
            make(conv, before, after, dropout)
            for conv, (before, after) in zip(
                reference.convs, itertools.pairwise(setup.widths), strict=True
            )
        ]
        return Layers(layers, dropout)

    def batches(self) -> Iterator[Any]:
        for clusters in self.setup.draws():
            batch = self._sampler.sample(self._stored, torch.tensor(clusters))
            for name in ("x", "y", "train_mask"):
                batch.ndata[name] = self._stored.ndata[name][batch.ndata["_ID"].long()]
            batch = batch.to(self.setup.device)
            if self.setup.case.model == "gcn":
                scale = batch.in_degrees().float().rsqrt()
                source, target = batch.edges()
                batch.edata["weight"] = scale[source.long()] * scale[target.long()]
            yield batch

    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        beside = {}
        if self.setup.case.model == "gcn":
            beside["edge_weight"] = batch.edata["weight"]
        out = self.model(batch, batch.ndata["x"], **beside)
        return out, batch.ndata["y"], batch.ndata["train_mask"]


def _sampler(setup: Setup) -> Any:
    from dgl.dataloading import ClusterGCNSampler

    class GivenSampler(ClusterGCNSampler):
        """`ClusterGCNSampler` of a partition that is given."""

        def __init__(self) -> None:
            super(ClusterGCNSampler, self).__init__()
            self.partition_offset = setup.clustered.offsets
            self.partition_node_ids = torch.arange(setup.clustered.num_nodes, dtype=torch.int32)
            # Read below without the sampler's laziness, which is for its own data loader.
            self.prefetch_ndata, self.prefetch_edata = [], []
            self.output_device = None

    return GivenSampler()


def _gcn(conv: Any, before: int, after: int, dropout: float) -> nn.Module:
    from dgl.nn import GraphConv

    layer = GraphConv(before, after, norm="none", allow_zero_in_degree=True)
    return _with(layer, weight=conv.lin.weight.t(), bias=conv.bias)


def _sage(conv: Any, before: int, after: int, dropout: float) -> nn.Module:
    from dgl.nn import SAGEConv

    layer = SAGEConv(before, after, "mean")
    weights = {"fc_neigh.weight": conv.lin_l.weight, "fc_self.weight": conv.lin_r.weight}
    bias = next(name for name in layer.state_dict() if name.endswith("bias"))
    return _with(layer, **weights, **{bias: conv.lin_l.bias})


def _gin(conv: Any, before: int, after: int, dropout: float) -> nn.Module:
    from dgl.nn import GINConv

    return GINConv(conv.nn, "sum", init_eps=0.0)


def _gat(conv: Any, before: int, after: int, dropout: float) -> nn.Module:
    from dgl.nn import GATConv

    layer = GATConv(before, after, 1, attn_drop=dropout, allow_zero_in_degree=True)
    return _with(
        layer,
        **{"fc.weight": conv.lin.weight, "bias": conv.bias},
        attn_l=conv.att_src,
        attn_r=conv.att_dst,
    )


def _with(layer: nn.Module, **weights: Tensor) -> nn.Module:
    layer.load_state_dict({name: value.detach() for name, value in weights.items()}, strict=False)
    return layer


def contestants(setup: Setup) -> Field:
    """DGL, where it is installed and has the model."""
    if importlib.util.find_spec("dgl") is None:
        return {NAME: "dgl is not installed"}
    if setup.device.type != "cpu":
        return {NAME: "the wheel of dgl 1.1.3 has no CUDA"}
    if setup.case.model == "cluster_gcn":
        return {NAME: "DGL has no layer of Cluster-GCN"}
    return {NAME: DGL(setup)}

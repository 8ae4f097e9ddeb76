"""PyG's convolutions with their arguments, and why some cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch_geometric.nn import MLP, aggr
from torch_geometric.nn import conv as pyg

from oracle.subjects import (
    NODE_TYPES,
    OUT,
    RELATIONS,
    WIDTH,
    Stack,
    Subject,
    after_matrix,
    kept,
    two,
)

ATTR = frozenset({"edge_attr"})
TYPE = frozenset({"edge_type"})
EDGE_DIM = 3
DEGREES = torch.tensor([3, 8, 12, 9, 5, 2, 1])

# Those of which no two layers can be built here.
NOT_BUILT = {
    "MessagePassing": "the base class: it has no forward",
    "CuGraphSAGEConv": "needs pylibcugraphops, which is no longer released",
    "CuGraphGATConv": "needs pylibcugraphops, which is no longer released",
    "CuGraphRGCNConv": "needs pylibcugraphops, which is no longer released",
    "FusedGATConv": "needs dgNN, on a GPU",
    "GravNetConv": "needs torch-cluster",
    "DynamicEdgeConv": "needs torch-cluster",
    "XConv": "needs torch-cluster",
    "SplineConv": "needs torch-spline-conv",
}


def _mlp(i: int, o: int) -> nn.Module:
    return nn.Sequential(nn.Linear(i, o), nn.ReLU(), nn.Linear(o, o))


def _pair(i: int, o: int) -> nn.Module:
    return _mlp(2 * i, o)


def _of(cls: Callable[..., nn.Module], **arguments: Any) -> Stack:
    return two(lambda i, o: cls(i, o, **arguments))


def _sage(make: Callable[[int], Any]) -> Stack:
    return two(lambda i, o: pyg.SAGEConv(i, o, aggr=make(i)))


def _pna(**arguments: Any) -> Stack:
    scalers = ["identity", "amplification", "attenuation", "linear"]
    kinds = ["mean", "min", "max", "std"]
    return _of(pyg.PNAConv, aggregators=kinds, scalers=scalers, deg=DEGREES, **arguments)


def _heat(i: int, o: int) -> nn.Module:
    return pyg.HEATConv(i, o, NODE_TYPES, RELATIONS, 4, EDGE_DIM, 4, heads=2, concat=False)


def _gps(**arguments: Any) -> Stack:
    return kept(lambda: pyg.GPSConv(WIDTH, pyg.GCNConv(WIDTH, WIDTH), heads=2, **arguments))


def _gps_with_attributes() -> nn.Module:
    conv = pyg.GINEConv(_mlp(WIDTH, WIDTH), edge_dim=EDGE_DIM)
    return pyg.GPSConv(WIDTH, conv, heads=2, norm=None)


def _once(make: Callable[[], Any], width: int) -> list[nn.Module]:
    return [pyg.SimpleConv(make()), nn.Linear(width, OUT)]


METADATA: Any = (["node"], [("node", "to", "node")])

PLAIN: dict[str, Stack] = {
    "SimpleConv": kept(pyg.SimpleConv),
    "SimpleConv mean self_loop": kept(lambda: pyg.SimpleConv("mean", "self_loop")),
    "GCNConv": two(pyg.GCNConv),
    "GCNConv improved": _of(pyg.GCNConv, improved=True),
    "GCNConv add_self_loops=False": _of(pyg.GCNConv, add_self_loops=False),
    "GCNConv normalize=False": _of(pyg.GCNConv, normalize=False),
    "GCNConv aggr=max": _of(pyg.GCNConv, aggr="max"),
    "GCNConv target_to_source": _of(pyg.GCNConv, flow="target_to_source"),
    "GCNConv cached": _of(pyg.GCNConv, cached=True),
    "ChebConv": _of(pyg.ChebConv, K=3),
    "ChebConv K=1": _of(pyg.ChebConv, K=1),
    "ChebConv rw": _of(pyg.ChebConv, K=2, normalization="rw"),
    "ChebConv normalization=None": _of(pyg.ChebConv, K=2, normalization=None),
    "SAGEConv": two(pyg.SAGEConv),
    "SAGEConv ((8, 8), …)": two(lambda i, o: pyg.SAGEConv((i, i), o)),
    "SAGEConv normalize": _of(pyg.SAGEConv, normalize=True),
    "SAGEConv project": _of(pyg.SAGEConv, project=True),
    "SAGEConv root_weight=False": _of(pyg.SAGEConv, root_weight=False),
    "SAGEConv target_to_source": _of(pyg.SAGEConv, flow="target_to_source"),
    "GraphConv": two(pyg.GraphConv),
    "GraphConv max": _of(pyg.GraphConv, aggr="max"),
    "GraphConv mean": _of(pyg.GraphConv, aggr="mean"),
    "GatedGraphConv": kept(lambda: pyg.GatedGraphConv(WIDTH, num_layers=2)),
    "ResGatedGraphConv": two(pyg.ResGatedGraphConv),
    "GATConv": two(pyg.GATConv),
    "GATConv heads": _of(pyg.GATConv, heads=2, concat=False, residual=True),
    "GATConv add_self_loops=False": _of(pyg.GATConv, add_self_loops=False),
    "GATv2Conv": two(pyg.GATv2Conv),
    "TransformerConv": two(pyg.TransformerConv),
    "TransformerConv beta": _of(pyg.TransformerConv, heads=2, concat=False, beta=True),
    "AGNNConv": kept(pyg.AGNNConv),
    "TAGConv": two(pyg.TAGConv),
    "GINConv": two(lambda i, o: pyg.GINConv(_mlp(i, o))),
    "GINConv train_eps, max": two(lambda i, o: pyg.GINConv(_mlp(i, o), train_eps=True, aggr="max")),
    "GINConv batch norm": two(lambda i, o: pyg.GINConv(MLP([i, o, o], norm="batch_norm"))),
    "GINConv graph norm": two(lambda i, o: pyg.GINConv(MLP([i, o, o], norm="graph_norm"))),
    "ARMAConv": _of(pyg.ARMAConv, num_stacks=2, num_layers=2),
    "SGConv": _of(pyg.SGConv, K=2),
    "SSGConv": _of(pyg.SSGConv, alpha=0.2, K=2),
    "APPNP": kept(lambda: pyg.APPNP(K=2, alpha=0.1)),
    "MFConv": _of(pyg.MFConv, max_degree=4),
    "HypergraphConv": two(pyg.HypergraphConv),
    "EdgeConv": two(lambda i, o: pyg.EdgeConv(_pair(i, o))),
    "EdgeConv batch norm": two(lambda i, o: pyg.EdgeConv(MLP([2 * i, o, o], norm="batch_norm"))),
    "FeaStConv": _of(pyg.FeaStConv, heads=2),
    "LEConv": two(pyg.LEConv),
    "PNAConv": _pna(),
    "PNAConv towers, train_norm": two(
        lambda i, o: pyg.PNAConv(
            i,
            WIDTH,
            ["sum", "var"],
            ["identity", "inverse_linear"],
            DEGREES,
            towers=2,
            train_norm=True,
        )
    ),
    "ClusterGCNConv": two(pyg.ClusterGCNConv),
    "ClusterGCNConv diag_lambda": _of(pyg.ClusterGCNConv, diag_lambda=0.5),
    "GENConv": two(pyg.GENConv),
    "GENConv powermean, layer norm": _of(
        pyg.GENConv, aggr="powermean", norm="layer", learn_p=True, msg_norm=True
    ),
    "WLConv": lambda: [pyg.WLConv()],
    "WLConvContinuous": kept(pyg.WLConvContinuous),
    "FiLMConv": two(pyg.FiLMConv),
    "SuperGATConv": two(pyg.SuperGATConv),
    "EGConv": _of(pyg.EGConv, num_heads=1),
    "EGConv symnorm, max": _of(pyg.EGConv, num_heads=1, aggregators=["symnorm", "max", "std"]),
    "GeneralConv": two(pyg.GeneralConv),
    "GeneralConv attention": _of(pyg.GeneralConv, attention=True, l2_normalize=True),
    "LGConv": kept(pyg.LGConv),
    "DirGNNConv": two(lambda i, o: pyg.DirGNNConv(pyg.GCNConv(i, o))),
    "DirGNNConv SAGE": two(lambda i, o: pyg.DirGNNConv(pyg.SAGEConv(i, o))),
    "MixHopConv": lambda: [
        pyg.MixHopConv(WIDTH, WIDTH),
        pyg.MixHopConv(3 * WIDTH, OUT),
    ],
    "CGConv": kept(lambda: pyg.CGConv(WIDTH)),
    "CGConv batch norm": kept(lambda: pyg.CGConv(WIDTH, batch_norm=True)),
    # Those that ask for what no graph carries here: refused, since PyG has no such call either.
    "DNAConv": kept(lambda: pyg.DNAConv(WIDTH)),
    "PANConv": _of(pyg.PANConv, filter_size=2),
    "SignedConv": _of(pyg.SignedConv, first_aggr=True),
    "PointNetConv": kept(pyg.PointNetConv),
    "PPFConv": kept(pyg.PPFConv),
    "PointTransformerConv": two(pyg.PointTransformerConv),
    "PointGNNConv": kept(lambda: pyg.PointGNNConv(_mlp(8, 3), _mlp(11, 8), _mlp(8, 8))),
    "MeshCNNConv": two(pyg.MeshCNNConv),
    "HGTConv": _of(pyg.HGTConv, metadata=METADATA),
    "HANConv": _of(pyg.HANConv, metadata=METADATA),
    "HeteroConv": kept(lambda: pyg.HeteroConv({METADATA[1][0]: pyg.SAGEConv(WIDTH, WIDTH)})),
}

AGGREGATIONS: dict[str, Callable[[int], Any]] = {
    **{
        name: partial(lambda name, i: name, name)
        for name in ("sum", "max", "min", "mul", "var", "std", "softmax", "powermean", "median")
    },
    "[mean, max, std]": lambda i: ["mean", "max", "std"],
    "softmax, learned": lambda i: aggr.SoftmaxAggregation(learn=True),
    "median, module": lambda i: aggr.MedianAggregation(),
    "quantile": lambda i: aggr.QuantileAggregation(0.25),
    "lstm": lambda i: aggr.LSTMAggregation(i, i),
    "gru": lambda i: aggr.GRUAggregation(i, i),
    "sort": lambda i: aggr.SortAggregation(k=1),
    "attentional": lambda i: aggr.AttentionalAggregation(nn.Linear(i, 1)),
    "equilibrium": lambda i: aggr.EquilibriumAggregation(i, i, [4], grad_iter=2),
    "mlp": lambda i: aggr.MLPAggregation(i, i, max_num_elements=16, num_layers=1),
    "deep sets": lambda i: aggr.DeepSetsAggregation(nn.Linear(i, i), nn.Linear(i, i)),
    "set transformer": lambda i: aggr.SetTransformerAggregation(i, heads=2),
    "lcm": lambda i: aggr.LCMAggregation(i, i),
    "variance preserving": lambda i: aggr.VariancePreservingAggregation(),
    "multiset transformer": lambda i: aggr.GraphMultisetTransformer(i, k=2),
    "patch transformer": lambda i: aggr.PatchTransformerAggregation(i, i, 2, 8),
}

# They ask for edges in the order of their targets, and do not always check it.
BY_TARGET = {
    "lstm",
    "gru",
    "mlp",
    "sort",
    "set transformer",
    "lcm",
    "multiset transformer",
    "patch transformer",
}

# What these give is wider than what they are given.
WIDER = {
    "SimpleConv set2set": (lambda: aggr.Set2Set(WIDTH, processing_steps=2), 2),
    "SimpleConv quantiles": (lambda: aggr.QuantileAggregation([0.25, 0.75]), 2),
    "SimpleConv degree scaler": (
        lambda: aggr.DegreeScalerAggregation(
            ["mean", "max"], ["identity", "amplification"], DEGREES
        ),
        4,
    ),
}

# These hand on to the layer inside what they are given by name.
HANDING_ON: dict[str, Stack] = {
    "AntiSymmetricConv": kept(lambda: pyg.AntiSymmetricConv(WIDTH, num_iters=2)),
    "GPSConv performer": _gps(attn_type="performer"),
    "GPSConv norm=None": _gps(norm=None),
    "GPSConv": _gps(),
}

# Built for what edges carry: attributes, types.
CARRYING = [
    Subject("ResGatedGraphConv edge_dim", _of(pyg.ResGatedGraphConv, edge_dim=EDGE_DIM), ATTR),
    Subject("GATConv edge_dim", _of(pyg.GATConv, edge_dim=EDGE_DIM), ATTR),
    Subject("GATv2Conv edge_dim", _of(pyg.GATv2Conv, edge_dim=EDGE_DIM), ATTR),
    Subject("TransformerConv edge_dim", _of(pyg.TransformerConv, edge_dim=EDGE_DIM), ATTR),
    Subject("GINEConv", two(lambda i, o: pyg.GINEConv(_mlp(i, o))), ATTR, attr_channels=WIDTH),
    Subject("GINEConv edge_dim", two(lambda i, o: pyg.GINEConv(_mlp(i, o), edge_dim=3)), ATTR),
    Subject("GMMConv", _of(pyg.GMMConv, dim=EDGE_DIM, kernel_size=4), ATTR),
    Subject("NNConv", two(lambda i, o: pyg.NNConv(i, o, _mlp(EDGE_DIM, i * o))), ATTR),
    Subject("NNConv mean", two(lambda i, o: pyg.NNConv(i, o, _mlp(3, i * o), aggr="mean")), ATTR),
    Subject("CGConv dim", kept(lambda: pyg.CGConv(WIDTH, dim=EDGE_DIM)), ATTR),
    Subject("PNAConv edge_dim", _pna(edge_dim=EDGE_DIM), ATTR),
    Subject("GENConv edge_dim", _of(pyg.GENConv, edge_dim=EDGE_DIM), ATTR),
    Subject("PDNConv", _of(pyg.PDNConv, edge_dim=EDGE_DIM, hidden_channels=4), ATTR),
    Subject("GeneralConv in_edge_channels", _of(pyg.GeneralConv, in_edge_channels=3), ATTR),
    Subject("GPSConv GINE", kept(_gps_with_attributes), ATTR, {"edge_attr": "edge_attr"}),
    Subject("RGCNConv", _of(pyg.RGCNConv, num_relations=RELATIONS), TYPE),
    Subject("RGCNConv bases", _of(pyg.RGCNConv, num_relations=RELATIONS, num_bases=2), TYPE),
    Subject("FastRGCNConv", _of(pyg.FastRGCNConv, num_relations=RELATIONS), TYPE),
    Subject("RGATConv", _of(pyg.RGATConv, num_relations=RELATIONS), TYPE),
    Subject("RGATConv edge_dim", _of(pyg.RGATConv, num_relations=3, edge_dim=3), ATTR | TYPE),
    Subject("FiLMConv relations", _of(pyg.FiLMConv, num_relations=RELATIONS), TYPE),
    Subject("HEATConv", two(_heat), ATTR | TYPE | {"node_type"}),
]
INITIAL = {
    "GCN2Conv": lambda: pyg.GCN2Conv(WIDTH, alpha=0.2, theta=0.5, layer=1),
    "GCN2Conv shared_weights=False": lambda: pyg.GCN2Conv(WIDTH, 0.2, shared_weights=False),
    "FAConv": lambda: pyg.FAConv(WIDTH),
}
LAZY = {
    "SAGEConv lazy": lambda i, o: pyg.SAGEConv(-1, o),
    "GCNConv lazy": lambda i, o: pyg.GCNConv(-1, o),
    "GATConv lazy": lambda i, o: pyg.GATConv(-1, o),
    "GraphConv lazy": lambda i, o: pyg.GraphConv(-1, o),
}

SUBJECTS = [
    *(Subject(name, stack) for name, stack in PLAIN.items()),
    *(Subject(n, s, takes={"edge_weight": "edge_weight"}) for n, s in HANDING_ON.items()),
    *CARRYING,
    *(Subject(name, after_matrix(make), initial=True) for name, make in INITIAL.items()),
    Subject(
        "FAConv normalize=False",
        after_matrix(lambda: pyg.FAConv(WIDTH, normalize=False)),
        frozenset({"edge_weight"}),
        initial=True,
    ),
    *(Subject(name, two(make), lazy=True) for name, make in LAZY.items()),
    *(Subject(name, partial(_once, make, times * WIDTH)) for name, (make, times) in WIDER.items()),
    *(
        Subject(
            f"SAGEConv aggr {name}",
            _sage(make),
            float32=name == "equilibrium",
            by_target=name in BY_TARGET,
        )
        for name, make in AGGREGATIONS.items()
    ),
]

"""Models as blocks and phases: what trainers, inference and the planner read."""

from torch_geometric.nn import DiffGroupNorm, MessageNorm

from gnnscale.nn.blocks.block import Block
from gnnscale.nn.blocks.context import Context
from gnnscale.nn.blocks.layered import LayeredGNN, Slot, first_propagation
from gnnscale.nn.convert.pyg_models import as_layered
from gnnscale.nn.convs.cluster_gcn import ClusterGCNConv
from gnnscale.nn.convs.matrices import (
    Coefficients,
    Mean,
    RowNormalisation,
    Sum,
    SymmetricNormalisation,
    Unweighted,
)
from gnnscale.nn.convs.propagation import Propagation, propagation_of, register
from gnnscale.nn.convs.stacked import Branched, Stacked
from gnnscale.nn.invariance.check import check_invariance
from gnnscale.nn.models.by_name import (
    GAT,
    GCN,
    GIN,
    MODELS,
    SGC,
    SSGC,
    TAGCN,
    ClusterGCN,
    GraphSAGE,
    from_spec,
)
from gnnscale.nn.models.deep import GCNII, DeepGCN
from gnnscale.nn.models.encoders import CategoricalEncoder, atom_encoder, bond_encoder
from gnnscale.nn.models.perceptrons import APPNP, MLP, SIGN
from gnnscale.nn.models.readout import GraphModel
from gnnscale.nn.models.replacing import with_norm
from gnnscale.nn.norms.layers import (
    BatchNorm,
    GraphNorm,
    GraphSizeNorm,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    PairNorm,
)
from gnnscale.nn.norms.statistics import Form, Moments, apply_stats, partial_stats, register_norm

__all__ = [
    "APPNP",
    "GAT",
    "GCN",
    "GCNII",
    "GIN",
    "MLP",
    "MODELS",
    "SGC",
    "SIGN",
    "SSGC",
    "TAGCN",
    "BatchNorm",
    "Block",
    "Branched",
    "CategoricalEncoder",
    "ClusterGCN",
    "ClusterGCNConv",
    "Coefficients",
    "Context",
    "DeepGCN",
    "DiffGroupNorm",
    "Form",
    "GraphModel",
    "GraphNorm",
    "GraphSAGE",
    "GraphSizeNorm",
    "InstanceNorm",
    "LayerNorm",
    "LayeredGNN",
    "Mean",
    "MeanSubtractionNorm",
    "MessageNorm",
    "Moments",
    "PairNorm",
    "Propagation",
    "RowNormalisation",
    "Slot",
    "Stacked",
    "Sum",
    "SymmetricNormalisation",
    "Unweighted",
    "apply_stats",
    "as_layered",
    "atom_encoder",
    "bond_encoder",
    "check_invariance",
    "first_propagation",
    "from_spec",
    "partial_stats",
    "propagation_of",
    "register",
    "register_norm",
    "with_norm",
]

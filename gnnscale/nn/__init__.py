"""Models as blocks and phases: what trainers, inference and the planner read."""

from torch_geometric.nn import DiffGroupNorm, MessageNorm

from gnnscale.nn import opaque, pyg_multihop  # noqa: F401 - they register PyG's convolutions
from gnnscale.nn.block import Block
from gnnscale.nn.cluster_gcn import ClusterGCNConv
from gnnscale.nn.context import Context
from gnnscale.nn.convert import as_layered
from gnnscale.nn.deep_models import GCNII, DeepGCN
from gnnscale.nn.encoders import CategoricalEncoder, atom_encoder, bond_encoder
from gnnscale.nn.first_hop import first_propagation
from gnnscale.nn.invariance import check_invariance
from gnnscale.nn.layered import LayeredGNN, Slot
from gnnscale.nn.matrices import (
    Coefficients,
    Mean,
    RowNormalisation,
    Sum,
    SymmetricNormalisation,
    Unweighted,
)
from gnnscale.nn.models import (
    APPNP,
    GAT,
    GCN,
    GIN,
    MLP,
    MODELS,
    SGC,
    SSGC,
    TAGCN,
    ClusterGCN,
    GraphSAGE,
    from_spec,
)
from gnnscale.nn.norms import (
    BatchNorm,
    GraphNorm,
    GraphSizeNorm,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    PairNorm,
)
from gnnscale.nn.propagation import Propagation
from gnnscale.nn.readout import GraphModel
from gnnscale.nn.registry import propagation_of, register
from gnnscale.nn.sign import SIGN
from gnnscale.nn.stacked import Branched, Stacked
from gnnscale.nn.statistics import Form, Moments, apply_stats, partial_stats, register_norm
from gnnscale.nn.with_norm import with_norm

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

"""Models as blocks and phases: what trainers, inference and the planner read."""

from torch_geometric.nn import BatchNorm, GraphNorm, LayerNorm

from gnnscale.nn.block import Block
from gnnscale.nn.context import Context
from gnnscale.nn.convert import as_layered
from gnnscale.nn.layered import LayeredGNN, Slot
from gnnscale.nn.matrices import Coefficients, Mean, Sum, SymmetricNormalisation
from gnnscale.nn.models import GAT, GCN, GIN, MLP, MODELS, GraphSAGE, from_spec
from gnnscale.nn.propagation import Propagation
from gnnscale.nn.reach import check_reach
from gnnscale.nn.registry import propagation_of, register

__all__ = [
    "GAT",
    "GCN",
    "GIN",
    "MLP",
    "MODELS",
    "BatchNorm",
    "Block",
    "Coefficients",
    "Context",
    "GraphNorm",
    "GraphSAGE",
    "LayerNorm",
    "LayeredGNN",
    "Mean",
    "Propagation",
    "Slot",
    "Sum",
    "SymmetricNormalisation",
    "as_layered",
    "check_reach",
    "from_spec",
    "propagation_of",
    "register",
]

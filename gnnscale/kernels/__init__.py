"""Sparse products, induced subgraphs and fused dropout: numba on CPU, plain PyTorch elsewhere."""

from gnnscale.kernels.activation import (
    activation_dropout,
    relu_dropout,
    relu_dropout_reference,
)
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.diagonal import RowSums, row_sums, row_sums_reference
from gnnscale.kernels.dropout import (
    dropout,
    dropout_csr,
    dropout_reference,
    mask_rows,
    row_keys,
)
from gnnscale.kernels.extremum import extremum, extremum_reference
from gnnscale.kernels.graph_norm import graph_norm, graph_norm_reference
from gnnscale.kernels.moments import segment_moments, segment_moments_reference
from gnnscale.kernels.propagate import propagate, sparse_linear
from gnnscale.kernels.spmm import spmm, spmm_reference
from gnnscale.kernels.subgraph import induced_subgraph, induced_subgraph_reference
from gnnscale.kernels.threads import THREADING_LAYER, njit_parallel, njit_serial, num_threads

__all__ = [
    "CSR",
    "THREADING_LAYER",
    "RowSums",
    "activation_dropout",
    "dropout",
    "dropout_csr",
    "dropout_reference",
    "extremum",
    "extremum_reference",
    "graph_norm",
    "graph_norm_reference",
    "induced_subgraph",
    "induced_subgraph_reference",
    "mask_rows",
    "njit_parallel",
    "njit_serial",
    "num_threads",
    "propagate",
    "relu_dropout",
    "relu_dropout_reference",
    "row_keys",
    "row_sums",
    "row_sums_reference",
    "segment_moments",
    "segment_moments_reference",
    "sparse_linear",
    "spmm",
    "spmm_reference",
]

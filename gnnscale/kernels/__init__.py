"""The operations on sparse and segmented rows that everything above computes with.

Each is a folder with a plain PyTorch reference and its kernels, between which
:mod:`gnnscale.kernels.dispatch` chooses.
"""

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.diagonal import RowSums, row_sums
from gnnscale.kernels.extrema import extremum
from gnnscale.kernels.hash_dropout import activation_dropout, dropout, dropout_csr, relu_dropout
from gnnscale.kernels.induced import induced_subgraph
from gnnscale.kernels.moments import segment_moments, segment_sum
from gnnscale.kernels.normalization import graph_norm
from gnnscale.kernels.product import propagate, sparse_linear, spmm
from gnnscale.kernels.threads import THREADING_LAYER, njit_parallel, njit_serial, num_threads

__all__ = [
    "CSR",
    "THREADING_LAYER",
    "RowSums",
    "activation_dropout",
    "dropout",
    "dropout_csr",
    "extremum",
    "graph_norm",
    "induced_subgraph",
    "njit_parallel",
    "njit_serial",
    "num_threads",
    "propagate",
    "relu_dropout",
    "row_sums",
    "segment_moments",
    "segment_sum",
    "sparse_linear",
    "spmm",
]

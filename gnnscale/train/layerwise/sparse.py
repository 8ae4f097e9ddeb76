"""Sparse features propagated: the rows of some nodes, sparse as they are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.kernels import CSR
from gnnscale.kernels.threads import num_threads
from gnnscale.nn import Propagation
from gnnscale.nn.convs.stacked import Stacked


def sparse_product(propagation: Propagation, adj: Adjacency, x: CSR, nodes: Tensor) -> CSR:
    """Rows of Q X for sparse X; its floor is a multiply and add for every edge and feature there.

    Args:
        propagation: Q; of a `Stacked` one, all powers side by side.
        adj: the whole graph.
        x: `[num_nodes, num_features]`.
        nodes: int64 `[num_rows]`, whose rows are wanted.

    Returns:
        `[num_rows, num_features]`, or (K + 1) times as wide.
    """
    # Only the rows of the last hop are cut: the hops before it reach further.
    dtype = torch.float32 if x.values is None else x.values.dtype
    features = _scipy(x, dtype)
    matrix = _matrix(propagation, adj, dtype)
    chosen = nodes.cpu().numpy()
    last = matrix[chosen]
    if isinstance(propagation, Stacked):
        powers = [features]
        for _ in range(propagation.hops - 1):
            powers.append(_product(matrix, powers[-1]))
        found = [*(power[chosen] for power in powers), _product(last, powers[-1])]
        return _csr(scipy.sparse.hstack(found, format="csr"), dtype)
    value = features
    for k in reversed(range(propagation.hops)):
        scale = propagation.powers
        if scale is not None and k == propagation.hops - 1:
            value = value * scale[-1]
        value = _product(last if k == 0 else matrix, value)
        if scale is not None:
            value = value + scale[k] * (features[chosen] if k == 0 else features)
    return _csr(value.tocsr(), dtype)


def _product(a: scipy.sparse.csr_array, b: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """A B, rows of A side by side on the threads there are: SciPy takes one, without the GIL."""
    threads = num_threads()
    ends = np.searchsorted(a.indptr, np.linspace(0, a.nnz, threads + 1)[1:-1])
    pieces = [a[start:stop] for start, stop in pairwise([0, *ends.tolist(), a.shape[0]])]
    with ThreadPoolExecutor(threads) as executor:
        return scipy.sparse.vstack(list(executor.map(lambda rows: rows @ b, pieces)), format="csr")


def _matrix(propagation: Propagation, adj: Adjacency, dtype: torch.dtype) -> scipy.sparse.csr_array:
    a, left, right, diag = propagation.operator(adj, dtype)
    matrix = _scipy(a, dtype)
    if left is not None:
        matrix.data *= np.repeat(_numpy(left, dtype), np.diff(matrix.indptr))
    if right is not None:
        matrix.data *= _numpy(right, dtype)[matrix.indices]
    return matrix if diag is None else matrix + scipy.sparse.diags_array(_numpy(diag, dtype))


def _scipy(a: CSR, dtype: torch.dtype) -> scipy.sparse.csr_array:
    ones = torch.ones(a.nnz, dtype=dtype)
    values = ones if a.values is None else a.values.detach().cpu().to(dtype, copy=True)
    parts = (values.numpy(), a.indices.cpu().numpy(), a.indptr.cpu().numpy())
    return scipy.sparse.csr_array(parts, shape=tuple(a.shape))


def _numpy(values: Tensor, dtype: torch.dtype) -> np.ndarray:
    return values.detach().cpu().to(dtype).numpy()


def _csr(a: scipy.sparse.csr_array, dtype: torch.dtype) -> CSR:
    values = torch.from_numpy(a.data).to(dtype)
    indptr = torch.from_numpy(a.indptr.astype(np.int64))
    return CSR(indptr, torch.from_numpy(a.indices.astype(np.int32)), values, tuple(a.shape))

"""The extremum over neighbours, and its gradient, on the CPU."""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numba
import torch
from torch import Tensor

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.threads import njit_parallel


def extremum(x: Tensor, a: CSR, sign: float) -> Tensor:
    """See the reference."""
    rows = _native(x)
    out = torch.empty(a.shape[0], x.shape[1], dtype=rows.dtype)
    _extremum(*a.arrays(), rows.numpy(), sign, out.numpy())
    return out if out.dtype == x.dtype else out.to(x.dtype)  # exact: nothing is summed


def extremum_gradient(grad: Tensor, x: Tensor, out: Tensor, a: CSR, symmetric: bool) -> Tensor:
    """See the reference."""
    rows, extrema, given = (_native(tensor) for tensor in (x, out, grad))
    share, result = torch.empty_like(extrema), torch.empty_like(rows)
    _share(*a.arrays(), rows.numpy(), extrema.numpy(), given.numpy(), share.numpy())
    back = a if symmetric else a.t()
    _gather(*back.arrays(), rows.numpy(), extrema.numpy(), share.numpy(), result.numpy())
    return result if result.dtype == x.dtype else result.to(x.dtype)


def _native(x: Tensor) -> Tensor:
    x = x.detach()
    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).contiguous()


# Rows are few microseconds each: numba's own chunks even out what hubs cost well enough.


@njit_parallel
def _extremum(indptr, indices, x, sign, out):
    for i in numba.prange(indptr.shape[0] - 1):
        first = indptr[i]
        target = out[i]
        if first == indptr[i + 1]:
            target[:] = 0
            continue
        target[:] = x[indices[first]]
        for k in range(first + 1, indptr[i + 1]):
            source = x[indices[k]]
            for f in range(x.shape[1]):
                value = source[f]
                better = value * sign > target[f] * sign or value != value
                target[f] = value if better else target[f]


@njit_parallel
def _share(indptr, indices, x, out, grad, share):
    one = share.dtype.type(1)
    for i in numba.prange(indptr.shape[0] - 1):
        count = share[i]
        count[:] = 0
        for k in range(indptr[i], indptr[i + 1]):
            source = x[indices[k]]
            for f in range(x.shape[1]):
                count[f] += one if source[f] == out[i, f] else 0
        for f in range(x.shape[1]):
            count[f] = grad[i, f] / count[f] if count[f] > 0 else 0


@njit_parallel
def _gather(indptr, indices, x, out, share, result):
    for j in numba.prange(indptr.shape[0] - 1):
        target = result[j]
        target[:] = 0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            for f in range(x.shape[1]):
                target[f] += share[i, f] if x[j, f] == out[i, f] else 0

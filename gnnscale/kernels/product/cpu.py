"""Sparse matrix times dense matrix: the propagation of every convolution.

Floor: one row of ``x`` is read for every entry, ``nnz * width * itemsize`` bytes out of the cache
(64 MB at 40,000 entries of width 400 in float32), and ``rows * width`` values are written. A value
is summed entry by entry in storage order, in a register, so the result does not depend on the
number of threads. All rows of a slice of channels are run before the next slice: what they share of
``x`` stays in the cache.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.kernels.csr import CSR
from gnnscale.kernels.cuda import spmm_cuda
from gnnscale.kernels.lanes import add_row, store_row, zero_lanes
from gnnscale.kernels.threads import njit_parallel, num_threads

_NATIVE = (torch.float32, torch.float64)
_HALF = (torch.bfloat16, torch.float16)
# More blocks than threads evens out what the balance by entries misses (cache misses).
_BLOCKS_PER_THREAD = 16
_SLICE = 64  # channels: four of the widest registers, and 256 bytes of a row in float32


def spmm(
    a: CSR,
    x: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diag: Tensor | None = None,
    x_self: Tensor | None = None,
) -> Tensor:
    """Return ``diag(left) @ a @ diag(right) @ x + diag(diag) @ x_self``, without a gradient.

    Numba on CPU, Triton or cuSPARSE on CUDA, plain PyTorch otherwise. Half precision is summed in
    float32 and rounded once.

    Args:
        a: matrix ``[rows, cols]``.
        x: ``[cols, channels]``.
        left: ``[rows]``, or None (ones).
        right: ``[cols]``, or None (ones).
        diag: ``[rows]``, or None (zeros).
        x_self: ``[rows, channels]``, what ``diag`` multiplies; ``x`` where it is not given.

    Returns:
        ``[rows, channels]`` in the dtype of ``x``.

    Raises:
        InputError: shapes do not fit together.
    """
    _check(a, x, left, right, diag, x_self)
    if x.device.type == "cpu" and x.dtype in _NATIVE:
        return _spmm_native(a, x, left, right, diag, x_self)
    if x.device.type == "cpu" and x.dtype in _HALF:
        return _spmm_native(a, x.float(), left, right, diag, x_self).to(x.dtype)
    if x.device.type == "cuda" and x.is_floating_point():
        return spmm_cuda(a, x, left, right, diag, x_self)
    return _reference(a, x, left, right, diag, x_self)


def spmm_reference(
    a: CSR,
    x: Tensor,
    left: Tensor | None = None,
    right: Tensor | None = None,
    diag: Tensor | None = None,
    x_self: Tensor | None = None,
) -> Tensor:
    """Return what :func:`spmm` returns, in plain PyTorch on any device and in any dtype."""
    _check(a, x, left, right, diag, x_self)
    return _reference(a, x, left, right, diag, x_self)


def _check(
    a: CSR,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    diag: Tensor | None,
    x_self: Tensor | None,
) -> None:
    """Raise for shapes that do not fit: the compiled kernel would read outside its arrays."""
    rows, cols = a.shape
    faults = []
    if x.dim() != 2 or x.shape[0] != cols:
        faults.append(f"x has shape {[*x.shape]}, expected [{cols}, channels] for {a}")
    vectors = (("left", left, rows), ("right", right, cols), ("diag", diag, rows))
    for name, vector, length in vectors:
        if vector is not None and (vector.dim() != 1 or vector.shape[0] != length):
            faults.append(f"{name} has shape {[*vector.shape]}, expected [{length}] for {a}")
    if diag is not None and x.dim() == 2:
        own = x if x_self is None else x_self
        if own.dim() != 2 or own.shape[0] != rows or own.shape[1] != x.shape[1]:
            faults.append(f"x_self has shape {[*own.shape]}, expected [{rows}, {x.shape[1]}]")
    if faults:
        raise InputError(faults)


def _add_diagonal(out: Tensor, x: Tensor, diag: Tensor | None, x_self: Tensor | None) -> Tensor:
    if diag is None:
        return out
    return out + diag.to(x.dtype).unsqueeze(1) * (x if x_self is None else x_self.to(x.dtype))


def _reference(
    a: CSR,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    diag: Tensor | None,
    x_self: Tensor | None,
) -> Tensor:
    values = a.scaled_values(x.dtype, left, right)
    out = torch.zeros(a.shape[0], x.shape[1], dtype=x.dtype, device=x.device)
    out.index_add_(0, a.row_index, x.index_select(0, a.indices) * values.unsqueeze(1))
    return _add_diagonal(out, x, diag, x_self)


def _spmm_native(
    a: CSR,
    x: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    diag: Tensor | None,
    x_self: Tensor | None,
) -> Tensor:
    x_rows = x.detach().contiguous()
    out = torch.empty(a.shape[0], x.shape[1], dtype=x.dtype)
    # Absent operands are empty arrays under a flag: with None, numba would compile one variant for
    # every combination of them.
    absent = np.empty(0, dtype=np.float32 if x.dtype == torch.float32 else np.float64)

    def array(vector: Tensor | None) -> np.ndarray:
        if vector is None:
            return absent
        return vector.detach().to(x.dtype).contiguous().numpy()

    own = x_rows if x_self is None else x_self.detach().to(x.dtype).contiguous()
    _spmm_kernel(
        num_threads() * _BLOCKS_PER_THREAD,
        *a.arrays(),
        array(a.values),
        a.values is not None,
        array(left),
        left is not None,
        array(right),
        right is not None,
        array(diag),
        diag is not None,
        x_rows.numpy(),
        own.numpy(),
        out.numpy(),
    )
    return out


@njit_parallel
def _spmm_kernel(  # type: ignore[no-untyped-def]
    blocks,
    indptr,
    indices,
    values,
    has_values,
    left,
    has_left,
    right,
    has_right,
    diag,
    has_diag,
    x,
    x_self,
    out,
):
    rows = indptr.shape[0] - 1
    width = x.shape[1]
    # A row costs its entries and one more, for writing it.
    total = indptr[rows] - indptr[0] + rows
    matrix = (indptr, indices, values, has_values, left, has_left, right, has_right, diag, has_diag)
    slices = (width + _SLICE - 1) // _SLICE
    for task in numba.prange(blocks * slices):
        block = task % blocks
        first = _row_at(indptr, rows, block * total // blocks)
        last = _row_at(indptr, rows, (block + 1) * total // blocks)
        f = task // blocks * _SLICE
        end = min(f + _SLICE, width)
        # Where fewer channels are left than a step takes, it goes back over some: summed again, by
        # another thread even, they are the same bits, and that is faster than one by one.
        while f < end:
            if width - f >= _SLICE:
                _sum_rows(zero_lanes(x, _SLICE), f, first, last, matrix, x, x_self, out)
                f += _SLICE
            elif width - f > 16 and width >= 32:
                start = min(f, width - 32)
                _sum_rows(zero_lanes(x, 32), start, first, last, matrix, x, x_self, out)
                f += 32
            elif width >= 16:
                start = min(f, width - 16)
                _sum_rows(zero_lanes(x, 16), start, first, last, matrix, x, x_self, out)
                f += 16
            elif width >= 4:
                start = min(f, width - 4)
                _sum_rows(zero_lanes(x, 4), start, first, last, matrix, x, x_self, out)
                f += 4
            else:
                _sum_rows(zero_lanes(x, 1), f, first, last, matrix, x, x_self, out)
                f += 1


@numba.njit
def _sum_rows(zeros, f, first, last, matrix, x, x_self, out):  # type: ignore[no-untyped-def]
    """Write rows of the product, in as many channels from ``f`` on as there are zeros."""
    indptr, indices, values, has_values, left, has_left, right, has_right, diag, has_diag = matrix
    one = out.dtype.type(1)
    for i in range(first, last):
        total = zeros
        if has_diag:
            total = add_row(total, diag[i], x_self, i, f)
        scale = left[i] if has_left else one
        for k in range(indptr[i], indptr[i + 1]):
            # Unsigned, or every row read asks whether its number counts from the end.
            j = np.uint64(indices[k])
            weight = scale
            if has_values:
                weight *= values[k]
            if has_right:
                weight *= right[j]
            total = add_row(total, weight, x, j, f)
        store_row(total, out, i, f)


@numba.njit(inline="always")
def _row_at(indptr, rows, work):  # type: ignore[no-untyped-def]
    """Return the first row that starts at or after ``work`` (entries plus rows before it)."""
    low = 0
    high = rows
    while low < high:
        middle = (low + high) // 2
        if indptr[middle] - indptr[0] + middle < work:
            low = middle + 1
        else:
            high = middle
    return low

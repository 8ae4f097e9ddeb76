"""Sparse products on the CPU, channels in vector registers.

A value is summed entry by entry in storage order, in a register, so the result does not depend on
the number of threads. All rows of a slice of channels are run before the next slice: what they
share of ``x`` stays in the cache.

A loop over channels whose number is known at run time alone keeps its sums in memory, asks at every
entry whether the arrays overlap, and ends in single steps. Of a fixed number of them LLVM makes as
many registers as the processor needs.
"""

from __future__ import annotations

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def
import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array
from torch import Tensor

from gnnscale.kernels.csr import CSR
from gnnscale.kernels.product.reference import Given
from gnnscale.kernels.threads import njit_parallel, num_threads


class Lanes(types.Type):
    """The numba type of ``count`` values of ``dtype``, side by side."""

    def __init__(self, dtype, count):
        self.dtype = dtype
        self.count = count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        value = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(value, kind.count))


@intrinsic(prefer_literal=True)
def zero_lanes(_typing, array, count):
    """Return ``count`` zeros, a literal, in the type of ``array``."""
    lanes = Lanes(array.dtype, count.literal_value)

    def generate(context, _builder, _signature, _arguments):
        return ir.Constant(context.get_value_type(lanes), None)

    return lanes(array, count), generate


@intrinsic
def add_row(_typing, total, factor, array, row, channel):
    """Return ``total + factor * array[row, channel : channel + lanes]``; no bounds are checked."""

    def generate(context, builder, signature, arguments):
        total, factor, *place = arguments
        lanes = context.get_value_type(signature.return_type)
        values = builder.load(_address(context, builder, signature.args[2:], place, lanes))
        values.align = array.dtype.bitwidth // 8
        undefined = ir.Constant(lanes, ir.Undefined)
        first = ir.Constant(ir.IntType(32), 0)
        every = ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), None)
        factors = builder.shuffle_vector(
            builder.insert_element(undefined, factor, first), undefined, every
        )
        return builder.fadd(total, builder.fmul(factors, values))

    return total(total, factor, array, row, channel), generate


@intrinsic
def store_row(_typing, total, array, row, channel):
    """Write ``total`` to ``array[row, channel : channel + lanes]``; no bounds are checked."""

    def generate(context, builder, signature, arguments):
        total, *place = arguments
        address = _address(context, builder, signature.args[1:], place, total.type)
        builder.store(total, address).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(total, array, row, channel), generate


def _address(context, builder, kinds, place, lanes):
    """Return the address of ``array[row, channel]`` as that of lanes."""
    (array_kind, *index_kinds), (array, *indices) = kinds, place
    indices = [
        context.cast(builder, index, kind, types.intp)
        for index, kind in zip(indices, index_kinds, strict=True)
    ]
    struct = make_array(array_kind)(context, builder, array)
    pointer = cgutils.get_item_pointer(
        context, builder, array_kind, struct, indices, wraparound=False
    )
    return builder.bitcast(pointer, lanes.as_pointer())


# More blocks than threads evens out what the balance by entries misses (cache misses).
_BLOCKS_PER_THREAD = 16
_SLICE = 64  # channels: four of the widest registers, and 256 bytes of a row in float32
_GRADIENT_SLICE = 32  # channels that a thread takes at a time


def spmm(a: CSR, x: Tensor, left: Given, right: Given, diag: Given, x_self: Given) -> Tensor:
    """See :func:`gnnscale.kernels.spmm`."""
    if x.dtype not in (torch.float32, torch.float64):
        return spmm(a, x.float(), left, right, diag, x_self).to(x.dtype)
    x_rows = x.detach().contiguous()
    out = torch.empty(a.shape[0], x.shape[1], dtype=x.dtype)
    # Absent operands are empty arrays under a flag: with None, numba would compile one variant for
    # every combination of them.
    absent = np.empty(0, dtype=np.float32 if x.dtype == torch.float32 else np.float64)

    def operand(vector: Given) -> tuple[np.ndarray, bool]:
        if vector is None:
            return absent, False
        return vector.detach().to(x.dtype).contiguous().numpy(), True

    own = x_rows if x_self is None else x_self.detach().to(x.dtype).contiguous()
    blocks, dense = num_threads() * _BLOCKS_PER_THREAD, (x_rows.numpy(), own.numpy(), out.numpy())
    factors = (*operand(a.values), *operand(left), *operand(right), *operand(diag))
    _spmm(blocks, *a.arrays(), *factors, *dense)
    return out


def transposed_product(x: CSR, grad: Tensor) -> Tensor:
    """See the reference; the transpose is not made."""
    out = grad.new_zeros(x.shape[1], grad.size(1))
    weighted = x.values is not None
    values = x.values.detach().to(grad.dtype) if x.values is not None else grad.new_empty(0)
    rows = grad.detach().contiguous().numpy()
    _add_rows(*x.arrays(), values.numpy(), weighted, rows, out.numpy())
    return out


@njit_parallel
def _spmm(
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
def _sum_rows(zeros, f, first, last, matrix, x, x_self, out):
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
def _row_at(indptr, rows, work):
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


@njit_parallel
def _add_rows(indptr, indices, values, has_values, grad, out):
    # Every thread goes through all entries, for channels of its own: no two write to one place, and
    # the sums are those of the transpose, in its order.
    width = grad.shape[1]
    matrix = (indptr, indices, values, has_values)
    for task in numba.prange((width + _GRADIENT_SLICE - 1) // _GRADIENT_SLICE):
        f = task * _GRADIENT_SLICE
        if width - f >= _GRADIENT_SLICE:
            _add_channels(zero_lanes(grad, _GRADIENT_SLICE), f, matrix, grad, out)
            f = width
        while width - f >= 8:
            _add_channels(zero_lanes(grad, 8), f, matrix, grad, out)
            f += 8
        while f < width:
            _add_channels(zero_lanes(grad, 1), f, matrix, grad, out)
            f += 1


@numba.njit
def _add_channels(zeros, f, matrix, grad, out):
    indptr, indices, values, has_values = matrix
    one = grad.dtype.type(1)
    for i in range(indptr.shape[0] - 1):
        for k in range(indptr[i], indptr[i + 1]):
            j = np.uint64(indices[k])
            total = add_row(zeros, one, out, j, f)
            total = add_row(total, values[k] if has_values else one, grad, i, f)
            store_row(total, out, j, f)

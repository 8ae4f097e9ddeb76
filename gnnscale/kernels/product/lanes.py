"""Neighbouring channels of a row held in vector registers, for numba, which has no vector type.

A loop over channels whose number is known at run time alone keeps its sums in memory, asks at every
entry whether the arrays overlap, and ends in single steps. Of a fixed number of them LLVM makes as
many registers as the processor needs.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array


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

"""Whatever holds numbers as a plain tensor in memory or in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnscale.errors import InputError


def tensor(value: Any, what: str = "an array") -> Tensor:
    """A plain CPU tensor over `value`, which is copied only where it must be.

    Raises:
        InputError: it holds something else than real numbers; `what` says what it is.
    """
    if isinstance(value, Tensor) and (value.is_meta or value.is_complex()):
        where = "on the meta device, without data" if value.is_meta else f"of {value.dtype}"
        raise InputError(f"{what} is a tensor {where}; give real numbers")
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise InputError(f"{what} is sparse; give it dense: .to_dense()")
        value = value.detach().cpu()
        if value.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch hardly computes them
            return tensor(value.numpy(), what)
        return value if type(value) is Tensor else value.as_subclass(Tensor)  # an EdgeIndex
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        count = np.ma.count_masked(value)
        raise InputError(
            f"{what} is a masked array, and {count:,} entries are masked: fill them, as "
            ".filled(-1) or .astype(float).filled(numpy.nan)"
        )
    try:
        array = np.ascontiguousarray(value).reshape(np.shape(value))
    except ValueError as error:  # rows of different lengths
        raise InputError(f"{what} cannot be made an array: {error}") from error
    if array.dtype.kind not in "biuf":
        hint = ""
        if what == "y" and (array.dtype.kind in "SU" or isinstance(next(array.flat, None), str)):
            hint = ", as numpy.unique(y, return_inverse=True)[1] makes of names"
        elif array.dtype.kind == "O":
            hint = " in an array: .astype(float) makes NaN of None, .toarray() an array of a matrix"
        raise InputError(f"{what} is {array.dtype}; give numbers{hint}")
    if array.dtype.kind == "u" and array.itemsize > 1:
        if array.itemsize == 8 and array.size and int(array.max()) > _LARGEST:
            raise InputError(f"{what} holds {array.max()}; whole numbers go up to {_LARGEST}")
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name not in _KNOWN:  # float128
        array = array.astype(np.float64)
    # torch warns of, and writes through, read-only memory; one reversed entry counts as contiguous.
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


_LARGEST = 2**63 - 1
_KNOWN = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}

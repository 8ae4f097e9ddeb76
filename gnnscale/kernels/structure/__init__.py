"""What is made of the structure of compressed rows alone: their order, transpose and selection.

Floors, bytes moved with 32-bit indices: the transpose reads ``indices`` twice and ``indptr`` once
and writes both again (16 bytes an entry, 24 with values, and one random write each).
"""

from __future__ import annotations

from torch import Tensor

from gnnscale.kernels.dispatch import dispatch
from gnnscale.kernels.structure import reference


def asymmetry(indptr: Tensor, indices: Tensor, values: Tensor | None, first: int) -> int:
    """Hashes of the entries of some rows less those of their transposes, modulo 2^64.

    Over a whole matrix they add up to 0 where it equals its transpose, and by chance alone (2^-64)
    where it does not. Sums of integers do not depend on the order.

    Args:
        indptr: int64 ``[rows + 1]``.
        indices: int32 or int64 ``[entries]``.
        values: ``[entries]``, or None where all are 1.
        first: the number of the first row.
    """
    return dispatch(reference.asymmetry, indices.device)(indptr, indices, values, first)

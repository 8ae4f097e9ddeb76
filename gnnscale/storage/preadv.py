"""Pieces of a file, read in one call without the GIL.

A batch takes some sixty pieces. Read one by one from Python, each would hand the GIL over to the
training thread and wait for it again.
"""

from __future__ import annotations

from numba import types

from gnnscale.kernels.threads import njit_serial

# By name, which the linker resolves: a function held by ctypes could not be cached.
_pread = types.ExternalFunction(
    "pread", types.intp(types.int32, types.uintp, types.uintp, types.int64)
)


@njit_serial
def read_pieces(descriptor, offsets, lengths, out):  # type: ignore[no-untyped-def]
    """Read pieces of a file, one after the other, into a buffer.

    Args:
        descriptor: of the open file.
        offsets: int64 ``[pieces]``, where each begins in the file.
        lengths: int64 ``[pieces]``, bytes of each.
        out: uint8, as long as all pieces together: filled.

    Returns:
        How many bytes were read: fewer than there should be where the file ends early or cannot be
        read.
    """
    address = out.ctypes.data
    done = 0
    for k in range(offsets.shape[0]):
        left = lengths[k]
        at = offsets[k]
        while left > 0:
            count = _pread(descriptor, address + done, left, at)
            if count <= 0:
                return done
            done += count
            at += count
            left -= count
    return done

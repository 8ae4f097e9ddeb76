"""Texts as 64-bit numbers, by which they are sorted and searched.

Floor: the bytes of text, one after the other: each is a multiplication that waits for the last.
"""

# Compiled by numba, which mypy cannot see through.
# mypy: disable-error-code=no-untyped-def

from __future__ import annotations

import numpy as np

from gnnscale.kernels.threads import njit_serial

# splitmix64's increment and multipliers (Steele et al., OOPSLA 2014), FNV-1a's prime.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_PRIME = 0x100000001B3


@njit_serial
def hash_texts(ends, text, seed, hashes):
    """Hash each text: FNV-1a over its bytes, mixed by splitmix64's finaliser.

    Args:
        ends: int64 ``[texts + 1]``, where each begins and ends in ``text``.
        text: uint8 ``[bytes]``, one after the other.
        seed: uint64; another seed gives other hashes.
        hashes: uint64 ``[texts]``: filled.
    """
    start = (seed + np.uint64(1)) * np.uint64(_GOLDEN)
    for i in range(hashes.shape[0]):
        z = start
        for at in range(ends[i], ends[i + 1]):
            z = (z ^ np.uint64(text[at])) * np.uint64(_PRIME)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        hashes[i] = z ^ (z >> np.uint64(31))

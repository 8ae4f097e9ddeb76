"""Hashes of texts: those of a plain loop over Python's integers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.data.tables.node_ids import hash_texts

_BITS = 2**64 - 1


def reference(text: bytes, seed: int) -> int:
    z = (seed + 1) * 0x9E3779B97F4A7C15 & _BITS
    for byte in text:
        z = (z ^ byte) * 0x100000001B3 & _BITS
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _BITS
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _BITS
    return z ^ (z >> 31)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 2**64 - 1))
def test_hashes_are_those_of_the_reference(texts: list[bytes], seed: int) -> None:
    ends = np.cumsum([0, *map(len, texts)])
    text = np.frombuffer(b"".join(texts), np.uint8)
    ends.flags.writeable = False
    hashes = np.empty(len(texts), np.uint64)
    hash_texts(ends, text, np.uint64(seed), hashes)
    assert hashes.tolist() == [reference(one, seed) for one in texts]

"""The counter hash behind the masks: what of it is plain numbers, the same for all devices.

A row's two 32-bit keys come from splitmix64 (Steele et al., OOPSLA 2014), an element's bits from
the finaliser of MurmurHash3 over its channel.
"""

from __future__ import annotations

MASK32 = 2**32 - 1
# splitmix64's increment and multipliers, then the golden ratio and MurmurHash3's in 32 bits.
SPLITMIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MURMUR = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def scale_of(p: float) -> float:
    """Return what a kept value is multiplied by."""
    return 0.0 if p == 1 else 1.0 / (1.0 - p)


def threshold_of(p: float) -> int:
    """Return the least 32-bit hash that is kept (at p = 1 the scale is zero anyway)."""
    return min(round(p * 2**32), MASK32)

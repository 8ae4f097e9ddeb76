"""64-bit words in PyTorch, which has them with a sign: the bits of products are the same."""

from __future__ import annotations

from torch import Tensor


def signed(word: int) -> int:
    """Return the int64 with the bits of an unsigned 64-bit word."""
    return word - 2**64 if word >= 2**63 else word


def shifted(word: Tensor, by: int) -> Tensor:
    """Shift to the right, zeros coming in."""
    return (word >> by) & (2 ** (64 - by) - 1)

"""Weights: what a node counts for where the loads of parts are evened out."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GREATEST = 1e6  # 10⁹ nodes of that weight are a sum that 64 bits hold


def balance_faults(balance: Any) -> list[str]:
    """What is wrong with a `balance`, in words."""
    number = isinstance(balance, Real) and not isinstance(balance, bool)
    if balance in ("nodes", "edges") or (number and 1 <= balance <= _GREATEST):
        return []
    return [
        f"balance={balance!r} must be 'nodes', 'edges' or a number from 1 to {_GREATEST:.0f}: how "
        "many edges cost as much as a node"
    ]


def node_weights(balance: str | float, degree: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """What nodes weigh.

    Args:
        balance: "nodes", "edges", or how many edges cost as much as a node.
        degree: int64 `[n]`.

    Returns:
        int64 `[n]`: the degree, plus that number in whole edges, which is 1 for "edges"; None where
        all weigh the same.
    """
    if isinstance(balance, str):
        return degree + 1 if balance == "edges" else None
    return degree + math.floor(balance + 0.5)

"""Data sets: cards, loading, synthetic graphs and preprocessing.

Names are resolved when first used, for cards can be listed without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnnscale.data.appending import append
    from gnnscale.data.cards import Card, KnownResult, find_card, find_data, list_cards, read_card
    from gnnscale.data.loading import load
    from gnnscale.data.preprocessing import preprocess
    from gnnscale.data.synthetic.amazon import amazon2m
    from gnnscale.data.synthetic.named import planted
    from gnnscale.data.tables.edge_list import from_edge_list

__all__ = [
    "Card",
    "KnownResult",
    "amazon2m",
    "append",
    "find_card",
    "find_data",
    "from_edge_list",
    "list_cards",
    "load",
    "planted",
    "preprocess",
    "read_card",
]

_HOME = {
    "Card": "cards",
    "KnownResult": "cards",
    "amazon2m": "synthetic.amazon",
    "append": "appending",
    "find_card": "cards",
    "find_data": "cards",
    "list_cards": "cards",
    "read_card": "cards",
    "from_edge_list": "tables.edge_list",
    "load": "loading",
    "planted": "synthetic.named",
    "preprocess": "preprocessing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

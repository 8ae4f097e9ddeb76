"""Amounts: so much for every node, edge, entry and segment. Numbers alone, no torch.

What a phase computes, moves and keeps grows with the sizes of what it runs on, each by itself: its
widths are numbers by then. Depth is the one figure that does not: see `Depth`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import NamedTuple


class Sizes(NamedTuple):
    """What a pass runs on.

    Attributes:
        nodes: n, rows.
        edges: m, self-loops and parallel edges among them.
        degree: d, the most edges that arrive at a node; enters depth alone.
        loops: self-loops among the edges; GAT puts one in the place of all that a node has.
        entries: of sparse features.
        segments: graphs or clusters that a norm runs over, each by itself.
        leaving: the most edges that leave a node: gradients are sums over these.
        transposed: edges that there are in the other direction too, for gradients: all, or none of
            a symmetric graph.
    """

    nodes: float
    edges: float
    degree: int = 1
    loops: float = 0
    entries: float = 0
    segments: float = 1
    leaving: int = 0
    transposed: float = 0

    def share(self, share: float) -> Sizes:
        """Of some nodes: a share of all that there is, in as many segments."""
        return self._replace(
            nodes=share * self.nodes,
            edges=share * self.edges,
            loops=share * self.loops,
            entries=share * self.entries,
            transposed=share * self.transposed,
        )


@dataclass(frozen=True)
class Amount:
    """So much for every node, edge, self-loop, entry of sparse features and segment, and fixed."""

    node: float = 0
    edge: float = 0
    loop: float = 0
    entry: float = 0
    segment: float = 0
    fixed: float = 0

    def of(self, sizes: Sizes) -> float:
        """The amount for what has these sizes; a whole number where all parts are."""
        return (
            self.node * sizes.nodes
            + self.edge * sizes.edges
            + self.loop * sizes.loops
            + self.entry * sizes.entries
            + self.segment * sizes.segments
            + self.fixed
        )

    def times(self, factor: float) -> Amount:
        """So often."""
        return Amount(*(factor * part for part in astuple(self)))

    def __add__(self, other: Amount) -> Amount:
        return total((self, other))


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum of amounts."""
    rows = [astuple(amount) for amount in amounts]
    return Amount(*map(sum, zip(*rows, strict=True))) if rows else Amount()


class Depth(NamedTuple):
    """How long the longest chain of operations is that wait for one another.

    Sums are trees: of t terms ⌈log₂ t⌉ additions, one after the other.

    Attributes:
        steps: operations in a row, whatever the sizes.
        columns: widths that are summed over, one after the other: log k for each.
        arriving: for each sum over the edges of a node, the terms beside them: log d for each. The
            node itself is one where P has a diagonal, as GCN's.
        rows: sums over all rows: log n for each.
        listed: sums over the entries of a row of sparse features, of as many as in the mean.
    """

    steps: int = 0
    columns: tuple[int, ...] = ()
    arriving: tuple[int, ...] = ()
    rows: int = 0
    listed: int = 0

    def of(self, sizes: Sizes) -> int:
        """In operations."""
        return (
            self.steps
            + sum(map(levels, self.columns))
            + sum(levels(sizes.degree + more) for more in self.arriving)
            + self.rows * levels(math.ceil(sizes.nodes))
            + self.listed * levels(math.ceil(sizes.entries / max(sizes.nodes, 1)))
        )

    @property
    def symbols(self) -> dict[str, int]:
        """How often each term stands, in the symbols of Besta & Hoefler (arXiv 2205.09702)."""
        return {
            "log d": len(self.arriving),
            "log k": sum(width > 1 for width in self.columns),
            "log n": self.rows,
            "log z/n": self.listed,
        }


def levels(terms: int) -> int:
    """⌈log₂ terms⌉: the additions in a row that a sum of so many takes."""
    return max(0, terms - 1).bit_length()


def in_symbols(terms: Mapping[str, int]) -> str:
    """A sum of terms: "3 mk + 3 nk²"; "1" where there is none."""
    shown = [f"{n} {term}" if n > 1 else term for term, n in terms.items() if n]
    return " + ".join(shown) or "1"

"""What a model costs: the sum over its blocks, of what they compute, move and keep.

Numbers alone, no torch: `reading.costs_of` makes it of a model and a graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from gnnscale.costs.counted.amounts import Amount, Sizes, in_symbols, total
from gnnscale.costs.counted.facts import Facts, Kernel


class Value(NamedTuple):
    """Rows between phases.

    Attributes:
        width: columns.
        row: bytes of a node's.
        learns: whether a gradient comes back for them.
        sparse: whether they are sparse features.
        whole: whether they are whole numbers, that a layer looks up.
    """

    width: int
    row: int
    learns: bool = False
    sparse: bool = False
    whole: bool = False


class Placed(NamedTuple):
    """A phase in its model: its facts, and the numbers of the values that it takes and gives."""

    facts: Facts
    takes: tuple[int, ...]
    gives: int


class Crossing(NamedTuple):
    """What goes from a block to the next, in bytes of a node: values, and their gradients."""

    forward: int
    backward: int


@dataclass(frozen=True)
class ModelCosts:
    """A model's phases with their facts.

    Attributes:
        blocks: the phases of every block, and of the head last.
        values: all that there is between phases; the features are number 0.
        crossings: what goes from every block but the last to the next.
        parameters: how many numbers every block learns, and the head last.
        element: bytes of a number.
    """

    blocks: tuple[tuple[Placed, ...], ...]
    values: tuple[Value, ...]
    crossings: tuple[Crossing, ...]
    parameters: tuple[int, ...]
    element: int

    @property
    def forward(self) -> Amount:
        """Multiply-adds of a forward pass."""
        return total(kernel.work for kernel in self.kernels())

    @property
    def backward(self) -> Amount:
        """Multiply-adds of the backward pass."""
        return total(kernel.work for kernel in self.kernels(backward=True))

    @property
    def step(self) -> Amount:
        """Multiply-adds of both."""
        return self.forward + self.backward

    @property
    def moved(self) -> Amount:
        """Bytes read and written by both passes."""
        both = chain(self.kernels(), self.kernels(backward=True))
        return total(kernel.moved for kernel in both)

    @property
    def estimated(self) -> list[str]:
        """The layers whose costs are no sum over nodes and edges: LSTMs over neighbours."""
        placed = (placed for block in self.blocks for placed in block)
        return [own.facts.name for own in placed if not own.facts.is_exact]

    def of_blocks(self, first: int, last: int) -> ModelCosts:
        """The costs of blocks `first` up to `last`, exclusive; the head is the last block."""
        return ModelCosts(
            self.blocks[first:last],
            self.values,
            self.crossings[first : max(first, last - 1)],
            self.parameters[first:last],
            self.element,
        )

    def kernels(self, *, backward: bool = False) -> Iterator[Kernel]:
        """The kernels of a pass, in the order in which they run."""
        phases = [placed.facts for block in self.blocks for placed in block]
        if not backward:
            return (kernel for facts in phases for kernel in facts.forward)
        return (kernel for facts in reversed(phases) for kernel in facts.backward)

    @property
    def once(self) -> list[Kernel]:
        """The kernels that ran before training began."""
        phases = (placed.facts for block in self.blocks for placed in block)
        return [kernel for facts in phases for kernel in facts.once]

    def depth(self, sizes: Sizes) -> int:
        """Operations in a row that a forward pass takes at least, whatever runs beside."""
        return longest(self.kernels(), sizes)

    def depth_backward(self, sizes: Sizes) -> int:
        """The same of the backward pass."""
        return longest(self.kernels(backward=True), sizes)

    @property
    def symbols(self) -> tuple[str, str]:
        """Work and depth of a forward pass in the paper's symbols: "3 mk + 3 nk²"."""
        work: Counter[str] = Counter()
        depth: Counter[str] = Counter()
        for kernel in self.kernels():
            if kernel.symbol is not None and kernel.kind != "rows":
                work[kernel.symbol] += 1
                if not kernel.aside:
                    depth.update(kernel.depth.symbols)
        return in_symbols(work), in_symbols(depth)

    @property
    def gives(self) -> int:
        """The number of what it gives."""
        placed = [placed for block in self.blocks for placed in block]
        return placed[-1].gives if placed else 0

    @property
    def keeps(self) -> Amount:
        """Bytes kept for the backward pass, each value once; features are the batch's."""
        kept: set[int] = set()
        own = []
        for placed in (placed for block in self.blocks for placed in block):
            facts = placed.facts
            own.append(facts.keeps)
            kept |= {
                value
                for value, keeps in zip(placed.takes, facts.keeps_inputs, strict=True)
                if keeps
            }
            if facts.keeps_output:
                kept.add(placed.gives)
        kept.discard(0)
        return total([*own, Amount(node=sum(self.values[value].row for value in kept))])

    @property
    def widest(self) -> int:
        """Columns of the widest values that a phase gives."""
        given = (self.values[placed.gives] for block in self.blocks for placed in block)
        return max((value.width for value in given), default=0)

    def workspace(self, sizes: Sizes) -> float:
        """Most bytes of a step at a time, beside what is kept."""
        most = 0.0
        for placed in (placed for block in self.blocks for placed in block):
            facts = placed.facts
            rows = sum(self.values[v].row for v in (*placed.takes, placed.gives) if v)
            beside = max(facts.workspace.of(sizes), facts.workspace_backward.of(sizes))
            most = max(most, rows * sizes.nodes + beside)
        return most


def longest(kernels: Iterable[Kernel], sizes: Sizes) -> int:
    """The longest chain through kernels of which each waits for those that are not aside."""
    chained = most = 0
    for kernel in kernels:
        end = chained + kernel.depth.of(sizes)
        most = max(most, end)
        if not kernel.aside:
            chained = end
    return most

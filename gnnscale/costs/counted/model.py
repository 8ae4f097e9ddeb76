"""What a model costs: the sum over its blocks, of what they compute, move and keep.

Numbers alone, no torch: `reading.costs_of` makes it of a model and a graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
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
    """A phase in its model.

    Attributes:
        facts: what it costs.
        takes: the numbers of the values that it takes.
        gives: of that which it gives.
        slot: where that stays for later phases; "" where it does not.
    """

    facts: Facts
    takes: tuple[int, ...]
    gives: int
    slot: str = ""


class Crossing(NamedTuple):
    """What goes from a block to the next.

    Attributes:
        values: their numbers.
        forward: bytes of a node's.
        backward: bytes of a node's gradients.
    """

    values: frozenset[int]
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
        carried: bytes of the values of edges and nodes that come with a batch.
    """

    blocks: tuple[tuple[Placed, ...], ...]
    values: tuple[Value, ...]
    crossings: tuple[Crossing, ...]
    parameters: tuple[int, ...]
    element: int
    carried: Amount

    @property
    def placed(self) -> list[Placed]:
        """The phases of all blocks, one after the other."""
        return [placed for block in self.blocks for placed in block]

    @property
    def reads_features(self) -> bool:
        """Whether a phase takes the features."""
        return any(0 in placed.takes for placed in self.placed)

    @property
    def ahead(self) -> int:
        """Columns of what was computed before training, that phases read."""
        return sum(placed.facts.ahead for placed in self.placed)

    @property
    def reads(self) -> list[int]:
        """Columns of the neighbours' rows that a forward pass reads, hop by hop."""
        return [columns for placed in self.placed for columns in placed.facts.reads]

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
        return [own.facts.name for own in self.placed if not own.facts.is_exact]

    def of_blocks(self, first: int, last: int) -> ModelCosts:
        """The costs of blocks `first` up to `last`, exclusive; the head is the last block."""
        return ModelCosts(
            self.blocks[first:last],
            self.values,
            self.crossings[first : max(first, last - 1)],
            self.parameters[first:last],
            self.element,
            self.carried,
        )

    def kernels(self, *, backward: bool = False) -> Iterator[Kernel]:
        """The kernels of a pass, in the order in which they run."""
        phases = [own.facts for own in self.placed]
        if not backward:
            return (kernel for facts in phases for kernel in facts.forward)
        return (kernel for facts in reversed(phases) for kernel in facts.backward)

    @property
    def once(self) -> list[Kernel]:
        """The kernels that ran before training began."""
        return [kernel for own in self.placed for kernel in own.facts.once]

    def depth(self, sizes: Sizes) -> int:
        """Operations in a row that a forward pass takes at least, whatever runs beside."""
        return longest(self.kernels(), sizes)

    def depth_backward(self, sizes: Sizes) -> int:
        """The same of the backward pass, whose sums are over the edges that leave a node too."""
        turned = sizes._replace(degree=max(sizes.degree, sizes.leaving))
        return longest(self.kernels(backward=True), turned)

    @property
    def symbols(self) -> tuple[str, str]:
        """Work and depth of a forward pass in the paper's symbols: "3 mk + 3 nk²"."""
        work: Counter[str] = Counter()
        depth: Counter[str] = Counter()
        for kernel in self.kernels():
            if kernel.symbol is not None:
                work[kernel.symbol] += 1
                if not kernel.aside:
                    depth.update(kernel.depth.symbols)
        return in_symbols(work), in_symbols(depth)

    @property
    def keeps(self) -> Amount:
        """Bytes kept for the backward pass, each value once; features are the batch's."""
        return self.keeps_with(frozenset())

    def keeps_with(self, beside: frozenset[int]) -> Amount:
        """The same with some values that are kept anyway; features only where among them."""
        kept, own = set(beside), []
        for placed in self.placed:
            facts = placed.facts
            own.append(facts.keeps)
            taken = zip(placed.takes, facts.keeps_inputs, strict=True)
            kept |= {value for value, keeps in taken if keeps and value}
            if facts.keeps_output:
                kept.add(placed.gives)
        return total([*own, Amount(node=sum(self.values[value].row for value in kept))])

    def peak(self, sizes: Sizes, *, backward: bool = True) -> float:
        """Most bytes of a step at a time: rows, their gradients, what is kept, and workspace.

        Forward, rows are there until they are read last, or kept; those in slots until the end.
        Backward (left out with `backward=False`), what a phase keeps goes once its gradients are
        made.
        """
        held, every = _Held(self.placed, self.values, sizes), range(len(self.placed))
        there = [0.0, *map(held.forward, every)]
        return max([*there, *map(held.backward, every)] if backward else there)


class _Held:
    """What is there while each phase of a step runs."""

    def __init__(self, placed: list[Placed], values: Sequence[Value], sizes: Sizes) -> None:
        self._placed, self._values, self._sizes = placed, values, sizes
        self._rows = [value.row * sizes.nodes for value in values]
        self._made: dict[int, int] = {}  # by value, the phase that makes it
        self._read: dict[int, int] = {}  # the last one that reads it
        self._kept: dict[int, int] = {}  # the first one that keeps it
        # What a slot holds is there until the end, or until it is read for what comes in its place.
        self._slots = set({own.slot: own.gives for own in placed if own.slot}.values())
        for at, own in enumerate(placed):
            for value, keeps in zip(own.takes, own.facts.keeps_inputs, strict=True):
                self._read[value] = at
                if value:  # what comes from an earlier stage; the features are the batch's
                    self._made.setdefault(value, -1)
                if keeps:
                    self._kept.setdefault(value, at)
            if own.facts.passes is None:
                self._made[own.gives] = at
                if own.facts.keeps_output:
                    self._kept.setdefault(own.gives, at)
        self._last = placed[-1].gives if placed else 0
        self._read[self._last] = len(placed)
        # What phases keep beside values, of the first up to each.
        own_bytes = (own.facts.keeps.of(sizes) for own in placed)
        self._beside = [0.0, *accumulate(own_bytes)]

    def forward(self, at: int) -> float:
        """Bytes while a phase runs forward."""
        there = self._beside[at + 1] + self._placed[at].facts.workspace.of(self._sizes)
        for value, made in self._made.items():
            needed = self._read.get(value, made) >= at or value in self._slots
            if made == at or (made < at and (needed or self._kept.get(value, at) < at)):
                there += self._rows[value]
        return there

    def backward(self, at: int) -> float:
        """Bytes while the gradients of a phase are made, beside those of parameters.

        Of rows that are read twice, the second gradient is added to the first in place.
        """
        own = self._placed[at]
        if own.facts.passes is not None or not own.facts.learns:
            return 0.0
        there = self._beside[at + 1] + own.facts.workspace_backward.of(self._sizes)
        there += sum(self._rows[v] for v, first in self._kept.items() if first <= at and v)
        for value, made in self._made.items():
            begun = value in own.takes or self._read.get(value, -1) > at
            if made <= at and begun and self._values[value].learns:
                there += self._rows[value]
        return there


def longest(kernels: Iterable[Kernel], sizes: Sizes) -> int:
    """The longest chain through kernels of which each waits for those that are not aside."""
    chained = most = 0
    for kernel in kernels:
        end = chained + kernel.depth.of(sizes)
        most = max(most, end)
        if not kernel.aside:
            chained = end
    return most

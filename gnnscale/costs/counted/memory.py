"""What a step has in memory at a time, part by part. Numbers alone, no torch."""

from __future__ import annotations

from typing import NamedTuple

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.facts import INDEX, POINTER
from gnnscale.costs.counted.model import ModelCosts

_LISTED = 24  # bytes of an edge in PyG's form: its source, its target, and the row it is in
_ENTRY = 32  # bytes of an entry of sparse features, with that of their transpose
_VECTORS = 3  # numbers of a node that P has beside the edges


class Memory(NamedTuple):
    """Bytes that a step has at a time, of the rank that has most.

    Attributes:
        parameters: what is learnt.
        gradients: of it.
        optimizer: what the optimizer keeps of every parameter.
        features: of the batch.
        adjacency: of the batch, its weights and degrees with it.
        kept: activations, for the backward pass.
        workspace: rows, their gradients and buffers that come and go, where they are most.
    """

    parameters: float = 0
    gradients: float = 0
    optimizer: float = 0
    features: float = 0
    adjacency: float = 0
    kept: float = 0
    workspace: float = 0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def step_memory(costs: ModelCosts, sizes: Sizes, *, states: int) -> Memory:
    """What a step on such a batch has at a time."""
    parameters, kept = costs.element * sum(costs.parameters), costs.keeps.of(sizes)
    return Memory(
        parameters,
        parameters,
        states * parameters,
        rows_of(costs, sizes),
        structure_of(costs, sizes),
        kept,
        max(0.0, costs.peak(sizes) - kept),
    )


def rows_of(costs: ModelCosts, sizes: Sizes) -> float:
    """Bytes of the rows of a batch: features where they are read, and what was computed before."""
    ahead = costs.element * costs.ahead * sizes.nodes
    if not costs.reads_features:
        return ahead
    features = costs.values[0]
    if features.sparse:
        return ahead + _ENTRY * sizes.entries + POINTER * (sizes.nodes + 1)
    return ahead + features.row * sizes.nodes


def structure_of(costs: ModelCosts, sizes: Sizes) -> float:
    """Bytes of the structure of a batch, of values of edges and nodes, and of the transpose."""
    of_rows = POINTER * (sizes.nodes + 1)
    there = of_rows + INDEX * sizes.edges + costs.carried.of(sizes)
    facts = [placed.facts for placed in costs.placed]
    if any(own.lists_edges for own in facts):
        there += _LISTED * sizes.edges
    back = (kernel for own in facts if not own.lists_edges for kernel in own.backward)
    if sizes.transposed and any(kernel.kind == "sparse" for kernel in back):
        there += of_rows + INDEX * sizes.transposed
    return there + _VECTORS * costs.element * sizes.nodes

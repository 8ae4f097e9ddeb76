"""What an exact inference has at a time: the layer that is read, the one that is written, slots.

It goes through the model's phases as `inference` does: a propagation reads a layer that is there
whole, transformed first where that is narrower; what maps rows is computed in chunks between.
"""

from __future__ import annotations

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.model import ModelCosts, Placed
from gnnscale.costs.inference import default_chunk_rows
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.sizes import CACHED_BYTES
from gnnscale.errors import MemoryBound
from gnnscale.nn import GraphModel
from gnnscale.storage.mapped import is_mapped

_AT_ONCE = 5  # times the rows of a chunk: what it is expected to have, of what it may


def inference(job: Job, configuration: Configuration, held: float = 0.0) -> float:
    """Bytes that an evaluation has at a time, beside its arrays of one or more numbers a node.

    Args:
        job: what is planned for.
        configuration: how it is trained.
        held: bytes that are taken beside it.
    """
    costs, sizes = job.costs(training=False), job.sizes
    if isinstance(job.model, GraphModel):
        chunk = min(1.0, 65536 / max(1.0, sizes.nodes))
        return costs.peak(sizes.share(chunk), backward=False)
    values, bound = costs.values, configuration.memory
    stored = configuration.storage == "files" or is_mapped(job.graph.adj.indices)
    in_files = stored and bound is None and configuration.trainer != "layerwise"
    try:
        budget = job.budget(bound, int(held), in_files=in_files)
    except MemoryBound as refused:  # the run is, too
        return refused.needed - held - job.bytes_of_nodes
    rows = min(sizes.nodes, default_chunk_rows(job.model, job.graph))
    layers = _layers(costs, sizes, rows, budget.piece)
    widest = max([value.row for value in values[1:]], default=0) * sizes.nodes
    chunks = _AT_ONCE * min(CACHED_BYTES, widest)
    if budget.columns is not None:  # layers are in files, and one is read, as much of it as fits
        if bound is None:
            return min(float(budget.columns), widest) + chunks
        return (bound - held - job.bytes_of_nodes) / 2
    if stored and not values[0].sparse:  # the features are read, and stay until the first layer
        first = _layers(costs, sizes, rows, budget.piece, first=True)
        layers = max(layers, values[0].row * sizes.nodes + first)
    return layers + chunks


def _layers(
    costs: ModelCosts, sizes: Sizes, chunk: float, most_of_piece: float, first: bool = False
) -> float:
    """Bytes of layers, slots and pieces where they are most."""
    values, placed = costs.values, costs.placed
    there = most = 0.0  # the layer that is read
    slots: dict[str, float] = {}
    for at, own in enumerate(placed):
        if own.slot and at:
            slots[own.slot] = slots.get(own.slot, 0.0) + values[own.gives].row * sizes.nodes
        if not _reads_whole(own):
            continue
        read = _read(costs, own) * sizes.nodes
        most = max(most, there + read + sum(slots.values()))  # written while the last is read
        piece = 0.0
        if own.facts.lists_edges:
            edges = sizes.edges * chunk / max(1.0, sizes.nodes)
            halo = sizes._replace(nodes=min(sizes.nodes, chunk + edges), edges=edges)
            rows = sum(values[value].row for value in own.takes) + values[own.gives].row
            piece = own.facts.workspace.of(halo) + 24 * edges + rows * halo.nodes
            piece = min(most_of_piece, piece)
        there = read
        if first and own.takes[-1]:
            return most
        most = max(most, there + piece + sum(slots.values()))
    return max(most, there + sum(slots.values()))


def _reads_whole(own: Placed) -> bool:
    return bool(own.facts.reads)


def _read(costs: ModelCosts, own: Placed) -> float:
    """Bytes of a row that is kept for what reads neighbours."""
    facts, value = own.facts, costs.values[own.takes[-1]]
    first = facts.reads[0]
    element = costs.element
    powers = max(0, len(facts.reads) - 1) and 1
    if own.takes[-1] == 0 and not value.sparse and first * element >= value.row:
        return element * first * powers  # the features are the graph's
    beside = (
        element * costs.values[own.gives].width if _has_root(own) and first < value.width else 0
    )
    return element * first * (1 + powers) + beside


def _has_root(own: Placed) -> bool:
    return own.facts.keeps_inputs[-1] or any(kernel.aside for kernel in own.facts.forward)

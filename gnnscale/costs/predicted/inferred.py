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
from gnnscale.nn import GraphModel
from gnnscale.storage.mapped import is_mapped

_CHUNK_COPIES = 5  # of the rows that are computed at once
_OUT_OF_CORE = _PIECE = (
    1 << 30
)  # of what an opaque convolution has on a piece of the graph, at most


def inference(job: Job, configuration: Configuration) -> float:
    """Bytes that an evaluation has at a time."""
    costs, sizes = job.costs(training=False), job.sizes
    if isinstance(job.model, GraphModel):
        chunk = min(1.0, 65536 / max(1.0, sizes.nodes))
        return costs.peak(sizes.share(chunk), backward=False)
    rows = min(sizes.nodes, default_chunk_rows(job.model, job.graph))
    layers = _layers(costs, sizes, rows)
    values = costs.values
    stored = configuration.storage == "files" or is_mapped(job.graph.adj.indices)
    if stored and configuration.memory is None and configuration.trainer != "layerwise":
        # Layers are in files then, and one is read, as many columns of it as fit.
        widest = max([value.row for value in values[1:]], default=0)
        layers = min(float(_OUT_OF_CORE), widest * sizes.nodes)
    elif stored and not values[0].sparse:  # the features are read, and stay until the first layer
        layers = max(layers, values[0].row * sizes.nodes + _layers(costs, sizes, rows, first=True))
    bound = configuration.memory
    chunk = min(
        CACHED_BYTES, max((value.row for value in costs.values[1:]), default=0) * sizes.nodes
    )
    if bound is not None and layers > bound / 2:  # they go to files, a block of columns at a time
        return bound / 2
    return layers + _CHUNK_COPIES * chunk


def _layers(costs: ModelCosts, sizes: Sizes, chunk: float, first: bool = False) -> float:
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
            piece = min(_PIECE, piece)
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

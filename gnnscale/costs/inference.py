"""What of an inference may be in memory at a time, of a bound that is given or of what there is.

Floor, in bytes: the arrays of so many nodes that cannot be cut (`node_arrays`), one column of what
is propagated, the rows that are computed at once, and what the costliest row of an opaque
convolution reads. Everything else is cut until it fits:

    bound = held already + arrays of nodes + rows at once (64 MiB, or a quarter) + the rest
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from gnnscale import comm
from gnnscale.costs.sizes import CACHED_BYTES, most_edges, widest_output
from gnnscale.errors import MemoryBound
from gnnscale.graph import Adjacency, Graph
from gnnscale.nn import LayeredGNN
from gnnscale.nn.blocks.context import computed_in
from gnnscale.nn.blocks.phases import Collect, Propagate, Save, Statistics, opaque_of, slots_of
from gnnscale.nn.convs.matrices import coefficients
from gnnscale.nn.norms import statistics
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.memory import available_memory, in_words, memory_bytes

# Of a graph in a file: whoever keeps it there wants a small process. More is read faster, since the
# adjacency is walked once for every block of columns, but only as long as it is a few.
_OUT_OF_CORE = 1 << 30
_LAYERS = 2  # are there at a time: the one that is read and the one that is written
# Of a chunk, while it is read, computed and written behind: what a block of columns is made of and
# they together, before and behind the transform, and three that are written.
_CHUNK_COPIES = 11
_SMALL_LAYERS = 8  # all activations are in memory where pieces beside them have so much more
_FEWEST_ROWS, _MOST_ROWS = 1024, 1 << 16


class Budget(NamedTuple):
    """What may be in memory at a time, in bytes.

    Attributes:
        columns: of activations that are propagated; None where all activations may be.
        piece: of a piece of an opaque convolution.
        most: of a row of it that cannot be cut.
        chunk: of the widest rows that are computed at once.
        activations: that all activations take, where `columns` is None.
        held: that is taken whatever is cut; None where no bound was given.
    """

    columns: int | None
    piece: int
    most: int
    chunk: int
    activations: int
    held: int | None

    @property
    def is_given(self) -> bool:
        """Whether the bound was given, rather than found."""
        return self.held is not None

    def needed_for(self, piece: int) -> int:
        """The smallest bound that would do for a piece; what the piece takes, of one found."""
        if self.held is None:
            return piece
        rest = piece
        if self.activations <= rest // _SMALL_LAYERS:  # they are then in memory beside it
            rest += self.activations
        return _bound_for(rest, self.held)

    def too_small_for(self, piece: int) -> str:
        """Says what bound would do for a piece, the smallest one."""
        if self.held is None:
            return f"There are {in_words(self.most)}: take a larger machine"
        return f"Give memory={in_words(self.needed_for(piece))!r} or more"


def inference_budget(
    model: LayeredGNN,
    graph: Graph,
    device: torch.device,
    memory: int | str = "auto",
    *,
    in_files: bool = False,
    held: int = 0,
    beside: int = 0,
) -> Budget:
    """What an inference may have in memory at a time.

    Args:
        model: the model.
        graph: the graph.
        device: where activations are kept if not in files.
        memory: bytes, a size such as "1GB", or "auto", which goes by what there is.
        in_files: whether activations are kept in files in any case.
        held: bytes of `memory` that are taken already.
        beside: what is kept in memory where activations are.

    Raises:
        InputError: `memory` is none of these.
        MemoryBound: it is too small for what cannot be cut.
    """
    itemsize = max((p.dtype.itemsize for p in model.parameters()), default=4)
    sparse = not isinstance(graph.x, torch.Tensor)
    widest = max(widest_output(model), 0 if sparse else graph.num_features)
    layer = graph.num_nodes * widest * itemsize
    if memory != "auto":
        taken = held + sum(node_arrays(model, graph).values())
        bound = memory_bytes(memory)
        column = graph.num_nodes * itemsize
        working = min(_CHUNK_COPIES * CACHED_BYTES, (bound - taken) // 4)
        if (rest := bound - taken - working) < column:
            needed = _bound_for(column, taken)
            raise MemoryBound(
                f"memory={memory!r}: {in_words(taken)} are taken by what cannot be cut "
                f"({_listed(model, graph, held)}), and one column of a layer takes "
                f"{in_words(column)}: give memory={in_words(needed)!r} or more",
                needed,
            )
        layers = _layers_at_once(model) * layer + beside
        share = 1 + _SMALL_LAYERS if opaque_of(model.phases) else 1
        in_memory = not in_files and layers <= rest // share
        piece = rest - layers if in_memory else rest
        chunk = max(1, working // _CHUNK_COPIES)
        return Budget(None if in_memory else rest, piece, piece, chunk, layers, taken)
    needed = _LAYERS * layer
    on_device = device.type == "cuda"
    here = available_memory() // comm.ranks_here()
    available = _free_on(device) if on_device else here
    fits = needed <= available // 2
    all_layers = fits and not in_files and (on_device or not is_mapped(graph.adj.indices))
    piece = max(1, min(_OUT_OF_CORE, available // 4))
    at_a_time = None if all_layers else max(1, min(_OUT_OF_CORE, here // 4))
    return Budget(at_a_time, piece, available, CACHED_BYTES, needed, None)


def node_arrays(model: LayeredGNN, graph: Graph) -> dict[str, int]:
    """Bytes of the arrays of one or more numbers a node that an inference holds whole, by name."""
    phases, nodes = _phases(model), graph.num_nodes
    opaque = opaque_of(model.phases)
    whole = [
        phase
        for phase in phases
        if isinstance(phase, Statistics)
        and not phase.row_local_in_evaluation
        and not statistics.mergeable(phase.norm)
    ]
    widest = widest_output(model)
    mapped = is_mapped(graph.adj.indices)
    entry = graph.adj.indices.element_size()
    entry += 0 if graph.adj.values is None else graph.adj.values.element_size()
    batch = graph.node_ptr is not None and any("batch" in phase.given for phase in opaque)
    found = {
        "halos": 8 * nodes if opaque else 0,
        "reach of rows": 40 * nodes if any(phase.hops > 1 for phase in opaque) else 0,
        "graph of every node": 16 * nodes if batch else 0,
        "degrees": coefficient_bytes(model, graph),
        "norms without an exact form in chunks": 3 * 4 * widest * nodes if whole else 0,
        # Read out of a file at once, whatever a chunk is.
        "edges of the largest node": 2 * entry * most_edges(graph.adj) if mapped else 0,
    }
    return {name: size for name, size in found.items() if size}


def coefficient_bytes(model: LayeredGNN, graph: Graph) -> int:
    """Bytes of the coefficients by which a graph is propagated, which stay with its adjacency."""
    matrices = {
        phase.propagation.resolve() for phase in _phases(model) if isinstance(phase, Propagate)
    }
    wide = computed_in(model) or torch.float32
    two = Adjacency(torch.tensor([0, 1, 2]), torch.tensor([0, 1], dtype=torch.int32))
    made = {
        id(value): value.element_size()
        for found in [coefficients(matrix, two, wide) for matrix in matrices]
        for value in found[:3]
        if value is not None
    }
    return graph.num_nodes * sum(made.values())


def default_chunk_rows(model: LayeredGNN, graph: Graph, budget: Budget | None = None) -> int:
    """Rows computed at once: as many as stay in the caches, fewer where the bound asks for it.

    Ranks share rows in whole chunks, and may have bounds of their own: theirs go by size alone.
    """
    # Outputs only: the input may be sparse and very wide, and is then never made dense.
    widest = widest_output(model) or 256
    if isinstance(graph.x, torch.Tensor):
        widest = max(widest, graph.num_features)
    bounded = budget is not None and budget.is_given and comm.world_size() == 1
    size = budget.chunk if bounded and budget is not None else CACHED_BYTES
    fewest = 1 if bounded and size < CACHED_BYTES else _FEWEST_ROWS
    return max(fewest, min(_MOST_ROWS, size // (4 * widest)))


def _bound_for(rest: int, taken: int) -> int:
    return taken + rest + min(_CHUNK_COPIES * CACHED_BYTES, -(-rest // 3))


def _listed(model: LayeredGNN, graph: Graph, held: int) -> str:
    arrays = {**node_arrays(model, graph), **({"what is held already": held} if held else {})}
    return ", ".join(f"{name} {in_words(size)}" for name, size in arrays.items()) or "nothing"


def _layers_at_once(model: LayeredGNN) -> int:
    """Layers that are there at a time: two, with the slots and powers beside them."""
    phases = _phases(model)
    last = {slot: at for at, phase in enumerate(phases) for slot in slots_of(phase)}
    alive: dict[str, int] = {}
    most = powers = 0
    for at, phase in enumerate(phases):
        if isinstance(phase, Save):
            alive[phase.slot] = 1
        elif isinstance(phase, Collect):
            alive[phase.slot] = alive.get(phase.slot, 0) + 1 if phase.mode == "cat" else 1
        elif isinstance(phase, Propagate) and phase.propagation.hops > 1:
            powers = max(powers, phase.propagation.hops)
        most = max(most, sum(alive.values()))
        alive = {slot: count for slot, count in alive.items() if last[slot] > at}
    return _LAYERS + most + powers


def _phases(model: LayeredGNN) -> list[Any]:
    return [phase for block in model.phases for phase in block]


def _free_on(device: torch.device) -> int:
    """Bytes that tensors may take on a GPU: free, or kept by the allocator for the next ones."""
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached

"""How much of a layer may be in memory at a time."""

from __future__ import annotations

import torch

from gnnscale.graph import Graph
from gnnscale.graph.checks import memory_bytes
from gnnscale.graph.mapped import is_mapped
from gnnscale.graph.memory import available_memory
from gnnscale.inference.ranks import ranks_here
from gnnscale.nn import LayeredGNN

# Of a graph in a file: whoever keeps it there wants a small process. More is read faster, since the
# adjacency is walked once for every block of columns, but only as long as it is a few.
_OUT_OF_CORE = 1 << 30
_LAYERS = 2  # are there at a time: the one that is read and the one that is written


def layer_memory(
    model: LayeredGNN,
    graph: Graph,
    device: torch.device,
    memory: int | str = "auto",
    *,
    in_files: bool = False,
) -> int | None:
    """Bytes of a layer that may be in memory at a time; None where all layers may.

    Args:
        model: the model.
        graph: the graph.
        device: where layers are kept if not in files.
        memory: bytes, a size such as "1GB", or "auto".
        in_files: whether layers are kept in files in any case.

    Raises:
        InputError: `memory` is none of these.
    """
    widest = max((p.size(0) for p in model.parameters() if p.dim() > 1), default=0)
    itemsize = max((p.dtype.itemsize for p in model.parameters()), default=4)
    layer = graph.num_nodes * max(widest, graph.num_features if not _sparse(graph) else 0)
    needed = _LAYERS * layer * itemsize
    if memory != "auto":
        bound = memory_bytes(memory)
        return bound if in_files or needed > bound else None
    on_device = device.type == "cuda"
    here = available_memory() // ranks_here()
    available = torch.cuda.mem_get_info(device)[0] if on_device else here
    fits = needed <= available // 2
    if fits and not in_files and (on_device or not is_mapped(graph.adj.indices)):
        return None
    return max(1, min(_OUT_OF_CORE, here // 4))


def _sparse(graph: Graph) -> bool:
    return not isinstance(graph.x, torch.Tensor)

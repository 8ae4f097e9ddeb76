"""How exact inference cuts a graph: chunks of rows, and what an opaque layer reads about one."""

from __future__ import annotations

from typing import NamedTuple

import torch

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.inference import default_chunk_rows
from gnnscale.graph import Graph
from gnnscale.nn import GraphModel, LayeredGNN
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.nn.blocks.reach import halo


class EvaluatedChunks(NamedTuple):
    """The chunks of an exact evaluation.

    Attributes:
        number: how many.
        sizes: of one, in the mean.
        around: what an opaque convolution of most hops runs on for one: the nodes within its
            reach and the edges among them; the chunk itself where there is none.
    """

    number: float
    sizes: Sizes
    around: Sizes


def evaluated_chunks(model: LayeredGNN | GraphModel, graph: Graph, whole: Sizes) -> EvaluatedChunks:
    """The chunks by which a model is evaluated; halos are looked at about one of them.

    Args:
        model: the model.
        graph: the graph.
        whole: its sizes.
    """
    nodes = max(1, graph.num_nodes)
    if isinstance(model, GraphModel):
        return EvaluatedChunks(1, whole, whole)
    rows = min(nodes, default_chunk_rows(model, graph))
    sizes = whole.share(rows / nodes)
    hops = max((phase.hops for phase in opaque_of(model.phases)), default=0)
    around = sizes
    if hops and rows < nodes:
        start = (nodes - rows) // 2
        found = halo(graph.adj, torch.arange(start, start + rows), hops)
        edges = float(found.edges.numel())
        around = sizes._replace(nodes=float(found.nodes.numel()), edges=edges)
    return EvaluatedChunks(nodes / rows, sizes, around)

"""What is within the reach of some rows: the halo that an opaque convolution is run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR
from gnnscale.nn.blocks.phases import Neighbourhood


class Halo(NamedTuple):
    """Some rows with everything within some hops of them, renumbered, the rows first.

    Attributes:
        nodes: int64 `[num_local]`, ids in the graph.
        edge_index: int64 `[2, num_local_edges]` in local ids.
        edges: int64 `[num_local_edges]`, positions in the graph's CSR.
    """

    nodes: Tensor
    edge_index: Tensor
    edges: Tensor


@overload
def halo(adj: CSR, rows: Tensor, hops: int, local: Tensor | None = None) -> Halo: ...
@overload
def halo(
    adj: CSR, rows: Tensor, hops: int, local: Tensor | None = None, *, most: int
) -> Halo | None: ...
def halo(
    adj: CSR, rows: Tensor, hops: int, local: Tensor | None = None, *, most: int | None = None
) -> Halo | None:
    """All nodes within `hops` of `rows`, with all edges that arrive within `hops` − 1.

    Args:
        adj: the whole graph.
        rows: int64 `[num_rows]`, distinct.
        hops: at least 1.
        local: scratch, int64 `[num_nodes]` filled with −1; restored before returning.
        most: edges that it may have; None is returned where it has more, before they are gathered.
    """
    if local is None:
        local = torch.full((adj.shape[0],), -1, device=adj.device)
    nodes, frontier, targets, sources, positions = rows, rows, [], [], []
    local[rows] = torch.arange(rows.numel(), device=adj.device)
    room = most
    for _ in range(hops):
        if room is not None:
            room -= int((adj.indptr[frontier + 1] - adj.indptr[frontier]).sum())
            if room < 0:
                local[nodes] = -1
                return None
        indptr, at = adj.row_positions(frontier)
        source = adj.indices[at].long()
        targets.append(torch.repeat_interleave(local[frontier], indptr.diff()))
        sources.append(source)
        positions.append(at)
        fresh = source[local[source] < 0].unique()
        local[fresh] = torch.arange(nodes.numel(), nodes.numel() + fresh.numel(), device=adj.device)
        nodes, frontier = torch.cat([nodes, fresh]), fresh
    edge_index = torch.stack([local[torch.cat(sources)], torch.cat(targets)])
    local[nodes] = -1
    return Halo(nodes, edge_index, torch.cat(positions))


@torch.no_grad()
def run_on_halo(
    phase: Neighbourhood,
    x: Tensor,
    around: Halo,
    carried: Mapping[str, Tensor],
    beside: Sequence[Tensor] = (),
) -> Tensor:
    """Run an opaque convolution on a halo, on the device of `x`.

    Args:
        phase: the convolution as a phase.
        x: the rows of `around.nodes`.
        around: the halo.
        carried: by name, values of all the graph's edges and nodes.
        beside: the rows of `around.nodes` of the slots that it takes.
    """
    of_halo = {
        name: carried[name][around.edges if name in EDGE_VALUES else around.nodes].to(x.device)
        for name in carried.keys() & phase.given
    }
    return phase.run(x, around.edge_index.to(x.device), of_halo, beside)

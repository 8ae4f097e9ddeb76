"""How far an opaque convolution reaches: its halo, and the check that it is wide enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from gnnscale.errors import InexactConvolution
from gnnscale.graph import Adjacency
from gnnscale.graph.graph import EDGE_VALUES
from gnnscale.graph.row_blocks import release_all
from gnnscale.kernels import CSR
from gnnscale.nn.modes import evaluation_mode
from gnnscale.nn.phases import Neighbourhood
from gnnscale.nn.pyg_convs import is_norm
from gnnscale.nn.registry import needs_symmetry

_CHECKED_ROWS = 64
_TOLERANCE = 1e-3  # float32 noise of a convolution is 1e-6; a missing degree is of order 1


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


@torch.no_grad()
def check_reach(
    phase: Neighbourhood,
    width: int,
    adj: Adjacency,
    carried: Mapping[str, Tensor] | None = None,
    *,
    beside: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> None:
    """Compare an opaque convolution's output at its declared reach and one hop further.

    64 random rows (of a small graph a quarter, lest they reach all of it), random input; the module
    is in evaluation mode meanwhile.

    Args:
        phase: the convolution as a phase.
        width: its input channels.
        adj: the whole graph.
        carried: values of its edges and nodes, by name: `Graph.carried`; None: weights of `adj`.
        beside: channels of the slots that it takes.
        device: where the module is.

    Raises:
        InexactConvolution: they differ, so inference in chunks would be silently wrong; or the
            convolution reads out-degrees and the graph is directed.
    """
    name = type(phase.module).__name__
    # Weights may differ: the reverse of an edge only has to be there to lead to it.
    if needs_symmetry(phase.module) and not Adjacency(adj.indptr, adj.indices).symmetric:
        raise InexactConvolution(
            f"{name} depends on the edges that leave a node (its out-degree), which no halo of "
            "incoming edges holds on a directed graph; inference in chunks would be silently "
            "wrong. Make the graph undirected, or use a convolution that reads incoming edges only"
        )
    if carried is None:
        carried = {} if adj.values is None else {"edge_weight": adj.values}
    generator = torch.Generator().manual_seed(0)
    count = min(_CHECKED_ROWS, -(-adj.num_nodes // 4))
    rows = torch.randperm(adj.num_nodes, generator=generator)[:count].to(adj.device)
    dtype = next((p.dtype for p in phase.module.parameters()), torch.float32)
    near_halo, far_halo = halo(adj, rows, phase.hops), halo(adj, rows, phase.hops + 1)
    inputs = [
        torch.randn(far_halo.nodes.numel(), channels, generator=generator).to(device, dtype)
        for channels in (width, *beside)
    ]
    place = torch.full((adj.num_nodes,), -1, device=adj.device)
    place[far_halo.nodes] = torch.arange(far_halo.nodes.numel(), device=adj.device)
    with evaluation_mode(phase.module):
        near, far = (
            run_on_halo(phase, x, around, carried, slots)[:count].float()
            for around in (near_halo, far_halo)
            for x, *slots in [[values[place[around.nodes].to(device)] for values in inputs]]
        )
    release_all(adj, *carried.values())
    scale = far.abs().max().clamp(min=1e-12)
    error = float((near - far).abs().max() / scale) if near.numel() else 0.0
    if not error <= _TOLERANCE:
        remedy = f"Declare its reach: gs.nn.register({name}, hops={phase.hops + 1}), or more"
        if any(is_norm(module) for module in phase.module.modules()):
            remedy += "; or take the norm out of it and make it the norm of a Block"
        raise InexactConvolution(
            f"{name} is taken to reach {phase.hops} hop(s), but its output changes by {error:.1%} "
            f"when one more is given; inference in chunks would be silently wrong. {remedy}"
        )

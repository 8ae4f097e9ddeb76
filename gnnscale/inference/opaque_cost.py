"""What an opaque convolution takes in memory on a piece of a graph, in bytes.

A layer keeps some bytes a node and some an edge at every moment t of its run, a_t·n + b_t·e, and
its peak is the greatest of these sums over t. With n nodes and e ≥ n edges it is therefore at most

    peak(n, n) + peak(0, e − n) = pair·n + edge·(e − n),

where `pair` is the growth of the peak on a ring, by a node with an edge, and `edge` its growth by
edges alone. Both are measured, by counting what the layer allocates on two small graphs of each
kind, so that nothing is assumed of its messages, its heads or how often it copies them. On the star
that breaks a bound first, n = e + 1, the estimate is what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gnnscale.costs.peak import PeakBytes
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.nn.blocks.phases import Neighbourhood

# Over what is counted: workspace within torch's operations, and what the heap fragments. Measured
# on a star of 4·10⁵ nodes: PNA 1.35, Transformer 1.05, GAT, GATv2, GEN, EdgeConv, SAGE 0.8 to 1.1.
_MARGIN = 1.5
_HALO_NODE, _HALO_EDGE = 48, 88  # while a halo is gathered: int64 ids, sorted once
_KEPT_NODE, _KEPT_EDGE = 8, 24  # of a halo while the layer runs on it
_PROBED = (128, 256)  # nodes of rings, and edges among few nodes
_FEW = 8


class Cost(NamedTuple):
    """Bytes that a piece takes, see above.

    Attributes:
        pair: of the layer, by a node with an edge.
        edge: of the layer, by one more edge.
        node_input: of what it reads, by node.
        edge_input: of what it reads, by edge.
    """

    pair: float
    edge: float
    node_input: int
    edge_input: int

    def counted(self, nodes: int, edges: int) -> float:
        """What `PeakBytes` is expected to count while rows are gathered and the layer runs."""
        layer = self.pair * nodes + self.edge * max(0, edges - nodes)
        return self.node_input * nodes + self.edge_input * edges + layer

    def of(self, nodes: int, edges: int) -> int:
        """Bytes of a piece with its halo."""
        gathering = _HALO_NODE * nodes + _HALO_EDGE * edges
        return int(max(gathering, _MARGIN * self.counted(nodes, edges)))

    def edges_within(self, room: int) -> int:
        """The most edges that a piece may have, whatever its nodes."""
        return int(room / max(_HALO_EDGE, _MARGIN * (self.edge_input + self.edge)))

    def corrected(self, nodes: int, edges: int, counted: int) -> Cost:
        """The cost after a run that took more than this says."""
        more = counted / max(self.counted(nodes, edges), 1.0)
        return self if more <= 1 else self._replace(pair=self.pair * more, edge=self.edge * more)


def gathering_cost() -> Cost:
    """Of the halo alone: for pieces so small that the layer is not worth measuring."""
    return Cost(0.0, 0.0, _KEPT_NODE, _KEPT_EDGE)


@torch.no_grad()
def measure(
    phase: Neighbourhood,
    widths: Sequence[int],
    dtype: torch.dtype,
    carried: Mapping[str, Tensor],
    device: torch.device,
) -> Cost:
    """Measure a convolution in evaluation mode.

    Args:
        phase: the convolution as a phase.
        widths: columns of its input, and of each slot that it takes.
        dtype: of these.
        carried: values of the graph's edges and nodes, by name, as it is given them; not empty.
        device: where it is.
    """
    on_ring, on_few = (
        [_peak(phase, _graph(n, e), n, widths, dtype, carried, device) for n, e in sizes]
        for sizes in ([(n, n) for n in _PROBED], [(_FEW, e) for e in _PROBED])
    )
    step = _PROBED[1] - _PROBED[0]
    # Gathered from a file, rows are there twice: in the order of the file, and in the halo's.
    of_nodes, of_edges = 2 * sum(widths) * dtype.itemsize + _KEPT_NODE, _KEPT_EDGE
    for name, value in carried.items():
        row = value[:1].numel() * value.element_size()
        if name in EDGE_VALUES:
            of_edges += row
        else:
            of_nodes += row
    edge = max(0.0, (on_few[1] - on_few[0]) / step)
    return Cost(max(edge, (on_ring[1] - on_ring[0]) / step), edge, of_nodes, of_edges)


def _graph(nodes: int, edges: int) -> Tensor:
    """As many edges at every node."""
    each = torch.arange(edges)
    return torch.stack([(each + 1 + each // nodes) % nodes, each % nodes])


def _peak(
    phase: Neighbourhood,
    edge_index: Tensor,
    nodes: int,
    widths: Sequence[int],
    dtype: torch.dtype,
    carried: Mapping[str, Tensor],
    device: torch.device,
) -> int:
    x, *beside = (torch.ones(nodes, width, dtype=dtype, device=device) for width in widths)
    values = {}
    for name, value in carried.items():
        count = edge_index.size(1) if name in EDGE_VALUES else nodes
        some = torch.arange(count, device=value.device) % value.size(0)
        values[name] = value[some].to(device)
    edge_index = edge_index.to(device)
    with PeakBytes() as counted:
        phase.run(x, edge_index, values, beside)
    return counted.peak

"""How many neighbours nodes have: the middle, the tail, hubs, and nodes without any."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.statistics.called import Called

_HUBS = 3
_TAIL = 100  # a one-in-so-many of the nodes is the tail


@dataclass(frozen=True, eq=False)
class Degrees:
    """In-degrees, as message passing sees them; of an undirected graph, the degrees.

    Attributes:
        mean: directed edges a node.
        median: of the in-degrees.
        greatest: the greatest in-degree.
        greatest_out: the greatest out-degree; None where every edge goes both ways.
        hubs: the nodes of the greatest in-degrees, with these.
        tail: share of the edges that arrive at the hundredth of the nodes with most.
        isolated: nodes that no edge arrives at or leaves, self-loops aside.
        self_loops: edges from a node to itself.
        values: int64, the in-degrees that occur, ascending.
        counts: int64, how many nodes have each.
    """

    mean: float
    median: float
    greatest: int
    greatest_out: int | None
    hubs: tuple[tuple[int, int], ...]
    tail: float
    isolated: int
    self_loops: int
    values: Tensor
    counts: Tensor

    def words(self, called: Called) -> dict[str, str]:
        """It in sentences, by what they are about."""
        out = "" if self.greatest_out is None else f" (out {self.greatest_out:,})"
        text = (
            f"mean {self.mean:.2f}, median {self.median:g}, greatest {self.greatest:,}{out}, "
            f"{self.isolated:,} isolated nodes"
        )
        if self.self_loops:
            text += f", {self.self_loops:,} self-loops"
        lines = {"degrees (in)": text}
        if self.hubs and self.greatest > 10 * max(self.median, 1):
            named = ", ".join(f"{called.node(node)} ({degree:,})" for node, degree in self.hubs)
            lines["hubs"] = (
                f"{self.tail:.1%} of the edges arrive at 1 % of the nodes; the greatest: {named}"
            )
        return lines


def degrees(graph: Graph) -> Degrees | None:
    """Measure them, in one pass over the edges; None without nodes."""
    if not graph.num_nodes:
        return None
    arriving = graph.adj.in_degree()
    directed = not graph.adj.symmetric
    leaving = torch.zeros(graph.num_nodes if directed else 0, dtype=torch.int64)
    touched = torch.zeros(graph.num_nodes, dtype=torch.bool)
    loops = 0
    for start, _, rows in row_blocks(graph.adj):
        target, source = start + rows.row_index, rows.indices.long()
        joined = target != source
        loops += joined.numel() - int(joined.sum())
        touched[target[joined]] = True
        if directed:
            touched[source[joined]] = True
            leaving.scatter_add_(0, source, torch.ones_like(source))
    values, counts = arriving.unique(return_counts=True)
    top = arriving.topk(min(_HUBS, graph.num_nodes))
    few = max(1, round(graph.num_nodes / _TAIL))
    tail = int(arriving.topk(few).values.sum()) / max(graph.num_edges, 1)
    middle = torch.searchsorted(counts.cumsum(0), (graph.num_nodes + 1) // 2)
    return Degrees(
        mean=graph.num_edges / graph.num_nodes,
        median=float(values[middle]),
        greatest=int(values[-1]),
        greatest_out=int(leaving.max()) if directed else None,
        hubs=tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)),
        tail=tail,
        isolated=int((~touched).sum()),
        self_loops=loops,
        values=values,
        counts=counts,
    )

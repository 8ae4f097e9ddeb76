"""Small graphs that a layer is tried on, and what is done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gnnscale.graph import Adjacency
from gnnscale.graph.adjacency import EDGE_VALUES
from gnnscale.kernels import CSR
from gnnscale.nn.blocks.reach import halo

_SAMPLED = 256  # values of the graph that others are drawn from
_MOST_EDGES = 1 << 18  # of a piece of the user's graph, times channels: 2 MB in float64
_MOST_NODES = 10_000
_MOST_ROUNDS = 24  # each takes what arrives, or new nodes, twice as many as before


@dataclass(frozen=True)
class Probe:
    """A graph as a layer sees it.

    Attributes:
        rows: of every value that the layer takes by node, `[num_nodes, channels]`: x, then slots.
        edge_index: int64 `[2, num_edges]`, sorted by targets.
        carried: values of edges and nodes, by name.
    """

    rows: list[Tensor]
    edge_index: Tensor
    carried: dict[str, Tensor]

    @property
    def num_nodes(self) -> int:
        """Nodes of the probe."""
        return self.rows[0].size(0)

    def renumbered(self, order: Tensor) -> Probe:
        """The node `order[i]` becomes node i."""
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel())
        edge_index = place[self.edge_index]
        return self._with_edges(edge_index[1].argsort(stable=True), edge_index, order)

    def reordered(self) -> Probe:
        """The edges that arrive at a node with the highest sources first.

        Parallel ones stay in order: a graph keeps it, and of parallel loops PyG takes the last.
        """
        source, target = self.edge_index
        return self._with_edges((target * self.num_nodes - source).argsort(stable=True))

    def tied(self) -> Probe:
        """With rows as a ReLU leaves them: many are equal in a channel."""
        return replace(self, rows=[x.relu() for x in self.rows])

    def around(self, rows: Tensor, hops: int) -> Probe:
        """What is within some hops of some nodes, which come first."""
        targets = self.edge_index[1].contiguous()
        indptr = torch.searchsorted(targets, torch.arange(self.num_nodes + 1))
        near = halo(Adjacency(indptr, self.edge_index[0].contiguous()), rows, hops)
        return self._with_edges(near.edges, torch.empty(0), near.nodes, near.edge_index)

    def beside(self, *others: Probe) -> Probe:
        """Graphs side by side, this one first."""
        probes = [self, *others]
        starts = torch.tensor([0, *(probe.num_nodes for probe in probes)]).cumsum(0)
        carried = {
            name: torch.cat([probe.carried[name] for probe in probes]) for name in self.carried
        }
        if "batch" in carried:
            sizes = torch.tensor([probe.num_nodes for probe in probes])
            carried["batch"] = torch.repeat_interleave(torch.arange(len(probes)), sizes)
        pairs = zip(probes, starts, strict=False)
        return Probe(
            [torch.cat(parts) for parts in zip(*(probe.rows for probe in probes), strict=True)],
            torch.cat([probe.edge_index + start for probe, start in pairs], dim=1),
            carried,
        )

    def _with_edges(
        self,
        edges: Tensor,
        edge_index: Tensor | None = None,
        nodes: Tensor | None = None,
        taken: Tensor | None = None,
    ) -> Probe:
        if taken is None:
            taken = (self.edge_index if edge_index is None else edge_index)[:, edges]
        if nodes is None:
            nodes = torch.arange(self.num_nodes)
        carried = {
            name: value[edges if name in EDGE_VALUES else nodes]
            for name, value in self.carried.items()
        }
        return Probe([x[nodes] for x in self.rows], taken, carried)


@dataclass(frozen=True)
class Values:
    """Where values of nodes and edges are drawn from.

    Attributes:
        widths: channels of x and of the slots.
        examples: some values that the user's graph carries, by name.
        rows: some rows of x and of the slots, where a layer takes no others (ids to look up).
        dtype: of rows.
        generator: what draws.
    """

    widths: Sequence[int]
    examples: Mapping[str, Tensor]
    rows: Sequence[Tensor] | None
    dtype: torch.dtype
    generator: torch.Generator

    def probe(
        self, num_nodes: int, edges: Tensor, *, scale: float = 1.0, shift: float = 0.0
    ) -> Probe:
        """A graph of these edges, its rows normal around `shift` or drawn from the user's."""
        edges = edges[:, (edges[1] * num_nodes + edges[0]).argsort(stable=True)]
        rows = [
            shift + scale * torch.randn(num_nodes, width, generator=self.generator)
            for width in self.widths
        ]
        if self.rows is not None:
            chosen = torch.randint(self.rows[0].size(0), (num_nodes,), generator=self.generator)
            rows = [values[chosen] for values in self.rows]
        carried = {
            name: self._drawn(name, edges.size(1) if name in EDGE_VALUES else num_nodes)
            for name in self.examples
        }
        cast = [x.to(self.dtype) if x.is_floating_point() else x for x in rows]
        return Probe(cast, edges, carried)

    def _drawn(self, name: str, count: int) -> Tensor:
        examples = self.examples[name]
        if name == "batch":
            return torch.zeros(count, dtype=torch.int64)
        if not examples.size(0):
            return examples.new_zeros(count, *examples.shape[1:])
        drawn = examples[torch.randint(examples.size(0), (count,), generator=self.generator)]
        if not drawn.is_floating_point():
            return drawn
        # Others than the graph's, which may be all alike, and in the range of those.
        shape = (count, *[1] * (drawn.dim() - 1))
        return drawn.to(self.dtype) * (0.5 + 0.5 * torch.rand(shape, generator=self.generator))


def examples_of(carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Some of the values that a graph carries, on the CPU."""
    found = {}
    for name, value in carried.items():
        step = max(1, value.size(0) // _SAMPLED)
        found[name] = value[::step][:_SAMPLED].cpu()
    return found


def circle(values: Values, size: int, *, symmetric: bool, rough: bool) -> Probe:
    """A ring with some chords; a rough one has leaves, loops, duplicates and single nodes, too."""
    ring = torch.arange(size)
    chords = ring[::5]
    pairs = [
        torch.stack([ring, (ring + 1) % size]),
        torch.stack([chords, (chords + 2) % size]),
    ]
    count = size
    if rough:
        leaves = torch.arange(size, size + 3)  # edges arrive, and leave only where symmetric
        pairs.append(torch.stack([ring[:9], leaves.repeat(3)]))
        pairs.append(torch.stack([leaves.flip(0), ring[3:6]]))
        count = size + 5
    edges = torch.cat(pairs, dim=1)
    if symmetric:
        edges = torch.cat([edges, edges.flip(0)], dim=1)
    if rough:
        edges = torch.cat([edges, edges[:, :2], ring[1:3].expand(2, -1)], dim=1)
    if rough and symmetric:
        edges = torch.cat([edges, edges[:, :2].flip(0)], dim=1)
    return values.probe(count, edges)


def piece_of(values: Values, adj: CSR, carried: Mapping[str, Tensor]) -> Probe:
    """A piece of the user's graph: nodes, and the edges among them, not too many.

    It grows from some nodes along the edges that arrive, and from others where no more arrive: a
    layer may read all rows only where there are many.
    """
    most = max(64, min(_MOST_EDGES // max(1, *values.widths), 10 * _MOST_NODES))
    most_nodes = min(_MOST_NODES, most)
    generator = torch.Generator().manual_seed(0)
    known = nodes = found = fresh = torch.empty(0, dtype=torch.int64, device=adj.device)
    edges, starts = 0, 8
    for _ in range(_MOST_ROUNDS):
        if not fresh.numel():
            drawn = torch.randint(adj.shape[0], (starts,), generator=generator).unique()
            fresh = drawn.to(adj.device)
            fresh = fresh[~torch.isin(fresh, known)]
            known, starts = torch.cat([known, fresh]), min(2 * starts, most_nodes)
        degrees = adj.indptr[fresh + 1] - adj.indptr[fresh]
        fresh = fresh[degrees <= most // 4]
        counts = (adj.indptr[fresh + 1] - adj.indptr[fresh]).cumsum(0)
        fresh = fresh[counts <= most - edges][: most_nodes - nodes.numel()]
        _, at = adj.row_positions(fresh)
        nodes, found, edges = torch.cat([nodes, fresh]), torch.cat([found, at]), edges + at.numel()
        sources = adj.indices[at].long().unique()
        fresh = sources[~torch.isin(sources, known)]
        known = torch.cat([known, fresh])
    nodes, found = nodes.sort().values.cpu(), found.sort().values
    sources = adj.indices[found].long().cpu()
    targets = torch.searchsorted(adj.indptr, found, right=True).cpu() - 1
    inside = torch.isin(sources, nodes)
    place = torch.searchsorted(nodes, torch.stack([sources[inside], targets[inside]]))
    probe = values.probe(nodes.numel(), place)
    found = found[inside.to(found.device)]
    own = {
        name: value[found if name in EDGE_VALUES else nodes.to(value.device)].cpu()
        for name, value in carried.items()
        if name != "batch"
    }
    cast = {k: v.to(values.dtype) if v.is_floating_point() else v for k, v in own.items()}
    return Probe(probe.rows, probe.edge_index, {**probe.carried, **cast})

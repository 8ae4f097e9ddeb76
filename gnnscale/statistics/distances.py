"""How far apart nodes are: components, and how many hops lie between its nodes.

Both read the rows in blocks and hold some 20 bytes a node. Edges are taken both ways.

Components are found by union-find. Distances are counted from a sample of nodes, 64 of them at
once, one bit each of a word a node: a sweep over all edges is a hop for all of them. The effective
diameter is the number of hops within which 90 % of the pairs lie that a path joins, interpolated
between whole hops as in Leskovec, Kleinberg and Faloutsos, "Graphs over Time", KDD 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gnnscale.graph import Graph
from gnnscale.graph.adjacency import row_blocks
from gnnscale.kernels import njit_serial
from gnnscale.statistics.called import Called

SAMPLE = 64  # nodes that distances are counted from: the bits of a word
_SHARE = 0.9  # of the pairs lie within the effective diameter
_HOPS = 100  # looked at; no model goes that far


@dataclass(frozen=True)
class Distances:
    """Components and distances.

    Attributes:
        components: how many, isolated nodes among them.
        greatest: share of the nodes in the greatest of them.
        diameter: the effective diameter in hops; None where no edge joins two nodes, or it is more
            than 100.
        within: of all nodes, the mean share that lies within 0, 1, 2, … hops of a node.
        sample: how many nodes distances were counted from; all of them where the graph is small.
        far: whether the effective diameter is more than 100 hops.
    """

    components: int
    greatest: float
    diameter: float | None
    within: tuple[float, ...]
    sample: int
    far: bool

    def words(self, called: Called, several: bool) -> dict[str, str]:
        """It in sentences, by what they are about.

        Args:
            called: names.
            several: whether the graph is several.
        """
        one = self.components == 1
        lines = {
            "components": "1: a path joins any two nodes"
            if one
            else f"{self.components:,}, the greatest with {self.greatest:.1%} of the nodes"
        }
        of = "" if self.sample == called.graph.num_nodes else f", from a sample of {self.sample}"
        if self.far:
            lines["effective diameter"] = f"more than {_HOPS} hops{of}"
        elif self.diameter is not None:
            near = ", ".join(
                f"{hops} hop{'s' * (hops > 1)} {self.within[hops]:.1%}"
                for hops in self._shown(several)
            )
            lines["effective diameter"] = (
                f"{self.diameter:.1f} hops, which join 90 % of the connected pairs{of}"
            )
            if near:
                lines["within"] = (
                    f"{near} of the nodes: what a model of as many layers reads for one"
                )
        return lines

    def _shown(self, several: bool) -> range:
        """The numbers of hops that are told of: of several graphs none, whose sizes decide."""
        return range(1, 1 if several else min(4, len(self.within)))


def distances(graph: Graph) -> Distances | None:
    """Measure it, in some passes over the edges; None without nodes."""
    count = graph.num_nodes
    if not count:
        return None
    component = _components(graph)
    sizes = torch.bincount(component)
    sizes = sizes[sizes > 0]
    sample = min(SAMPLE, count)
    sources = np.sort(np.random.default_rng(0).choice(count, sample, replace=False))
    reached = torch.bincount(component)[component[torch.from_numpy(sources)]]
    pairs = int(reached.sum()) - sample
    found = _hops(graph, sources, pairs)
    wanted = _SHARE * pairs
    far = found[-1] < wanted
    diameter = None
    if pairs and not far:
        hop = next(h for h, done in enumerate(found) if done >= wanted)
        before = found[hop - 1]
        diameter = hop - 1 + (wanted - before) / (found[hop] - before)
    return Distances(
        components=sizes.numel(),
        greatest=float(sizes.max()) / count,
        diameter=diameter,
        within=tuple((done + sample) / (sample * count) for done in found),
        sample=sample,
        far=far,
    )


def _components(graph: Graph) -> Tensor:
    """int64 `[num_nodes]`: the least node that a path joins to each."""
    parent = np.arange(graph.num_nodes)
    for start, _, rows in row_blocks(graph.adj):
        _join(parent, rows.indptr.numpy(), rows.indices.numpy(), start)
    _settle(parent)
    return torch.from_numpy(parent)


def _hops(graph: Graph, sources: np.ndarray, pairs: int) -> list[int]:
    """How many pairs of a source and another node lie within 0, 1, 2, … hops."""
    both = not graph.adj.symmetric
    seen = np.zeros(graph.num_nodes, np.uint64)
    seen[sources] = np.uint64(1) << np.arange(len(sources), dtype=np.uint64)
    whole = np.bitwise_or.reduce(seen)
    found = [0]
    while found[-1] < pairs and len(found) <= _HOPS:
        after = seen.copy()
        for start, _, rows in row_blocks(graph.adj):
            _sweep(seen, after, rows.indptr.numpy(), rows.indices.numpy(), start, both, whole)
        found.append(_ones(after) - len(sources))
        seen = after
        if found[-1] >= _SHARE * pairs and len(found) > 3:
            break  # what is told of is known
    return found


@njit_serial
def _root(parent, node):
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit_serial
def _join(parent, indptr, indices, start):
    """Bring the ends of every edge under one root, the lesser node."""
    for row in range(len(indptr) - 1):
        a = _root(parent, start + row)
        for entry in range(indptr[row], indptr[row + 1]):
            b = _root(parent, indices[entry])
            if a < b:
                parent[b] = a
            elif b < a:
                parent[a] = b
                a = b


@njit_serial
def _settle(parent):
    for node in range(len(parent)):
        parent[node] = parent[parent[node]]  # a root is less than what is under it


@njit_serial
def _sweep(seen, after, indptr, indices, start, both, whole):
    """A hop along every edge, both ways where that is not among the edges."""
    for row in range(len(indptr) - 1):
        node = start + row
        own = seen[node]
        if not both and own == whole:
            continue
        word = after[node]
        for entry in range(indptr[row], indptr[row + 1]):
            word |= seen[indices[entry]]
            if both:
                after[indices[entry]] |= own
        after[node] |= word


@njit_serial
def _ones(words):
    """How many bits are set; `numpy.bitwise_count` came with NumPy 2."""
    count = 0
    for word in words:
        while word:
            word &= word - np.uint64(1)
            count += 1
    return count

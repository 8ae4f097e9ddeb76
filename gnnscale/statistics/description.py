"""`describe`: what is worth knowing of a graph before anything is trained on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import torch
from typing_extensions import override

from gnnscale.choices import choices_checked
from gnnscale.costs.sizes import Seen, choose_sizes
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, Partition
from gnnscale.partitioning import partition
from gnnscale.statistics import sizes
from gnnscale.statistics.called import Called
from gnnscale.statistics.degrees import Degrees, degrees
from gnnscale.statistics.distances import Distances, distances
from gnnscale.statistics.homophily import Assortativity, Homophily, homophily
from gnnscale.statistics.leaks import Leak, find_leaks
from gnnscale.statistics.picture import draw
from gnnscale.statistics.signal import Signal, probe

#: Directed edges up to which a graph is partitioned without being asked to: some seconds.
CUT_AT_MOST = 1_000_000
_SPLITS = 3  # of which the sizes are told
_HIDDEN = 128  # channels of the model that a number of parts is chosen for


class Cut(NamedTuple):
    """What clusters cost a graph.

    Attributes:
        share: of the edges, those between clusters.
        parts: how many clusters.
        method: what made them.
        chosen: whether it is what `ClusterTrainer` would choose; else the graph comes in them.
    """

    share: float
    parts: int
    method: str
    chosen: bool


@dataclass(frozen=True)
class Description:
    """What `describe` found; printed, it is sentences.

    Attributes:
        data: the graph, or its clusters.
        degrees: how many neighbours nodes have; None without nodes.
        distances: components and distances; None without nodes.
        homophily: `Homophily` of classes, `Assortativity` of several labels or quantities a node;
            None where nodes have no labels, or no edge joins two that have.
        cut: share of the edges that clusters cut, None where that was not measured.
        signal: what probes tell; None where that was not asked for, or there is nothing to probe.
        leaks: what a model could cheat with; None where that was not asked for.
        notes: what was asked for and could not be measured, and why.
    """

    data: Graph | ClusteredGraph
    degrees: Degrees | None
    distances: Distances | None
    homophily: Homophily | Assortativity | None
    cut: Cut | None
    signal: Signal | None = None
    leaks: tuple[Leak, ...] | None = None
    notes: tuple[str, ...] = ()

    def words(self) -> dict[str, str]:
        """It in sentences, by what they are about."""
        called = Called(self.data)
        graph = called.graph
        several = graph.num_graphs > 1
        lines: dict[str, str | None] = {
            "nodes": f"{graph.num_nodes:,}" + (f" in {graph.num_graphs:,} graphs" * several),
            "graphs": sizes.graphs(graph),
            "directed edges": f"{graph.num_edges:,}, {sizes.symmetry(graph)}",
        }
        if self.degrees is not None:
            lines |= self.degrees.words(called)
        if self.distances is not None:
            lines |= self.distances.words(called, several)
        lines["edge cut"] = self._cut()
        lines |= {
            "features": sizes.features(graph),
            "task": None if graph.y is None else f"{graph.task} of {graph.y_level}s",
            "labels": sizes.labels(called),
        }
        if self.homophily is not None:
            lines |= self.homophily.words(called)
        shown = [*graph.splits][:_SPLITS]
        lines |= {f"split {name}": sizes.split(graph, name) for name in shown}
        if more := [*graph.splits][_SPLITS:]:
            lines["more splits"] = ", ".join(more)
        lines["memory"] = sizes.memory(graph)
        return {name: line for name, line in lines.items() if line is not None}

    def _cut(self) -> str | None:
        if self.cut is None:
            graph = Called(self.data).graph
            edges = graph.num_edges if graph.y_level != "graph" else 0
            asked = f"not measured unasked beyond {CUT_AT_MOST:,} edges"
            return asked if edges > CUT_AT_MOST else None
        whose = "that ClusterTrainer would make" if self.cut.chosen else "that it is stored in"
        return (
            f"{self.cut.share:.1%} of the edges lie between the {self.cut.parts:,} clusters "
            f"{whose} ({self.cut.method}): an epoch sees few of them"
        )

    def signal_words(self) -> dict[str, str]:
        """What probes tell, in sentences, by what they are about; empty without."""
        if self.signal is None:
            return {}
        lines = self.signal.words()
        alike = self.homophily
        if isinstance(alike, Homophily) and alike.tells_nothing and self.signal.helped:
            lines["so"] += (
                f". Not by neighbours' labels, which hardly tell (informativeness "
                f"{alike.informativeness:.3f}): by what neighbours are like, and where it stands"
            )
        return lines

    def leak_words(self) -> list[str]:
        """What a model could cheat with, a sentence each; one that says so where nothing is."""
        if self.leaks:
            return [leak.words for leak in self.leaks]
        return ["none found among copied nodes, single features, and values of edges"]

    @override
    def __str__(self) -> str:
        """All of it, a line each."""
        lines = self.words()
        lines |= {f"signal: {name}": text for name, text in self.signal_words().items()}
        if self.leaks is not None:
            lines["leaks"] = "; ".join(self.leak_words())
        width = max(map(len, lines))
        listed = [f"{name:<{width}}  {text}" for name, text in lines.items()]
        return "\n".join([Called(self.data).graph.name, *listed, *self.notes])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw degrees, homophily by class, labels and the split into one PNG.

        Raises:
            MissingDependency: matplotlib is not installed.
            StoreError: it cannot be written.
        """
        draw(Called(self.data), self.degrees, self.homophily, path)


@choices_checked
def describe(
    graph: Graph | ClusteredGraph,
    *,
    signal: bool = False,
    leaks: bool = False,
    cut: bool | None = None,
    split: str = "default",
) -> Description:
    """Say what is worth knowing of a graph before anything is trained on it.

    Rows are read in blocks: of a graph on disk some hundred megabytes are held, and some tens of
    bytes a node; probes take a gigabyte more at most, up to 10⁷ nodes. Distances are those from 64
    nodes, drawn at random.

    Args:
        graph: a graph, or one in clusters, stored or not.
        signal: fit ridge regressions that tell whether features, neighbours and structure say
            anything of the labels.
        leaks: look for copies across the split, and for features and edges that carry labels.
        cut: partition the graph, to say what share of the edges clusters cut; None: where it has up
            to 1,000,000 directed edges. Of a graph in clusters it is theirs.
        split: the split set that probes are fitted and scored on.

    Example:
        >>> import gnnscale as gs
        >>> found = gs.describe(gs.load("synthetic:planted?nodes=500&homophily=0.8"))
        >>> 0.7 < found.homophily.edge < 0.9
        True

    Raises:
        InputError: `graph` is none, or has no such split set.
    """
    if not isinstance(graph, Graph | ClusteredGraph):
        raise InputError(
            f"describe takes a Graph, or one in clusters; got {type(graph).__name__}. Of PyG's "
            "data: describe(Graph.from_data(data))"
        )
    called = Called(graph)
    whole = called.graph
    whole.split(split)  # refuses what has no such name
    alike = homophily(whole)
    notes: list[str] = []
    found = None
    if signal:
        try:
            found = probe(whole, split)
        except InputError as error:
            notes += error.faults
    return Description(
        data=graph,
        degrees=degrees(whole),
        distances=distances(whole),
        homophily=alike,
        cut=_cut(graph, cut),
        signal=found,
        leaks=find_leaks(called, alike, split) if leaks else None,
        notes=tuple(notes),
    )


def _cut(data: Graph | ClusteredGraph, asked: bool | None) -> Cut | None:
    graph = Called(data).graph
    # Whole graphs are trained on where these have the labels.
    if not graph.num_edges or asked is False or graph.y_level == "graph":
        return None
    if isinstance(data, ClusteredGraph):
        stored = torch.repeat_interleave(torch.arange(data.num_parts), data.offsets.diff())
        share = Partition(stored, data.num_parts).quality(graph).edge_cut
        return Cut(share, data.num_parts, data.method, chosen=False)
    if asked is None and graph.num_edges > CUT_AT_MOST:
        return None
    seen = Seen.of(graph, "default", inductive=False)
    parts, _ = choose_sizes(seen, 4 * max(graph.num_features, _HIDDEN), None, None)
    made = partition(graph, parts)
    return Cut(made.quality(graph).edge_cut, parts, made.method, chosen=True)

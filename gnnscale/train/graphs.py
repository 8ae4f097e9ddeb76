"""Data sets of many graphs: what they are read from, and their graphs as the rows of a task."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.graphs import sizes_of
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, ClusteredGraph, Graph, Split
from gnnscale.graph.checks import overlaps
from gnnscale.graph.reading.nodes import read_parts
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.loader import Batch
from gnnscale.loader.batch import Assembler
from gnnscale.loader.graph_loader import (
    GraphLoader,
    graphs_as_clusters,
    labelled_by_graph,
    of_graphs,
)
from gnnscale.nn.convs.taken import CARRIED
from gnnscale.train.arguments import as_data, read_graph
from gnnscale.train.clusters import describe_data
from gnnscale.train.run.records import Description
from gnnscale.train.session import Setup

logger = logging.getLogger(__name__)

_SMALL = 1 << 9  # nodes and edges of a graph that the model is tried on within a bound
_PARTS = ("train", "val", "test")


def as_graphs(graphs: Any, task: Any = "auto") -> Graph:
    """Read a data set of many graphs.

    Args:
        graphs: a `Graph` with `node_ptr` and graph-level labels, a `ClusteredGraph` of one, a
            path of either, a PyG data set, a list of PyG `Data`, or a PyG `DataLoader` (its data
            set is read, once, whole).
        task: as for a trainer; one that is built in says what the labels are.

    Raises:
        InputError: it is none of these, or its labels are not the graphs'.
    """
    if isinstance(graphs, Graph | ClusteredGraph | str | Path):
        data = as_data(graphs, task)
        graph = data.original() if isinstance(data, ClusteredGraph) else data
    else:
        graph = _from_pyg(graphs, task)
    if graph.y is not None and graph.y_level != "graph":
        raise InputError(
            f"the labels are {graph.y_level}-level; GraphTrainer learns graph-level labels, one "
            "row a graph (ClusterTrainer learns those of nodes)"
        )
    if graph.node_ptr is None:
        pointers = torch.tensor([0, graph.num_nodes])
        graph = dataclasses.replace(graph, node_ptr=pointers)
    return graph


def _from_pyg(graphs: Any, task: Any) -> Graph:
    from torch_geometric.data import Batch, Data

    listed = getattr(graphs, "dataset", graphs)  # a DataLoader's
    if isinstance(listed, Data):
        return read_graph(listed, task)
    try:
        listed = list(listed)
    except TypeError:
        listed = []
    if not listed or not all(isinstance(data, Data) for data in listed):
        raise InputError(
            f"graphs={type(graphs).__name__}: a Graph with node_ptr, a PyG data set or a list of "
            "PyG Data, one graph or more"
        )
    # PyG leaves out what the first has not.
    for name in ("x", "edge_index", "y", *sorted(CARRIED - {"batch"})):
        lacking = [i for i, data in enumerate(listed) if data.get(name) is None]
        if 0 < len(lacking) < len(listed):
            raise InputError(
                f"the graphs do not hold the same attributes: {len(lacking)} of {len(listed)} have "
                f"no {name}, the first of them is graph {lacking[0]}; give it to all, or take it "
                "from all"
            )
    try:
        batch = Batch.from_data_list(listed)
    except (KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"the graphs do not hold the same attributes: {error}") from error
    # Categories (of molecules, say) are whole numbers; graphs store them as floats.
    whole = {
        name: value.float()
        for name in ("x", "edge_attr")
        if (value := batch.get(name)) is not None and not value.is_floating_point()
    }
    return read_graph(batch, task, node_ptr=batch.ptr, y_level="graph", **whole)


def with_split(graph: Graph, split: Mapping[str, Any]) -> Graph:
    """The data set with one split set, called "given"; see `split_of_graphs`."""
    # What it was loaded from does not give this split again: no source.
    return dataclasses.replace(graph, splits={"given": split_of_graphs(graph, split)}, source=None)


def split_of_graphs(graph: Graph, split: Mapping[str, Any]) -> Split:
    """A split of graphs as one of their nodes.

    Args:
        graph: the data set.
        split: ids of graphs, or masks `[num_graphs]`, by "train", "val" and "test"; a part that is
            missing is empty.

    Raises:
        InputError: an id is out of range, or a graph is both trained on and evaluated.
    """
    assert graph.node_ptr is not None
    faults = []
    try:
        masks = read_parts(split, graph.num_graphs, "split ", of="graph")
    except InputError as error:
        faults += error.faults
    if not faults and bool((masks["train"] & (masks["val"] | masks["test"])).any()):
        faults.append("split: a training graph is also a validation or test graph")
    if faults:
        raise InputError(faults)
    for words in overlaps(*(masks[name] for name in _PARTS)):
        logger.warning("split: %s", words.replace("nodes", "graphs"))
    sizes = graph.node_ptr.diff()
    return Split(*(masks[name].repeat_interleave(sizes) for name in _PARTS))


def graphs_as_rows(graph: Graph) -> Graph:
    """The graphs of a data set as the nodes of one without edges: the rows that a task is about.

    A graph is in a part of a split if its first node is; one without nodes is in none.
    """
    nowhere = torch.zeros(graph.num_graphs + 1, dtype=torch.int64)
    return Graph(
        adj=Adjacency(nowhere, torch.empty(0, dtype=torch.int32)),
        y=graph.y,
        splits={
            name: split.each(partial(of_graphs, graph)) for name, split in graph.splits.items()
        },
        task=graph.task,
        metric=graph.metric,
        num_classes=graph.num_classes,
        name=graph.name,
    )


class ManyGraphs:
    """A data set of many graphs, and the loader of their batches. Nothing is moved or written.

    Args:
        setup: of the trainer.
        graph: the data set.
        rows: its graphs as the rows of the task.
        graphs_per_batch: graphs a step.
        prefetch: batches prepared ahead.

    Attributes:
        loader: the batches of an epoch.
    """

    order = position = node_id = None
    is_prepared = True

    def __init__(
        self, setup: Setup, graph: Graph, rows: Graph, graphs_per_batch: int, prefetch: int
    ) -> None:
        self.graph = self.whole = graph
        self.rows = rows
        self._setup = setup
        self._as_clusters = graphs_as_clusters(graph, setup.config.split)
        self._fingerprint: str | None = None
        self.loader = GraphLoader(
            self._as_clusters,
            graphs_per_batch,
            seed=setup.config.seed,
            rank=comm.rank(setup.group),
            world_size=comm.world_size(setup.group),
            prefetch=prefetch,
            device=setup.device,
        )

    def prepare(self) -> None:
        """Nothing: a graph is where it is."""

    def sample(self) -> Batch:
        """A batch of the largest two graphs of the first; within a bound, of two small ones."""
        ids = self.loader.steps(0)[0][0]
        nodes, edges = sizes_of(self.graph, ids)
        if self._setup.config.memory != "auto":  # what the largest take is not known yet
            small = nodes + edges <= _SMALL
            ids = ids[small] if bool(small.any()) else ids[(nodes + edges).argmin()].reshape(1)
            nodes = sizes_of(self.graph, ids)[0]
        return self.assembled(ids[nodes.argsort(descending=True)[:2]])

    def assembled(self, graphs: Tensor) -> Batch:
        """A batch of some graphs, on the host."""
        return labelled_by_graph(Assembler(self._as_clusters), self.graph.y)(graphs)

    def lay_out(self) -> None:
        """Nothing: a graph is where it is."""

    def segments(self) -> dict[str, Tensor]:
        """Nothing beside the graphs."""
        return {}

    def scratch(self) -> Path | None:
        """None: graphs are evaluated in memory."""
        return None

    def keep(self) -> None:
        """Store the graphs where nothing else could give them back."""
        folder = self._setup.folder
        assert folder is not None
        path = folder.graph

        def write() -> None:
            store_graph(self.graph, path)

        if self.graph.source is None:
            comm.from_main(write)

    def resume(self) -> None:
        """Nothing: what is drawn depends on seed and epoch alone."""

    def identity(self) -> Description:
        """See `Data`."""
        if self._fingerprint is None:
            self._fingerprint = self.graph.fingerprint()
        return describe_data(self.graph, self._fingerprint)

    def held(self) -> dict[str, object]:
        """See `Data`."""
        return {"": self.graph}

    def to_come(self) -> int:
        """Nothing: a graph is where it is."""
        return 0

    def check_room(self) -> None:
        """Nothing: what has no room is found where steps are made."""

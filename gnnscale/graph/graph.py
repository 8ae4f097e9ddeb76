"""Graph: structure, features, labels and splits of a node-, edge- or graph-level data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.graph import contents, convert
from gnnscale.graph.adjacency import EDGE_VALUES, Adjacency
from gnnscale.graph.arrays import read_arrays
from gnnscale.graph.names import NodeNames
from gnnscale.graph.reading.labels import TASKS, read_again
from gnnscale.graph.reading.nodes import PARTS, Split, pointers_among
from gnnscale.graph.schema import Schema
from gnnscale.graph.times import Cuts, known_by, known_edges
from gnnscale.kernels import CSR

if TYPE_CHECKING:
    import networkx
    import torch_geometric.data


@dataclass(eq=False)
class Graph:
    """A graph (or several in one) with what is known about its nodes.

    Make one with `from_arrays`, `from_data` (PyG), `from_networkx` or `gnnscale.load`.

    Attributes:
        adj: the structure, CSR rows being targets; edge weights are its values.
        x: node features `[num_nodes, num_features]`, dense or `CSR`, or None.
        y: labels, by `y_level` one row a node, edge (in CSR order) or graph: int64 classes
            `[rows]`, 0/1 `[rows, labels]`, or floats `[rows]` or `[rows, targets]`. What is
            unlabelled is -1 in integers and NaN in floats.
        y_level: "node", "edge" or "graph".
        edge_attr: `[num_edges, channels]` in CSR order, or None.
        edge_type: int64 `[num_edges]` in CSR order, the relation of every edge, or None.
        node_type: int64 `[num_nodes]`, the kind of every node, or None.
        edge_time: int64 or float64 `[num_edges]` in CSR order, when each edge became known: seconds
            since 1970, or whatever else times are counted in. Of NaN it is later than every cut.
            None where nothing is known of it. Layers are not given times; see `until`.
        node_time: likewise `[num_nodes]`, when each node, its features and its label became known.
        splits: named sets of splits; the first, usually "default", is the one used by default.
        node_ptr: int64 `[num_graphs + 1]`: graph g owns nodes `node_ptr[g]` up to
            `node_ptr[g + 1]`; None for a single graph.
        task: "classification", "multilabel" or "regression".
        metric: the data set's headline metric, or None for the task's own.
        num_classes: classes, labels, or regression targets.
        name: what to call it in reports.
        source: what `gnnscale.load` makes it from again, or None.
        names: what the nodes are called where the edges come from (see `from_edge_list`); None
            where they are called by their numbers.
        schema: what classes and features are called in the tables that they were read from, and
            how features were made; None where they were no tables.
    """

    adj: Adjacency
    x: Tensor | CSR | None = None
    y: Tensor | None = None
    y_level: str = "node"
    edge_attr: Tensor | None = None
    edge_type: Tensor | None = None
    node_type: Tensor | None = None
    edge_time: Tensor | None = None
    node_time: Tensor | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    node_ptr: Tensor | None = None
    task: str = "classification"
    metric: str | None = None
    num_classes: int = 0
    name: str = "graph"
    source: str | None = None
    names: NodeNames | None = None
    schema: Schema | None = None

    @property
    def num_nodes(self) -> int:
        """Nodes of all its graphs together."""
        return self.adj.num_nodes

    @property
    def num_edges(self) -> int:
        """Directed edges: an undirected edge counts twice."""
        return self.adj.num_edges

    @property
    def num_features(self) -> int:
        """Columns of `x`, 0 without features."""
        return 0 if self.x is None else self.x.shape[1]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What each class, label or target is called; None where by its number."""
        return None if self.schema is None else self.schema.classes

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """What each column of `x` is called; None without names."""
        return None if self.schema is None else self.schema.features

    @property
    def num_graphs(self) -> int:
        """1, or as many as `node_ptr` tells apart."""
        return 1 if self.node_ptr is None else self.node_ptr.numel() - 1

    @property
    def edge_index(self) -> Tensor:
        """int64 `[2, num_edges]` in PyG's order: row 0 the sources, row 1 the targets."""
        return self.adj.edge_index

    @property
    def edge_weight(self) -> Tensor | None:
        """`[num_edges]` in CSR order, None where all are 1."""
        return self.adj.edge_weight

    @property
    def carried(self) -> dict[str, Tensor]:
        """What layers may be given of the values of edges and nodes, by name."""
        values = {name: getattr(self, name) for name in (*EDGE_VALUES, "node_type")}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def carries_by_edge(self) -> bool:
        """Whether anything belongs to edges, which has to follow them."""
        return not self.carried.keys().isdisjoint(EDGE_VALUES) or self.y_level == "edge"

    def split(self, name: str = "default") -> Split | None:
        """The split set called `name`; "default" is the first one. None if there are no splits."""
        if isinstance(name, str) and name in self.splits:
            return self.splits[name]
        if isinstance(name, str) and name == "default":
            return next(iter(self.splits.values()), None)
        raise InputError(f"no split set {name!r}; there are {sorted(self.splits) or 'none'}")

    @property
    def cuts(self) -> dict[str, Cuts]:
        """The last moments that training and validation know of, by split sets that have them."""
        return {name: s.cuts for name, s in self.splits.items() if s.cuts is not None}

    @property
    def train_mask(self) -> Tensor | None:
        """Boolean `[num_nodes]` of the default split; None without one."""
        return None if (split := self.split()) is None else split.train

    @property
    def val_mask(self) -> Tensor | None:
        """Boolean `[num_nodes]` of the default split; None without one."""
        return None if (split := self.split()) is None else split.val

    @property
    def test_mask(self) -> Tensor | None:
        """Boolean `[num_nodes]` of the default split; None without one."""
        return None if (split := self.split()) is None else split.test

    @override
    def __repr__(self) -> str:
        features = "no features" if self.x is None else f"{self.num_features} features"
        if isinstance(self.x, CSR):
            features += " (sparse)"
        graphs = f" in {self.num_graphs} graphs" if self.node_ptr is not None else ""
        return (
            f"Graph({self.name}: {self.num_nodes:,} nodes{graphs}, {self.num_edges:,} directed "
            f"edges, {features}, {self.num_classes} classes)"
        )

    # --- construction -----------------------------------------------------------------------

    @classmethod
    def from_arrays(
        cls,
        edge_index: object,
        x: object = None,
        y: object = None,
        *,
        num_nodes: int | None = None,
        edge_weight: object = None,
        edge_attr: object = None,
        edge_type: object = None,
        node_type: object = None,
        edge_time: object = None,
        node_time: object = None,
        splits: Mapping[str, Mapping[str, object]] | str | None = None,
        train_mask: object = None,
        val_mask: object = None,
        test_mask: object = None,
        node_ptr: object = None,
        y_level: str = "node",
        task: str | None = None,
        metric: str | None = None,
        num_classes: int | None = None,
        name: str = "graph",
        source: str | None = None,
        undirected: bool = False,
    ) -> Graph:
        """Build a graph from tensors or NumPy arrays, and check all of it.

        Tensors on another device are copied to the CPU. Writable arrays are not copied; read-only
        ones are, so open large memory maps with mode "c".

        Args:
            edge_index: integers `[2, num_edges]`, row 0 the sources, row 1 the targets.
            x: features `[num_nodes, num_features]`: dense, SciPy sparse (read as float32), torch
                sparse or `CSR`.
            y: labels, one row per node, edge or graph as `y_level` says; -1 (but for regression) or
                NaN where there is none.
            num_nodes: taken from `x`, `y` or the masks, else from the greatest id, when not given.
            edge_weight: `[num_edges]`, in the order of `edge_index`.
            edge_attr: `[num_edges, channels]` or `[num_edges]`, in the order of `edge_index`.
            edge_type: integers `[num_edges]` from 0 on, in the order of `edge_index`.
            node_type: integers `[num_nodes]` from 0 on.
            edge_time: numbers or dates `[num_edges]`, in the order of `edge_index`: when each edge
                became known; NaN where that is unknown.
            node_time: likewise `[num_nodes]`.
            splits: `{"name": {"train": …, "val": …, "test": …}}`, each a mask `[num_nodes]`
                (booleans, or 0 and 1 of any type) or an array of node ids; "train_mask" and
                "train_idx" say which. "valid", "validation" and "dev" are "val". With
                `"cuts": (train, val)` training and validation know of nothing later. Or by
                `node_time`, as "time:60/20/20" or "time:2018-12-31/2019-12-31": see
                `gnnscale.graph.times`.
            train_mask: with `val_mask` and `test_mask`, short for a split set called "default" of
                masks.
            val_mask: see `train_mask`.
            test_mask: see `train_mask`.
            node_ptr: `[num_graphs + 1]` for several graphs in one.
            y_level: "node", "edge" or "graph".
            task: "classification" (integers, whole floats, or one-hot rows), "multilabel" (0 and 1
                in columns) or "regression"; read off `y` when not given, and asked for where `y`
                may be two of these, as whole floats or rows with a single 1 each.
            metric: headline metric, or None for the task's own.
            num_classes: read off `y` when not given.
            name: what to call it in reports.
            source: what `gnnscale.load` makes it from again.
            undirected: each edge is stored once; the reverse of every edge but self-loops is added.

        What labels are read for is logged in a line.

        Raises:
            InputError: listing every fault found, and everything that has two readings, with what
                to write for each.
        """
        arguments = dict(locals())
        del arguments["cls"]
        fields, faults, labels = read_arrays(**arguments)
        graph = cls(**fields)
        try:
            graph.check()
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(list(dict.fromkeys(faults)))
        if labels is not None:
            labels.log(name)
        return graph

    @classmethod
    def from_data(cls, data: torch_geometric.data.Data, **overrides: object) -> Graph:
        """Build a graph from a PyG `Data` or `Batch` object.

        `edge_index` or `adj_t`, `x`, `y`, `edge_weight`, `edge_attr`, the `edge_type` and
        `node_type` of `to_homogeneous()`, `train_mask` (or `train_idx`, of ids) …, and a batch's
        `ptr` are taken over; masks of shape `[num_nodes, k]` become k split sets. `overrides` are
        arguments of `from_arrays` that take precedence. Labels are read as graph-level where there
        is one row a graph and not one a node.

        Raises:
            InputError: the data is heterogeneous, or faulty.
        """
        return cls.from_arrays(**convert.from_data(data, **overrides))

    @classmethod
    def from_networkx(
        cls,
        graph: networkx.Graph,
        *,
        x: str | None = "x",
        y: str | None = "y",
        weight: str | None = "weight",
        **overrides: object,
    ) -> Graph:
        """Build a graph from a networkx graph, nodes numbered in its order.

        Args:
            graph: any networkx graph; an undirected edge becomes two directed ones.
            x: node attribute with the feature vector; ignored where no node has it.
            y: node attribute with the label; ignored where no node has it.
            weight: edge attribute with the weight; ignored where no edge has it.
            overrides: further arguments of `from_arrays`.
        """
        return cls.from_arrays(**(convert.from_networkx(graph, x, y, weight) | overrides))

    def to_data(self) -> torch_geometric.data.Data:
        """The graph as a PyG `Data`, with the default split set's masks.

        Sparse features become a torch sparse CSR tensor. Several graphs become a `Batch`, with
        `ptr` and `batch`; its `to_data_list()` gives them one by one where features are dense.
        `Graph.from_data` reads it back, edges in CSR order; what PyG has no place for (`task`,
        `num_classes`, labels of edges, other split sets) is to be said again.
        """
        split = self.split()
        masks = {} if split is None else {f"{part}_mask": split[part] for part in PARTS}
        times = {"edge_time": self.edge_time, "node_time": self.node_time}
        values = self.carried | masks | {k: v for k, v in times.items() if v is not None}
        return convert.to_data(self.adj, self.x, self.y, self.y_level, values, self.node_ptr)

    def with_task(self, task: str) -> Graph:
        """The graph with its labels read anew for a task; itself where they are for it.

        Raises:
            InputError: the labels do not allow it.
        """
        if self.task == task:
            return self
        if self.y is None or task not in TASKS:
            return replace(self, task=task, metric=None)
        read = read_again(self.y, self.task, task, of=self.y_level)
        read.log(self.name)
        return replace(self, y=read.y, task=task, num_classes=read.num_classes, metric=None)

    def until(self, moment: float) -> Graph:
        """What was known by a moment: its nodes, in their order, and the edges among them.

        Nodes are numbered anew, as by `subgraph`; without `node_time`, all are known. Splits keep
        those of their nodes that are left, and cuts that are earlier. What is later, features and
        labels too, is not in it. It is in memory.

        Args:
            moment: the last that is known, in the unit of `node_time` and `edge_time`.
        """
        nodes = None if self.node_time is None else known_by(self.node_time, moment)
        if nodes is not None and bool(nodes.all()):
            nodes = None
        if nodes is None and self.edge_time is None:
            return self._before(moment, self)
        counts, indices, positions = (
            torch.cat(parts)
            for parts in zip(*known_edges(self.adj, nodes, self.edge_time, moment), strict=True)
        )
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        weight = None if self.edge_weight is None else self.edge_weight[positions]
        chosen = None if nodes is None else nodes.nonzero().squeeze(1)
        found = self.taken(Adjacency(indptr, indices, weight), chosen, positions)
        if nodes is not None:
            found = replace(found, node_ptr=pointers_among(self.node_ptr, nodes))
        return self._before(moment, found)

    def _before(self, moment: float, found: Graph) -> Graph:
        splits = {
            name: replace(s, cuts=None) if s.cuts is not None and s.cuts.train >= moment else s
            for name, s in found.splits.items()
        }
        return replace(found, splits=splits, source=None)

    def taken(self, adj: Adjacency, nodes: Tensor | None, edges: Tensor | None) -> Graph:
        """What it holds of some of its nodes and edges, in another order.

        Args:
            adj: of the nodes that are taken.
            nodes: ids of these; None for all, as they are.
            edges: where each edge of `adj` stands here; None where nothing belongs to edges.
        """

        def of_nodes(values: Tensor | None) -> Tensor | None:
            return values if values is None or nodes is None else values[nodes]

        def of_edges(values: Tensor | None) -> Tensor | None:
            if values is None:
                return None
            assert edges is not None
            return values[edges]

        x = self.x
        if nodes is not None and x is not None:
            x = x.select_rows(nodes) if isinstance(x, CSR) else x[nodes]
        by_level = {"node": of_nodes, "edge": of_edges}
        splits, names = self.splits, self.names
        if nodes is not None:
            splits = {name: s.each(lambda mask: mask[nodes]) for name, s in splits.items()}
            names = None if names is None else names.take(nodes)
        return replace(
            self,
            adj=adj,
            x=x,
            y=by_level[self.y_level](self.y) if self.y_level in by_level else self.y,
            edge_attr=of_edges(self.edge_attr),
            edge_type=of_edges(self.edge_type),
            node_type=of_nodes(self.node_type),
            edge_time=of_edges(self.edge_time),
            node_time=of_nodes(self.node_time),
            splits=splits,
            names=names,
        )

    # --- all of it --------------------------------------------------------------------------

    def check(self) -> None:
        """Check everything that this graph holds.

        Raises:
            InputError: listing every fault found.
        """
        if faults := contents.faults(self):
            raise InputError(faults)

    def structure_fingerprint(self) -> str:
        """A hash of structure and edge weights: equal for equal adjacencies, whatever the name."""
        return contents.structure_fingerprint(self)

    def fingerprint(self) -> str:
        """A hash of everything the graph holds but its name and source, and its nodes' names."""
        return contents.fingerprint(self)

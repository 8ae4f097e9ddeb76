"""What is planned for: a graph, a model, and what is learnt of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Literal

import torch
from scipy import sparse
from torch import Tensor

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.model import ModelCosts
from gnnscale.costs.counted.reading import costs_of, sizes_of_graph
from gnnscale.costs.graphs import sizes_of, sizes_of_some
from gnnscale.costs.inference import Budget, inference_budget, node_arrays
from gnnscale.costs.predicted.batches import (
    EpochBatches,
    counted,
    estimated,
    of_whole_graphs,
    rows_of_layers,
)
from gnnscale.costs.predicted.chunks import EvaluatedChunks, evaluated_chunks
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.cuts import Cuts, bare, between
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, subgraph
from gnnscale.kernels import CSR
from gnnscale.loader.graph_loader import of_graphs
from gnnscale.nn import GraphModel, LayeredGNN, as_layered
from gnnscale.nn.blocks.phases import opaque_of

_STATES = {"adam": 2, "adamw": 2, "sgd": 1}  # arrays of the size of the parameters; sgd's momentum


class Job:
    """A model that is to be trained on a graph, whatever the way.

    What is asked of it is found out once, when it is first asked.

    Args:
        data: the graph, in memory or in files; a clustered graph, whose clusters are then used; or
            many graphs in one, of which `GraphTrainer` takes some at a time.
        model: what `as_layered` takes, or a `GraphModel`; its lazy parameters materialised.
        split: the split set; the default one where there is no such set.
        inductive: whether training nodes alone are trained on.
        optimizer: its name, or a function that makes one; which is taken for Adam-like.
        seed: of partition and draws.
        method: partitioner.
        balance: what the partitioner evens out.

    Attributes:
        data: as given.
        graph: the whole graph.
        clustered: its clusters, or None where they are to be made.
        model: the model, in blocks.
        optimizer_states: numbers that the optimizer keeps of every parameter.

    Raises:
        InputError: there is nothing to train on.
    """

    def __init__(
        self,
        data: Graph | ClusteredGraph,
        model: object,
        *,
        split: str = "default",
        inductive: bool = False,
        optimizer: str | Callable = "adam",
        seed: int = 0,
        method: str | Callable = "auto",
        balance: str | float = "nodes",
    ) -> None:
        self.data = data
        self.clustered = data if isinstance(data, ClusteredGraph) else None
        self.graph: Graph = data.graph if isinstance(data, ClusteredGraph) else data
        self.model: LayeredGNN | GraphModel = (
            model if isinstance(model, GraphModel) else as_layered(model)
        )
        if self.clustered is not None and split == "default":
            split = self.clustered.split
        self.split = split if split in self.graph.splits else "default"
        self.inductive = inductive or (
            self.clustered is not None and self.clustered.view_name == "train"
        )
        self.optimizer_states = _STATES.get(optimizer, 2) if isinstance(optimizer, str) else 2
        self.seed, self.method, self.balance = seed, method, balance
        train = self._train
        if (self.inductive or self.of_graphs) and train is not None and not bool(train.any()):
            raise InputError("the training set is empty: train_mask selects no node")
        self._costs: dict[tuple[bool, str], ModelCosts] = {}
        self._batches: dict[tuple[float, ...], EpochBatches] = {}
        self._budgets: dict[tuple[int | None, int, bool], Budget] = {}

    def costs(
        self, *, training: bool = True, computed: Literal["none", "first", "each"] = "none"
    ) -> ModelCosts:
        """What the model's phases cost: see `costs_of`.

        Raises:
            InputError: the graph has no features, or a parameter is lazy.
        """
        key = training, computed
        if key not in self._costs:
            x = self.graph.x
            if x is None:
                raise InputError("the graph has no features x: give it some, Graph.from_arrays(x=)")
            carried = self.graph.carried
            self._costs[key] = costs_of(
                self.model, x, carried, training=training, computed=computed
            )
        return self._costs[key]

    @property
    def of_graphs(self) -> bool:
        """Whether it is the outputs of graphs, rather than of nodes, that are learnt."""
        return isinstance(self.model, GraphModel)

    @cached_property
    def sizes(self) -> Sizes:
        """Of the whole graph, which is evaluated."""
        return sizes_of_graph(self.graph)

    @cached_property
    def chunks(self) -> EvaluatedChunks:
        """By which the whole graph is evaluated."""
        return evaluated_chunks(self.model, self.graph, self.sizes)

    @cached_property
    def trained(self) -> Sizes:
        """Of what is trained on: the whole graph, the training graphs, or `seen`."""
        if self.of_graphs:
            some = sizes_of_some(self.graph, self._graphs)
            share = some.edges / max(1.0, self.sizes.edges)
            return some._replace(
                degree=self.sizes.degree,
                leaving=self.sizes.leaving,
                loops=share * self.sizes.loops,
                transposed=some.edges if self.sizes.transposed else 0,
            )
        if not self.inductive or self._train is None:
            return self.sizes
        x, pointers = self.graph.x, self.seen.node_ptr
        entries = int(x.indptr.diff()[self._train].sum()) if isinstance(x, CSR) else 0
        graphs = 1 if pointers is None else int((pointers.diff() > 0).sum())
        return sizes_of_graph(self.seen)._replace(entries=entries, segments=graphs)

    @cached_property
    def seen(self) -> Graph:
        """The structure of the nodes that are trained on."""
        there, train = bare(self.graph), self._train
        return subgraph(there, train) if self.inductive and train is not None else there

    @cached_property
    def _graphs(self) -> Tensor:
        """Graphs that are trained on; all where there is no split."""
        train = self._train
        if train is None:
            return torch.arange(self.graph.num_graphs)
        return of_graphs(self.graph, train).nonzero().squeeze(1)

    @cached_property
    def train_rows(self) -> int:
        """Nodes whose labels are learnt; every node where there is no split."""
        train = self._train
        return self.graph.num_nodes if train is None else int(train.sum())

    @cached_property
    def validated_rows(self) -> int:
        """Nodes of the validation set."""
        chosen = self.graph.split(self.split)
        return 0 if chosen is None else int(chosen.val.sum())

    @cached_property
    def bytes_of_nodes(self) -> int:
        """Of the arrays of one or more numbers a node that an exact evaluation holds."""
        if isinstance(self.model, GraphModel):
            return 0
        return sum(node_arrays(self.model, self.graph).values())

    def budget(self, memory: int | None, held: int, *, in_files: bool) -> Budget:
        """What an exact evaluation may have at a time: see `inference_budget`.

        Raises:
            MemoryBound: the bound is too small for what cannot be cut.
        """
        key = memory, held, in_files
        if key not in self._budgets:
            assert not isinstance(self.model, GraphModel)
            self._budgets[key] = inference_budget(
                self.model,
                self.graph,
                torch.device("cpu"),
                "auto" if memory is None else memory,
                held=held,
                in_files=in_files,
            )
        return self._budgets[key]

    @property
    def _train(self) -> Tensor | None:
        chosen = self.graph.split(self.split)
        return None if chosen is None else chosen.train

    @cached_property
    def cuts(self) -> Cuts:
        """What partitions of what is trained on would be like."""
        return Cuts(self.seen, self.method, self.balance, self.seed)

    @cached_property
    def _clusters(self) -> tuple[ClusteredGraph, sparse.coo_array]:
        """The clusters that are trained on, and how many edges go from each to each."""
        assert self.clustered is not None
        view = self.clustered.view("train") if self.inductive else self.clustered
        return view, between(view).tocoo()

    def batches(self, configuration: Configuration) -> EpochBatches:
        """How large the batches of an epoch are.

        Of a clustered graph it is counted, for the draws of a run of this seed. Of others it is
        estimated, from partitions of it, or of a piece of it, which take seconds and are cached.
        """
        chosen = configuration
        key = (
            *(chosen.trainer == "layerwise", chosen.trainer == "graph", chosen.parts),
            *(chosen.clusters, chosen.batch_rows, chosen.graphs, chosen.epochs),
        )
        if key not in self._batches:
            self._batches[key] = self._find(configuration)
        return self._batches[key]

    def layer_batches(self, configuration: Configuration, block: int) -> EpochBatches:
        """Those of a layer that is trained by itself: rows, or clusters where it is opaque."""
        if self.is_opaque(block):
            return self.batches(replace(configuration, trainer="cluster"))
        return self.batches(configuration)

    def lays_out(self, configuration: Configuration) -> bool:
        """Whether a run is on the graph in clusters."""
        if configuration.trainer == "layerwise":
            return bool(opaque_of(self.model.phases))
        return configuration.trainer in ("cluster", "pipeline")

    def is_opaque(self, block: int) -> bool:
        """Whether what a block aggregates depends on what is trained."""
        return bool(opaque_of(self.model.phases[block : block + 1]))

    def _find(self, configuration: Configuration) -> EpochBatches:
        if configuration.trainer == "layerwise":
            return rows_of_layers(self.trained, self.train_rows, configuration.batch_rows)
        if configuration.trainer == "graph":
            return of_whole_graphs(
                self.trained, *sizes_of(self.graph, self._graphs), configuration.graphs
            )
        if self.clustered is not None:
            view, between_clusters = self._clusters
            return counted(view, between_clusters, self.trained, configuration, self.seed)
        return estimated(self.trained, configuration, self.cuts.of)

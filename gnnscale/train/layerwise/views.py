"""Views: which graph a layer aggregates over, and which nodes it trains and is evaluated on.

Transductive training sees the whole graph. Inductive training sees the training nodes and the edges
among them; validation nodes then read a second stream, over the whole graph. Where a split has
cuts, the graph is what training knows of, and the second stream is over what validation knows of.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from gnnscale.costs.sizes import widest_output
from gnnscale.errors import InputError
from gnnscale.graph import Adjacency, ClusteredGraph, Graph, subgraph
from gnnscale.graph.reading.labels import labelled
from gnnscale.inference.activations import Activations, ActivationStore
from gnnscale.inference.engine import activation_type, store_for
from gnnscale.kernels import CSR
from gnnscale.loader import Batch
from gnnscale.loader.batch import take_features
from gnnscale.nn import Context, LayeredGNN
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.mapped import is_mapped, read_ranges, release
from gnnscale.train.layerwise.opaque import ClusterBatches, WholeGraph
from gnnscale.train.layerwise.rows import (
    CHUNK_ROWS,
    ORDER,
    SHUFFLED_BYTES,
    RowValidation,
    TrainingRows,
)
from gnnscale.train.layerwise.sections import Section, sections_of
from gnnscale.train.layerwise.streams import SectionInput, Stream
from gnnscale.train.layerwise.training import ValidationRows
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.steps.dry_run import dry_run
from gnnscale.train.steps.first_hop import SomeRows
from gnnscale.train.task import Task

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_DRY_NODES = 64
_STEP_COPIES = 8  # of a batch's rows: read, computed, kept for the backward pass, gradients


class Views:
    """The nodes that are trained on and evaluated on, and the graph that each is seen in.

    Args:
        graph: the whole graph, with a split.
        node_id: the original id of each node in it; None for the original order.
        config: the trainer's.
        task: what is learnt.
        device: where batches go.
        later: what validation knows of, where that is more than training does.

    Raises:
        InputError: there are no training nodes.
    """

    def __init__(
        self,
        graph: Graph,
        node_id: Tensor | None,
        config: LayerwiseOptions,
        task: Task,
        device: torch.device,
        later: Graph | None = None,
    ) -> None:
        split = graph.split(config.split)
        if split is None:
            raise InputError("the graph has no split to train on")
        self._graph, self._config, self._task, self._device = graph, config, task, device
        self._evaluated = graph if later is None else later
        self._apart = config.inductive or later is not None  # a second stream for validation
        self._train = split.train.nonzero().squeeze(1)
        if self._train.numel() == 0:
            raise InputError(f"split {config.split!r} has no training nodes")
        self.validation: Tensor | None = None
        held = self._evaluated.split(config.split)
        y = self._evaluated.y
        if y is not None and graph.y_level == "node" and task.metrics() and held is not None:
            nodes = held.val.nonzero().squeeze(1)
            nodes = nodes[labelled(y[nodes], graph.task)]
            self.validation = nodes if nodes.numel() else None
        # Of what is trained on; what is evaluated apart has the order in which it was given.
        ids = (node_id, None if later is not None else node_id)
        of = (self._train, self.validation)
        self._ids = [
            nodes if of_nodes is None or nodes is None else of_nodes[nodes]
            for nodes, of_nodes in zip(of, ids, strict=True)
        ]
        labels = (graph.y, y)
        self._labels = [
            None if nodes is None or values is None else values[nodes]
            for nodes, values in zip(of, labels, strict=True)
        ]
        for values in (split.train, graph.y, y, node_id):
            if values is not None:
                release(values)

    def held(self) -> dict[str, object]:
        """What it keeps of the nodes that are trained and evaluated on, by name."""
        return {
            "nodes of rows": (self._train, self.validation),
            "ids of rows": tuple(self._ids),
            "labels of rows": tuple(self._labels),
        }

    def bytes_of_rows(self, model: LayeredGNN) -> int:
        """What the rows of a layer take that are kept for training and evaluation."""
        kept = [nodes.numel() for nodes in (self._train, self.validation) if nodes is not None]
        slots = max(len(section.slots_read) for section in sections_of(model))
        size = _DTYPES[self._config.rows_dtype].itemsize
        return sum(kept) * (1 + slots) * self._widest(model) * size

    def bytes_of_steps(self, model: LayeredGNN) -> int:
        """What training on rows takes beside what is kept: spans of them, and a step on a batch."""
        rows = min(max(self._config.batch_rows, CHUNK_ROWS), self._train.numel())
        row = 4 * self._widest(model)
        shuffled = self._train.numel() * (row + ORDER)  # all of it
        spans = 3 * max(SHUFFLED_BYTES, self._config.batch_rows * (2 * row + ORDER))
        spans = min(spans, 2 * shuffled)
        return spans + _STEP_COPIES * rows * row

    def _widest(self, model: LayeredGNN) -> int:
        x = self._graph.x
        assert x is not None
        features = 2 * x.nnz // max(1, x.shape[0]) if isinstance(x, CSR) else x.shape[1]
        return max(widest_output(model), features)

    def dry_run(self, model: LayeredGNN) -> tuple[Tensor, Batch]:
        """Run a few nodes through the model: widths are checked, lazy parameters get theirs.

        Returns:
            The model's output for a few training nodes, `[nodes, out_channels]`, and their batch.

        Raises:
            InputError: features, model and labels do not fit together.
        """
        graph, few = self._graph, self._train[:_DRY_NODES]
        adj, positions = _among(graph.adj, few)
        nodes = torch.arange(few.numel())
        batch = Batch(
            x=take_features(graph.x, [(node, node + 1) for node in few.tolist()]),
            y=None if self._graph.y_level != "node" or graph.y is None else graph.y[few],
            adj=adj,
            train_mask=torch.ones(few.numel(), dtype=torch.bool),
            train_index=nodes,
            node_id=nodes,
            clusters=torch.zeros(1, dtype=torch.int64),
            ptr=torch.tensor([0, few.numel()]),
            step_train_nodes=few.numel(),
            edge_attr=None if graph.edge_attr is None else graph.edge_attr[positions],
            edge_type=None if graph.edge_type is None else graph.edge_type[positions],
            node_type=None if graph.node_type is None else graph.node_type[few],
        ).to(self._device)
        dry_run(model, batch, graph, self._task)
        with torch.no_grad(), evaluation_mode(model):
            out = model(batch.x, batch.adj, context=Context.of(batch, training=False))
        return out, batch

    def streams(self, model: LayeredGNN, options: dict[str, Any]) -> list[Stream]:
        """The features of what is trained on, and, where that differs, of what is evaluated on."""
        streams = [self._training_stream(model, options)]
        if self._apart and self.validation is not None:
            streams.append(self._stream_over(self._evaluated, model, options))
        return streams

    def _training_stream(self, model: LayeredGNN, options: dict[str, Any]) -> Stream:
        if not self._config.inductive:
            return self._stream_over(self._graph, model, options)
        dtype = activation_type(model, self._graph)
        x = self._graph.x
        assert x is not None
        bare = dataclasses.replace(self._graph, x=None, y=None)
        chosen = torch.zeros(self._graph.num_nodes, dtype=torch.bool)
        chosen[self._train] = True
        seen = subgraph(bare, chosen)
        if isinstance(x, CSR) or not is_mapped(x):
            rows = _rows_of(x, self._train)
            seen = dataclasses.replace(seen, x=rows)
            layers = store_for(model, seen, **options)
            features = layers.features(rows, dtype)
        else:
            layers = store_for(model, dataclasses.replace(seen, x=x), **options)
            features = SomeRows(x, self._train, dtype, layers.features(x, dtype).blocks)
        return self._stream(seen, layers, features)

    def _stream_over(self, graph: Graph, model: LayeredGNN, options: dict[str, Any]) -> Stream:
        layers = store_for(model, graph, **options)
        assert graph.x is not None
        return self._stream(graph, layers, layers.features(graph.x, activation_type(model, graph)))

    def collect(
        self, section: Section, streams: list[Stream]
    ) -> tuple[TrainingRows, RowValidation | None]:
        """What a separable section trains on and is evaluated on."""
        trained = torch.arange(self._train.numel()) if self._config.inductive else self._train
        wanted = [[trained]] if self._apart else [[trained, *self._held()]]
        if self._apart and self.validation is not None:
            wanted.append(self._held())
        found = [
            rows
            for stream, nodes in zip(streams, wanted, strict=True)
            for rows in stream.collect(section, nodes, self._config.batch_rows)
        ]
        training = self._batches(found[0], 0, section)
        if self.validation is None:
            return training, None
        return training, RowValidation(self._batches(found[1], 1, section))

    def clusters(
        self,
        section: Section,
        streams: list[Stream],
        clustered: ClusteredGraph,
        clusters_per_batch: int,
    ) -> tuple[ClusterBatches, ValidationRows | None]:
        """What an opaque section trains on and is evaluated on; the graph is in clustered order."""
        seen = clustered.view("train" if self._config.inductive else "all")
        training = ClusterBatches(
            section, streams[0], seen, clusters_per_batch, self._config.seed, self._device
        )
        if self.validation is None:
            return training, None
        y = self._labels[1]
        assert y is not None
        return training, WholeGraph(section, streams[-1], self.validation, y)

    def _held(self) -> list[Tensor]:
        return [] if self.validation is None else [self.validation]

    def _batches(self, rows: SectionInput, of: int, section: Section) -> TrainingRows:
        ids = self._ids[of]
        assert ids is not None
        return TrainingRows(
            rows,
            self._labels[of],
            ids,
            self._config.batch_rows,
            self._config.seed,
            section.index,
            self._device,
        )

    def _stream(self, graph: Graph, layers: ActivationStore, features: Activations) -> Stream:
        return Stream(graph, layers, features, _DTYPES[self._config.rows_dtype])


def _among(adj: Adjacency, nodes: Tensor) -> tuple[Adjacency, Tensor]:
    """The edges among a few nodes, ascending, and where they stand; only their rows are read."""
    starts, ends = adj.indptr[nodes], adj.indptr[nodes + 1]
    ranges = list(zip(starts.tolist(), ends.tolist(), strict=True))
    ends_of_edges = read_ranges(adj.indices, ranges).long()
    row = torch.arange(nodes.numel()).repeat_interleave(ends - starts)
    kept = torch.isin(ends_of_edges, nodes)
    positions = torch.cat([torch.arange(*span) for span in ranges])[kept]
    counts = torch.bincount(row[kept], minlength=nodes.numel())
    column = torch.searchsorted(nodes, ends_of_edges[kept]).to(torch.int32)
    weight = None if adj.edge_weight is None else adj.edge_weight[positions]
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Adjacency(indptr, column, weight), positions


def _rows_of(x: Tensor | CSR, nodes: Tensor) -> Tensor | CSR:
    return x.select_rows(nodes) if isinstance(x, CSR) else x[nodes]

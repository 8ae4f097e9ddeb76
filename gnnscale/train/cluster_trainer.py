"""ClusterTrainer: Cluster-GCN (Chiang et al., KDD 2019)."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale import comm
from gnnscale.costs.sizes import evaluation_interval, sizes_for
from gnnscale.declared import takes
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, Partition, open_graph
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch, ClusterLoader
from gnnscale.nn import Propagation, as_layered, first_propagation
from gnnscale.partitioning import partition
from gnnscale.storage.mapped import is_mapped
from gnnscale.train.arguments import as_data, as_seen, as_task, option_faults
from gnnscale.train.options import ClusterOptions
from gnnscale.train.ranks import stored_once
from gnnscale.train.run.identity import describe_data
from gnnscale.train.steps.first_hop import first_hop
from gnnscale.train.trainer import Trainer

logger = logging.getLogger(__name__)


class ClusterTrainer(Trainer):
    """Trains on mini-batches of clusters and evaluates exactly on the full graph.

    A step draws `clusters_per_batch` of `num_parts` clusters, takes the subgraph induced by their
    union, links between them included, renormalises it, and takes one optimizer step (Chiang et
    al., KDD 2019, algorithm 1). One part is full-batch training.

    Under `torchrun` a script runs unchanged on several ranks: each takes every R-th batch, and an
    update is that of R batches, the same as one process makes with `accumulate=R`. Every rank holds
    the model, and its own copy of a graph in memory; a graph in files is shared.

    Raises:
        InputError: listing every argument and every part of the data that is at fault.
        UnsupportedModel: `precompute`, and something comes before the first propagation.
        StoreError: the run folder cannot be written.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> model = gs.nn.GraphSAGE(graph.num_features, 32, 2, graph.num_classes)
        >>> trainer = gs.ClusterTrainer(model, graph, num_parts=20, clusters_per_batch=4, epochs=3)
        >>> report = trainer.fit()
        >>> accuracy = trainer.evaluate("test")["accuracy"]
    """

    @takes(ClusterOptions)
    def __init__(self, options: ClusterOptions) -> None:
        self._begin_with(options, option_faults(options))

    def _begin_with(self, options: ClusterOptions, faults: list[str]) -> None:
        """Read the data, find what is at fault beside what is known to be, and settle options."""
        options = options.sound()
        data, model = as_data(options.graph, options.task), options.model
        whole = data.graph if isinstance(data, ClusteredGraph) else data
        split, inductive, unfit = as_seen(data, options.split, options.inductive)
        self._takes_fewer = options.clusters_per_batch is None
        *sizes, impossible = sizes_for(
            data, model, split, inductive, options.num_parts, options.clusters_per_batch
        )
        faults += [*unfit, *impossible]
        if options.precompute and whole.x is None:
            faults.append("precompute=True: the graph has no features x to propagate")
        try:
            task = as_task(options, whole, split)
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(faults)
        self._num_parts, per_batch = sizes
        config = options.settled(
            num_parts=sizes[0], clusters_per_batch=per_batch, split=split, inductive=inductive
        )
        given = {
            "method": options.method != "auto",
            "balance": options.balance != "nodes",
            "store": options.store,
        }
        if isinstance(data, ClusteredGraph) and (unused := [k for k, v in given.items() if v]):
            logger.warning(
                "%s: the graph comes in clusters, and is not clustered anew", ", ".join(unused)
            )
        self._data: Graph | ClusteredGraph = data
        self._clustered: ClusteredGraph | None = data if isinstance(data, ClusteredGraph) else None
        # Of another run on these data, which `bench` hands on.
        self._shared: ClusteredGraph | None = None
        self._fingerprint: str | None = None
        self._loader: ClusterLoader | None = None
        self._resumed = False  # whether the run in the folder is this one
        self._stored = False  # whether the partition in use is the one in the folder
        super().__init__(as_layered(model), config, task=task)
        self.config: ClusterOptions = config
        self._first = first_propagation(self.model) if config.precompute else None

    @property
    @override
    def loader(self) -> ClusterLoader:
        """The batches of an epoch. The graph is partitioned on first use."""
        self._prepare_data()
        assert self._loader is not None
        return self._loader

    @property
    def clustered(self) -> ClusteredGraph:
        """The clustered graph. The graph is partitioned on first use."""
        self._prepare_data()
        assert self._clustered is not None
        return self._clustered

    @property
    @override
    def graph(self) -> Graph:
        """The whole graph: in storage order once partitioned, else as it was given."""
        if self._clustered is not None:
            return self._clustered.graph
        assert isinstance(self._data, Graph)
        return self._data

    @override
    def _segments(self) -> dict[str, Tensor]:
        if any(getattr(module, "over", None) == "cluster" for module in self.model.modules()):
            return {"cluster": self.clustered.offsets}
        return {}

    @property
    @override
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""
        return None if self._clustered is None else self._clustered.position

    @override
    def _prepare_data(self) -> None:
        if self._loader is not None:
            return
        self._lay_out_by_clusters()
        assert self._clustered is not None
        seen = self._clustered.view("train") if self.config.inductive else self._clustered
        self._loader = self._make_loader(
            seen,
            self.config.clusters_per_batch,
            seed=self.config.seed,
            rank=comm.rank(self.group),
            world_size=comm.world_size(self.group),
            prefetch=self.config.prefetch,
            stratify=self.config.stratify,
            device=self.device,
            first_hop=None if self._first is None else self._precompute(seen, self._first),
        )
        logger.info(
            "%d of %d clusters a batch, %d steps an epoch",
            self._loader.clusters_per_batch,
            self._loader.clusters_drawn,
            len(self._loader),
        )

    @override
    def _lay_out(self) -> None:
        if self._resumed:  # as the run did, so that its trainer and this one give the same bits
            self._lay_out_by_clusters()

    def _lay_out_by_clusters(self) -> None:
        if self._clustered is None:
            self._clustered = self._cluster()

    def _make_loader(self, *arguments: Any, **options: Any) -> ClusterLoader:
        """The loader of an epoch's batches, of what `ClusterLoader` takes."""
        return ClusterLoader(*arguments, **options)

    def _precompute(self, seen: ClusteredGraph, propagation: Propagation) -> Tensor | CSR:
        started = time.monotonic()
        if seen.path is not None and comm.world_size() > 1:

            def write() -> None:
                first_hop(seen, propagation)

            comm.from_main(write)  # into the store, where all find it
        hop = first_hop(seen, propagation)
        self._count("first hop", time.monotonic() - started)
        return hop

    def _cluster(self) -> ClusteredGraph:
        part, path, folder = comm.from_main(self._partition), self._store_path(), self.folder
        self._stored |= self._resumed
        started = time.monotonic()
        if self._resumed and folder is not None and path is not None:
            there = comm.from_main(lambda: folder.is_store_of_run(path))
            if there:
                return open_graph(path)
        if self._shared is not None and self._shared.path == path:
            same_split = self._shared.split == self.config.split
            if same_split and torch.equal(self._shared.partition.assignment, part.assignment):
                return self._shared
        clustered = stored_once(self.graph, part, path, self.config.split, self.config.memory)
        self._count("cluster", time.monotonic() - started)
        return clustered

    def _store_path(self) -> Path | None:
        if self.config.store is not None:
            return Path(self.config.store)
        in_files = is_mapped(self.graph.adj.indices)
        return self.folder.store if in_files and self.folder is not None else None

    @override
    def _scratch(self) -> Path | None:
        """Where layers go that do not fit in memory: beside the run, else beside the store."""
        store = None if self._clustered is None else self._clustered.path
        folders = (self.folder and self.folder.path, store and store.parent)
        return next((path for path in folders if path and os.access(path, os.W_OK)), None)

    def _partition(self) -> Partition:
        if self._resumed:
            # The run's own: two-thread KaMinPar differs between runs.
            assert self.folder is not None
            return Partition.load(self.folder.partition)
        fixed = self.config.partition_seed
        seed = self.config.seed if fixed is None else fixed
        part = partition(
            self.graph,
            self._num_parts,
            method=self.config.method,
            seed=seed,
            balance=self.config.balance,
            view="train" if self.config.inductive else "all",
            split=self.config.split,
            memory=None if self.config.memory == "auto" else self.config.memory,
        )
        self._count("partition", part.seconds)
        return part

    @override
    def _resume_data(self) -> None:
        self._resumed = True
        if isinstance(self._data, Graph) and not self._stored:
            self._clustered = self._loader = None  # perhaps made before this run was there

    @override
    def _keep_data(self) -> None:
        """Store the partition, and the graph where nothing else could give it back."""
        comm.from_main(self._write_data)
        self._stored |= isinstance(self._data, Graph)

    def _write_data(self) -> None:
        assert self.folder is not None and self._clustered is not None
        if isinstance(self._data, Graph):
            self._clustered.partition.save(self.folder.partition)
            if self._clustered.path is not None:
                self.folder.keep_store(self._clustered.path)
        if self.folder.is_store_of_run(self.folder.store):
            return
        in_memory = isinstance(self._data, ClusteredGraph) and self._data.path is None
        if in_memory or (isinstance(self._data, Graph) and self._data.source is None):
            from gnnscale.graph.clustered import write_store

            write_store(self._clustered, self.folder.graph)

    @override
    def _sample_batch(self) -> Batch:
        return sample_of(self.loader.clustered)

    @override
    def _identity(self) -> dict[str, Any]:
        if self._fingerprint is None:
            whole = self._data.graph if isinstance(self._data, ClusteredGraph) else self._data
            self._fingerprint = whole.fingerprint()
        return describe_data(self._data, self._fingerprint)

    @override
    def _evaluation_interval(self) -> int:
        seen = self.loader.clustered
        return evaluation_interval(self.model, self.graph, seen.num_nodes, len(self.loader))

    @override
    def _held(self) -> dict[str, Any]:
        hop = self.loader.first_hop
        seen, whole = self.loader.clustered, self._clustered
        return {"": seen, "whole": whole, "given": self._data, "first_hop": hop}


def sample_of(clustered: ClusteredGraph) -> Batch:
    """A batch of one cluster: that of most training nodes, or the largest where there are none."""
    counts = clustered.train_counts
    chosen = counts if bool(counts.any()) else clustered.sizes
    return Assembler(clustered)(chosen.argmax().reshape(1))

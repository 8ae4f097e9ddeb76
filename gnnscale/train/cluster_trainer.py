"""ClusterTrainer: Cluster-GCN (Chiang et al., KDD 2019)."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from gnnscale import comm
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, Partition, open_graph
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch, ClusterLoader
from gnnscale.nn import Propagation, as_layered, first_propagation
from gnnscale.partitioning import partition
from gnnscale.storage.mapped import is_mapped
from gnnscale.train.arguments import (
    as_data,
    as_seen,
    as_task,
    choice_faults,
    device_faults,
    refuse_arrays,
)
from gnnscale.train.config import ClusterConfig
from gnnscale.train.ranks import stored_once
from gnnscale.train.run.callbacks import Callback
from gnnscale.train.run.identity import describe_data
from gnnscale.train.sizes import evaluation_interval, sizes_for
from gnnscale.train.steps.first_hop import first_hop
from gnnscale.train.steps.optimizers import describe
from gnnscale.train.task import Task
from gnnscale.train.trainer import Trainer

logger = logging.getLogger(__name__)


class ClusterTrainer(Trainer):
    """Trains on mini-batches of clusters and evaluates exactly on the full graph.

    A step draws `clusters_per_batch` of `num_parts` clusters, takes the subgraph induced by their
    union, links between them included, renormalises it, and takes one optimizer step (Chiang et
    al., KDD 2019, algorithm 1). One part is full-batch training.

    Args:
        model: a `LayeredGNN`, a PyG `BasicGNN`, or a list of convolutions (see `nn.as_layered`).
        graph: a `Graph`, a `ClusteredGraph` (its clusters are used; its view "train" is
            `inductive=True`), or PyG `Data`.
        num_parts: clusters that are trained on. With None, as many as give batches of this size: a
            batch's widest activation takes 8 MiB at most and 2²⁰ edges arrive at it, and an epoch
            has eight steps as long as a batch keeps 512 nodes. Of a multi-graph data set, every
            graph that is trained on is a part at least.
        clusters_per_batch: clusters a step. With None, up to ten, of 128 nodes at least, or as many
            of the clusters given as make a batch of the size above.
        epochs: passes over the clusters.
        lr: learning rate (for the named optimizers).
        seed: of partition, draws and dropout. The model's initial weights are the caller's: seed
            torch before building it.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ….
        run_dir: a folder for checkpoint, report and curves; without it nothing is written.
        inductive: partition and train on the subgraph of the training nodes; evaluate on the whole
            graph. Other nodes join the clusters of most of their neighbours for storage alone;
            graphs without training nodes are clusters of their own beyond `num_parts`.
        evaluate_every: epochs between evaluations. "auto" takes the fewest that keep their
            computed work under a tenth of training's; it depends on sizes alone, so that a resumed
            run evaluates where an uninterrupted one does. The last epoch is always evaluated.
        optimizer: "adam", "adamw", "sgd" (momentum 0.9), or a function from parameters to an
            optimizer.
        scheduler: None, "cosine", "onecycle" (both advance every step), or a function from the
            optimizer to a schedule that advances every epoch. `ReduceLROnPlateau` watches the
            validation metric where its mode is the metric's direction, else the training loss.
        task: "auto" takes the graph's; or "classification", "multilabel" or "regression", for which
            its labels are then read; or a `Task`.
        callbacks: `Callback`s, such as `TensorBoard`.
        method: partitioner: "auto", "kaminpar", "metis", "streaming", "random", "contiguous", or a
            function (see `partition`).
        partition_seed: of the partition, for runs that share one and differ in `seed`; None takes
            `seed`.
        balance: "nodes", "edges" or how many edges cost as much as a node: what the partitioner
            evens out.
        split: the split set.
        metric: the headline metric; the graph's, else the task's own, when None.
        weight_decay: for the named optimizers.
        parameter_groups: a function from the model to the optimizer's parameters or groups; what a
            task has to train besides is added, where it is not among them.
        clip_norm: greatest norm of an update's gradient.
        accumulate: batches an update of the weights (of every rank), as if they were one without
            the links between them; an epoch's last update may have fewer.
        gradient_compression: None, or "ternary": ranks exchange gradients in two bits a value
            (TernGrad, Wen et al., NeurIPS 2017), at some cost in accuracy.
        precision: "float32", or "bf16" or "fp16" for dense products in half precision beside
            parameters, norms and loss in float32. Evaluation is in float32. "fp16" needs a GPU.
        checkpoint_activations: keep what enters a block and compute the rest again in the backward
            pass: less memory for a third more time, the same weights bit for bit.
        compile: fuse the row-local phases of every block with `torch.compile`, which needs a C++
            compiler on the CPU and triton on CUDA. On the CPU it pays in runs of thousands of steps
            alone.
        class_weight: None, "balanced", or one weight a class.
        label_smoothing: for classification.
        early_stopping: stop after this many epochs without a better validation metric.
        keep: "best" ends with the weights of the best validation metric, "last" with the last.
        checkpoint_every: steps between checkpoints; "auto" writes one at the end of an epoch when
            20 seconds have passed since the last.
        precompute: compute the first propagation of the features once, over the whole graph that
            is trained on and with its degrees (Cluster-GCN, section 6.2). It needs a model that
            begins with it. Kept in memory, or in the store of a graph on disk.
        stratify: even out training nodes over batches.
        prefetch: batches prepared ahead.
        chunk_rows: rows at once in exact inference; chosen by size when None.
        storage: a folder for the layers of exact inference, instead of memory. With None, layers
            that do not fit in it go beside the run or the store, as those of a graph in files
            do.
        memory: bytes that `fit`, `evaluate` and `predict` may add to what the process holds, as
            "2GB" or a number. Exact inference keeps layers in files and cuts its work until it
            fits, clusters are fewer a batch where their number was left open, and what cannot be
            cut is refused before training, with the smallest bound that would do. "auto" goes by
            what there is.
        store: a folder for the clustered graph, instead of memory. With None, that of a graph in
            files goes into the run folder. A resumed run finds it there again.
        progress: show a progress bar on a terminal.

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

    def __init__(
        self,
        model: Any,
        graph: Any,
        num_parts: int | None = None,
        clusters_per_batch: int | None = None,
        epochs: int = 50,
        lr: float = 0.01,
        seed: int = 0,
        device: str = "auto",
        run_dir: str | Path | None = None,
        inductive: bool = False,
        evaluate_every: int | str = "auto",
        optimizer: str | Callable = "adam",
        scheduler: str | Callable | None = None,
        task: str | Task = "auto",
        callbacks: Sequence[Callback] = (),
        *,
        method: str | Callable = "auto",
        partition_seed: int | None = None,
        balance: str | float = "nodes",
        precompute: bool = False,
        split: str = "default",
        metric: str | None = None,
        weight_decay: float = 0.0,
        parameter_groups: Callable[[nn.Module], Iterable[Any]] | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        gradient_compression: str | None = None,
        precision: str = "float32",
        checkpoint_activations: bool = False,
        compile: bool = False,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        early_stopping: int | None = None,
        keep: str = "best",
        checkpoint_every: int | str = "auto",
        stratify: bool = True,
        prefetch: int = 2,
        chunk_rows: int | None = None,
        storage: str | Path | None = None,
        memory: int | str = "auto",
        store: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        arguments = locals()
        refuse_arrays(arguments, ClusterConfig)
        if not isinstance(split, str) or not isinstance(inductive, bool):
            raise InputError(f"split={split!r} must be a name, inductive={inductive!r} a bool")
        data = as_data(graph, task)
        whole = data.graph if isinstance(data, ClusteredGraph) else data
        split, inductive, faults = as_seen(data, split, inductive)
        self._takes_fewer = clusters_per_batch is None
        num_parts, clusters_per_batch, impossible = sizes_for(
            data, model, split, inductive, num_parts, clusters_per_batch
        )
        read = {
            "num_parts": num_parts,
            "clusters_per_batch": clusters_per_batch,
            "split": split,
            "inductive": inductive,
            "device": str(device),
            "storage": None if storage is None else str(storage),
            "store": None if store is None else str(store),
            "optimizer": describe(optimizer) or "",
            "scheduler": describe(scheduler),
            "parameter_groups": describe(parameter_groups),
            "method": describe(method) or "",
        }
        names = [field.name for field in dataclasses.fields(ClusterConfig)]
        config = ClusterConfig(**{**{name: arguments[name] for name in names}, **read})
        faults += [*config.faults(), *impossible]
        faults += choice_faults(optimizer, scheduler, method, parameter_groups, callbacks)
        faults += device_faults(config.device, config.precision)
        if precompute is True and whole.x is None:
            faults.append("precompute=True: the graph has no features x to propagate")
        try:
            task = as_task(task, whole, split, metric, class_weight, label_smoothing)
        except InputError as error:
            faults += error.faults
        if faults:
            raise InputError(faults)
        assert not isinstance(task, str)
        given = {"method": method != "auto", "balance": balance != "nodes", "store": store}
        if isinstance(data, ClusteredGraph) and (unused := [k for k, v in given.items() if v]):
            logger.warning(
                "%s: the graph comes in clusters, and is not clustered anew", ", ".join(unused)
            )
        self._data: Graph | ClusteredGraph = data
        self._clustered: ClusteredGraph | None = data if isinstance(data, ClusteredGraph) else None
        # Of another run on these data, which `bench` hands on.
        self._shared: ClusteredGraph | None = None
        self._method = method
        self._fingerprint: str | None = None
        self._loader: ClusterLoader | None = None
        self._resumed = False  # whether the run in the folder is this one
        self._stored = False  # whether the partition in use is the one in the folder
        super().__init__(
            as_layered(model),
            config,
            run_dir=run_dir,
            task=task,
            optimizer=optimizer,
            scheduler=scheduler,
            parameter_groups=parameter_groups,
            callbacks=callbacks,
        )
        self.config: ClusterConfig = config
        self._first = first_propagation(self.model) if precompute else None

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
            self.config.num_parts,
            method=self._method,
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
            from gnnscale.graph.store.cluster_folder import write_store

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

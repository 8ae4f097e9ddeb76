"""Clusters: the graph that is trained on, laid out by clusters when that is asked for."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.costs.layout import check_layout, kept_of_layout, partitioner_room
from gnnscale.costs.sizes import evaluation_interval, sizes_in_training, sizes_of_all
from gnnscale.data.changed import files_of
from gnnscale.errors import InputError
from gnnscale.graph import ClusteredGraph, Graph, Partition, open_graph
from gnnscale.graph.clustered import write_store
from gnnscale.graph.store.graph_folder import store_graph
from gnnscale.kernels import CSR
from gnnscale.loader import Assembler, Batch, ClusterLoader
from gnnscale.nn import Propagation, first_propagation
from gnnscale.partitioning import partition
from gnnscale.storage.mapped import is_mapped
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.arguments import Given
from gnnscale.train.known import Known
from gnnscale.train.options import ClusterOptions
from gnnscale.train.run.identity import stored_once
from gnnscale.train.run.records import Description
from gnnscale.train.session import Setup
from gnnscale.train.steps.first_hop import first_hop

logger = logging.getLogger(__name__)

MakeLoader = Callable[[ClusteredGraph, Tensor | CSR | None], ClusterLoader]


class Clusters:
    """A graph, its clusters, and the loader of their batches.

    Until it is prepared the graph is as it was given; from then on `graph` is in storage order.

    Args:
        setup: of the trainer.
        given: a graph; or a clustered one, whose clusters are used.
        num_parts: clusters to be made of a graph.
        known: what is known of the graph in training, which is what is trained on; None for all.
        inductive: whether training nodes alone are seen.
        method: partitioner.
        seed: of the partition.
        balance: what the partitioner evens out.
        store: a folder for the clustered graph; None for the run folder where the graph is in
            files, else for memory.
        first: a propagation of the features that is computed once, or None.
        keeps_given: whether a run keeps the graph as it was given, where it has to keep it, rather
            than in clusters.
        make_loader: makes the loader of what is seen, with the first hop; None where clusters are
            read by other means.
    """

    def __init__(
        self,
        setup: Setup,
        given: Graph | ClusteredGraph,
        num_parts: int,
        *,
        known: Known | None = None,
        inductive: bool,
        method: str | Callable = "auto",
        seed: int = 0,
        balance: str | float = "nodes",
        store: str | Path | None = None,
        first: Propagation | None = None,
        keeps_given: bool = False,
        make_loader: MakeLoader | None = None,
    ) -> None:
        self.given, self.known_then = given, known
        self.clustered = given if isinstance(given, ClusteredGraph) else None
        self._setup = setup
        self._num_parts, self._inductive = num_parts, inductive
        self._method, self._seed, self._balance = method, seed, balance
        self._store = None if store is None else Path(store)
        self._first, self._make_loader = first, make_loader
        self._keeps_given = keeps_given
        self._loader: ClusterLoader | None = None
        self._seen: ClusteredGraph | None = None
        self._hop: Tensor | CSR | None = None
        self._fingerprint: str | None = None
        self._reused: ClusteredGraph | None = None  # of another run on these data
        self.beside: dict[str, object] = {}  # what a trainer keeps of it, for the report
        self.is_resumed = False  # whether the run in the folder is this one
        self._stored = False  # whether the partition in use is the one in the folder

    @property
    def whole(self) -> Graph:
        """The graph as it was given."""
        return self.given.graph if isinstance(self.given, ClusteredGraph) else self.given

    @property
    def order(self) -> Tensor | None:
        """See `Data`."""
        return self.given.position if isinstance(self.given, ClusteredGraph) else None

    @property
    def graph(self) -> Graph:
        """See `Data`."""
        if self.clustered is not None:
            return self.clustered.graph
        return self.whole if self.known_then is None else self.known_then.train

    @property
    def position(self) -> Tensor | None:
        """See `Data`."""
        return None if self.clustered is None else self.clustered.position

    @property
    def node_id(self) -> Tensor | None:
        """See `Data`."""
        return None if self.clustered is None else self.clustered.node_id

    @property
    def seen(self) -> ClusteredGraph:
        """The clusters as training sees them."""
        if self._seen is None:
            clustered = self.laid_out()
            self._seen = clustered.view("train") if self._inductive else clustered
        return self._seen

    @property
    def known(self) -> ClusteredGraph:
        """The clusters that there are.

        Raises:
            InputError: there are none yet.
        """
        if self.clustered is None:
            raise InputError(
                "the graph is not in clusters yet: call prepare() first, which partitions it, or "
                "fit()"
            )
        return self.clustered

    @property
    def loader(self) -> ClusterLoader:
        """The batches of an epoch.

        Raises:
            InputError: the graph is not in clusters yet.
        """
        if self._loader is None and self.clustered is not None:
            self.prepare()
        if self._loader is None:
            raise InputError(
                "the batches are known once the graph is in clusters: call prepare() first, which "
                "partitions it, or fit()"
            )
        return self._loader

    @property
    def is_prepared(self) -> bool:
        """Whether there are batches."""
        return self._loader is not None

    def prepare(self) -> None:
        """Partition the graph, compute the first hop and make the loader. Done once."""
        if self._loader is not None or self._make_loader is None:
            return
        if self._first is not None:
            self._hop = self._precomputed(self.seen, self._first)
        self._loader = self._make_loader(self.seen, self._hop)
        logger.info(
            "%d of %d clusters a batch, %d steps an epoch",
            self._loader.clusters_per_batch,
            self._loader.clusters_drawn,
            len(self._loader),
        )

    def laid_out(self) -> ClusteredGraph:
        """The graph in clusters, which are made on first use. On every rank together."""
        if self.clustered is None:
            self.clustered = self._cluster()
        return self.clustered

    def to_come(self) -> int:
        """See `Evaluated`."""
        if self.clustered is not None or self._make_loader is None:
            return 0
        return kept_of_layout(self.graph, self._path() is not None)

    def check_room(self) -> None:
        """Find before a graph is partitioned what has no room within `memory`.

        Raises:
            MemoryBound: with the smallest bound that would do.
        """
        config = self._config
        if config.memory == "auto" or self.clustered is not None or self.is_resumed:
            return
        held = self._setup.held_bytes(self) - self.to_come()
        about = self._num_parts, self._method, config.memory, held
        check_layout(self.graph, *about, files=self._path() is not None)

    def lay_out(self) -> None:
        """See `Data`."""
        if self.is_resumed:  # as the run did, so that its trainer and this one give the same bits
            self.laid_out()

    def reuse(self, clustered: ClusteredGraph | None) -> None:
        """Take these clusters, of another run, where partitioning gives the same."""
        self._reused = clustered

    def interval(self, evaluated: Sequence[Graph]) -> int:
        """Epochs between evaluations of these graphs for `evaluate_every="auto"`."""
        trained = sizes_in_training(self.graph, self.seen.num_nodes, len(self.loader))
        whole, costs = sizes_of_all(evaluated), self._setup.job(self).costs
        return evaluation_interval(costs, trained, whole, first_hop=self._first is not None)

    def sample(self) -> Batch:
        """A batch of one cluster: that of most training nodes, or the largest where none has."""
        seen = self.seen
        counts = seen.train_counts if bool(seen.train_counts.any()) else seen.sizes
        return Assembler(seen)(counts.argmax().reshape(1))

    def segments(self) -> dict[str, Tensor]:
        """See `Data`."""
        modules = self._setup.model.modules()
        if any(getattr(module, "over", None) == "cluster" for module in modules):
            return {"cluster": self.laid_out().offsets}
        return {}

    def scratch(self) -> Path | None:
        """Where layers go that do not fit in memory: beside the run, else beside the store."""
        store = None if self.clustered is None else self.clustered.path
        folder = self._setup.folder
        folders = (folder and folder.path, store and store.parent)
        return next((path for path in folders if path and os.access(path, os.W_OK)), None)

    def _precomputed(self, seen: ClusteredGraph, propagation: Propagation) -> Tensor | CSR:
        started = time.monotonic()
        if seen.path is not None and comm.world_size() > 1:

            def write() -> None:
                first_hop(seen, propagation)

            comm.from_main(write)  # into the store, where all find it
        hop = first_hop(seen, propagation)
        self._setup.count("first hop", time.monotonic() - started)
        return hop

    def _cluster(self) -> ClusteredGraph:
        part, folder, config = comm.from_main(self._partition), self._setup.folder, self._config
        path = self._path()
        self._stored |= self.is_resumed
        started = time.monotonic()
        if self.is_resumed and folder is not None and path is not None:
            there = comm.from_main(lambda: folder.is_store_of_run(path))
            if there:
                return open_graph(path)
        if (reused := self._reused) is not None and reused.path == path:
            same_split = reused.split == config.split
            if same_split and torch.equal(reused.partition.assignment, part.assignment):
                return reused
        clustered = stored_once(self.graph, part, path, config.split, config.memory)
        self._setup.count("cluster", time.monotonic() - started)
        return clustered

    def _path(self) -> Path | None:
        """Where the clusters are written; None for memory."""
        folder = self._setup.folder
        if self._store is None and folder is not None and is_mapped(self.graph.adj.indices):
            return folder.store
        return self._store

    @property
    def _config(self) -> Any:
        return self._setup.config

    def _partition(self) -> Partition:
        config, folder = self._config, self._setup.folder
        if self.is_resumed:
            # The run's own: two-thread KaMinPar differs between runs.
            assert folder is not None
            return Partition.load(folder.partition)
        room = None
        if config.memory != "auto":
            held = self._setup.held_bytes(self) - self.to_come()
            room = partitioner_room(self.graph, memory_bytes(config.memory), held)
        part = partition(
            self.graph,
            self._num_parts,
            method=self._method,
            seed=self._seed,
            balance=self._balance,
            view="train" if self._inductive else "all",
            split=config.split,
            memory=room,
        )
        self._setup.count("partition", part.seconds)
        return part

    # --- in the folder of a run -------------------------------------------------------------

    def resume(self) -> None:
        """See `Data`."""
        self.is_resumed = True
        if isinstance(self.given, Graph) and not self._stored:  # perhaps made before that run
            self.clustered = self._loader = self._seen = self._hop = None

    def keep(self) -> None:
        """See `Data`."""
        comm.from_main(self._write)
        self._stored |= isinstance(self.given, Graph) and self.clustered is not None

    def _write(self) -> None:
        folder = self._setup.folder
        assert folder is not None
        if isinstance(self.given, ClusteredGraph):
            if self.given.path is None:
                write_store(self.given, folder.graph)
            return
        if self.clustered is not None:
            self.clustered.partition.save(folder.partition)
            if self.clustered.path is not None:
                folder.keep_store(self.clustered.path)
        if self.given.source is not None:
            return
        if self.clustered is None or self._keeps_given or self.known_then is not None:
            store_graph(self.given, folder.graph)
        elif not folder.is_store_of_run(folder.store):
            write_store(self.clustered, folder.graph)

    def identity(self) -> Description:
        """See `Data`."""
        if self._fingerprint is None:
            self._fingerprint = self.whole.fingerprint()
        return describe_data(self.given, self._fingerprint)

    def held(self) -> dict[str, object]:
        """See `Data`."""
        seen = self.graph if self.clustered is None else self.seen
        known = {} if self.known_then is None else self.known_then.held()
        return {
            "": seen,
            "whole": self.clustered,
            "given": self.given,
            "first_hop": self._hop,
            **known,
            **self.beside,
        }


def clusters_of(
    setup: Setup, given: Given[ClusterOptions], loader: Callable[..., ClusterLoader] = ClusterLoader
) -> Clusters:
    """The clusters that a trainer was given, or is to make, and their batches.

    Args:
        setup: of the trainer.
        given: what it was given, read.
        loader: makes the loader, of what a `ClusterLoader` takes.
    """
    config = given.config
    number, per_batch = config.num_parts, config.clusters_per_batch
    assert number is not None and per_batch is not None  # settled

    def make_loader(seen: ClusteredGraph, hop: Tensor | CSR | None) -> ClusterLoader:
        return loader(
            seen,
            per_batch,
            seed=config.seed,
            rank=comm.rank(setup.group),
            world_size=comm.world_size(setup.group),
            prefetch=config.prefetch,
            stratify=config.stratify,
            device=setup.device,
            first_hop=hop,
        )

    return Clusters(
        setup,
        given.data,
        number,
        known=given.known,
        inductive=config.inductive,
        method=config.method,
        seed=config.seed if config.partition_seed is None else config.partition_seed,
        balance=config.balance,
        store=config.store,
        first=first_propagation(given.model) if config.precompute else None,
        make_loader=make_loader,
    )


def describe_data(data: Graph | ClusteredGraph, fingerprint: str) -> Description:
    """What a run is trained on, and where it is found again; `fingerprint` is the graph's."""
    graph = data.graph if isinstance(data, ClusteredGraph) else data
    path = data.path if isinstance(data, ClusteredGraph) else None
    source = graph.source if path is None else str(path)
    return {
        "name": graph.name,
        "fingerprint": fingerprint,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "clustered": isinstance(data, ClusteredGraph),
        "clusters": _clusters(data) if isinstance(data, ClusteredGraph) else None,
        "source": source,
        "files": files_of(source),
    }


def _clusters(data: ClusteredGraph) -> str:
    """What the batches of a clustered graph depend on beside the graph."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (data.offsets, data.train_ends):
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()

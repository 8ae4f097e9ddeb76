"""ClusterTrainer: Cluster-GCN (Chiang et al., KDD 2019)."""

from __future__ import annotations

from functools import partial

from gnnscale.declared import takes
from gnnscale.graph import ClusteredGraph
from gnnscale.loader import ClusterLoader
from gnnscale.train.all_layers import AllLayers
from gnnscale.train.arguments import as_clusters, option_faults
from gnnscale.train.clusters import clusters_of
from gnnscale.train.evaluators.temporal import evaluator_of
from gnnscale.train.options import ClusterOptions
from gnnscale.train.session import Setup
from gnnscale.train.steps.batch_step import step_of_whole
from gnnscale.train.steps.dry_run import before_clusters, try_clusters
from gnnscale.train.trainer import Trainer


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
        given = as_clusters(options, option_faults(options))
        setup = Setup(given.model, given.task, given.config)
        self._clusters = data = clusters_of(setup, given)
        evaluator = evaluator_of(setup, data, data.interval)
        # No lambda: `copy.deepcopy` would leave it with the parts of the trainer it copies.
        check = partial(try_clusters, setup, data, evaluator, fewer=given.fewer)
        before = partial(before_clusters, setup, data, evaluator, fewer=given.fewer)
        sessions = AllLayers(setup, data, evaluator, check, step_of_whole, before=before)
        self._put_together(setup, data, evaluator, sessions)

    @property
    def loader(self) -> ClusterLoader:
        """The batches of an epoch.

        Raises:
            InputError: the graph is not in clusters yet: `prepare()` partitions it, and `fit()`.
        """
        return self._clusters.loader

    @property
    def clustered(self) -> ClusteredGraph:
        """The clustered graph.

        Raises:
            InputError: the graph is not in clusters yet: `prepare()` partitions it, and `fit()`.
        """
        return self._clusters.known

    def reuse(self, clustered: ClusteredGraph | None) -> None:
        """Take the clusters of another trainer where partitioning gives the same: see `bench`."""
        self._clusters.reuse(clustered)

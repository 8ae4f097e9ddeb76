"""The clusters that opaque stages are trained on: made once a run, and found again by the next."""

from __future__ import annotations

import time
from collections.abc import Callable

from gnnscale import comm
from gnnscale.graph import ClusteredGraph, Graph, Partition, open_graph
from gnnscale.partitioning import partition
from gnnscale.storage.mapped import is_mapped
from gnnscale.train.options import LayerwiseOptions
from gnnscale.train.ranks import stored_once
from gnnscale.train.run.folder import RunFolder


def clusters_for(
    graph: Graph,
    num_parts: int,
    config: LayerwiseOptions,
    folder: RunFolder | None,
    resumed: bool,
    count: Callable[[str, float], None],
) -> ClusteredGraph:
    """Cluster a graph.

    Args:
        graph: the graph.
        num_parts: how many clusters are trained on.
        config: the trainer's.
        folder: of the run, which takes the clusters of a graph in files.
        resumed: whether the run's own partition is in the folder: partitioners that use two threads
            differ from call to call.
        count: takes the name and the seconds of what was done.

    Raises:
        StoreError: what a run kept is damaged, or the folder cannot be written.
    """
    path = folder.store if folder is not None and is_mapped(graph.adj.indices) else None
    if resumed:
        assert folder is not None
        part = comm.from_main(lambda: Partition.load(folder.partition))
        if path is not None and comm.from_main(lambda: folder.is_store_of_run(path)):
            return open_graph(path)  # type: ignore[return-value]
    else:
        view = "train" if config.inductive else "all"
        part = comm.from_main(
            lambda: partition(graph, num_parts, seed=config.seed, view=view, split=config.split)
        )
        count("partition", part.seconds)
    started = time.monotonic()
    clustered = stored_once(graph, part, path, config.split, config.memory)
    count("cluster", time.monotonic() - started)
    return clustered


def keep_clusters(clustered: ClusteredGraph, folder: RunFolder) -> None:
    """Note in the folder of a run which clusters it has."""
    clustered.partition.save(folder.partition)
    if clustered.path is not None:
        folder.keep_store(clustered.path)

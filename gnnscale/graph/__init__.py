"""Graphs, partitions, the cluster-contiguous layout and its on-disk format."""

from gnnscale.graph.adjacency import Adjacency, as_adjacency
from gnnscale.graph.clustered import ClusteredGraph, cluster
from gnnscale.graph.graph import Graph, Split
from gnnscale.graph.induced import subgraph
from gnnscale.graph.partition import Partition, PartitionQuality
from gnnscale.graph.store import is_store, open_graph, verify_store

__all__ = [
    "Adjacency",
    "ClusteredGraph",
    "Graph",
    "Partition",
    "PartitionQuality",
    "Split",
    "as_adjacency",
    "cluster",
    "is_store",
    "open_graph",
    "subgraph",
    "verify_store",
]

"""Graphs, partitions, the cluster-contiguous layout and its on-disk format."""

from gnnscale.graph.adjacency import Adjacency, as_adjacency
from gnnscale.graph.build.edge_arrays import edge_chunks
from gnnscale.graph.build.external import build_graph
from gnnscale.graph.clustered import ClusteredGraph, cluster, open_graph
from gnnscale.graph.graph import Graph
from gnnscale.graph.induced import subgraph
from gnnscale.graph.names import NodeNames
from gnnscale.graph.partition import Partition, PartitionQuality
from gnnscale.graph.reading.nodes import Split
from gnnscale.graph.schema import Schema
from gnnscale.graph.store.cluster_folder import is_store, verify_store
from gnnscale.graph.store.graph_folder import (
    checked_graph_path,
    is_stored_graph,
    open_stored_graph,
    store_graph,
    verify_stored_graph,
)

__all__ = [
    "Adjacency",
    "ClusteredGraph",
    "Graph",
    "NodeNames",
    "Partition",
    "PartitionQuality",
    "Schema",
    "Split",
    "as_adjacency",
    "build_graph",
    "checked_graph_path",
    "cluster",
    "edge_chunks",
    "is_store",
    "is_stored_graph",
    "open_graph",
    "open_stored_graph",
    "store_graph",
    "subgraph",
    "verify_store",
    "verify_stored_graph",
]

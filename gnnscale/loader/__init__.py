"""Mini-batches of clusters: which clusters a step draws, and how its batch is put together."""

from gnnscale.loader.batch import Assembler, Batch
from gnnscale.loader.cluster_loader import ClusterLoader, draw_batches
from gnnscale.loader.graph_loader import GraphLoader

__all__ = ["Assembler", "Batch", "ClusterLoader", "GraphLoader", "draw_batches"]

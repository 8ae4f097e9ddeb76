"""Partitioning: from a graph to parts with few edges between them."""

from gnnscale.partitioning.dispatch import METHODS, partition
from gnnscale.partitioning.methods import contiguous_parts, random_parts
from gnnscale.partitioning.native.libraries import KAMINPAR_PRESETS, run_kaminpar, run_metis
from gnnscale.partitioning.native.structure import Structure, check_undirected, undirected
from gnnscale.partitioning.repairs import repair
from gnnscale.partitioning.streaming import run_streaming

__all__ = [
    "KAMINPAR_PRESETS",
    "METHODS",
    "Structure",
    "check_undirected",
    "contiguous_parts",
    "partition",
    "random_parts",
    "repair",
    "run_kaminpar",
    "run_metis",
    "run_streaming",
    "undirected",
]

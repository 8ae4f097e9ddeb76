"""gnnscale: graph neural networks on graphs too large for full-batch training.

Names are loaded on first use: `import gnnscale` imports no torch.

Example:
    >>> import gnnscale as gs
    >>> graph = gs.load("wordnet")
    >>> model = gs.nn.GraphSAGE(graph.num_features, 128, 3, graph.num_classes, dropout=0.3)
    >>> trainer = gs.ClusterTrainer(model, graph, num_parts=150, clusters_per_batch=15, epochs=20)
    >>> report = trainer.fit()  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "gnnscale.errors": (
        "GnnscaleError",
        "InexactConvolution",
        "InputError",
        "MissingDependency",
        "PartitionError",
        "RunInUse",
        "RunMismatch",
        "StoreError",
        "UnsupportedModel",
    ),
    "gnnscale.graph": (
        "Adjacency",
        "ClusteredGraph",
        "Graph",
        "Partition",
        "build_graph",
        "cluster",
        "open_graph",
    ),
    "gnnscale.parallel": ("PipelineTrainer",),
    "gnnscale.partitioning": ("partition",),
    "gnnscale.data": ("from_edge_list", "load"),
    "gnnscale.loader": ("Batch", "ClusterLoader"),
    "gnnscale.benchmarking": ("BenchReport", "CrossValidation", "baselines", "bench", "k_fold"),
    "gnnscale.statistics": ("describe",),
    "gnnscale.train": (
        "Callback",
        "ClusterTrainer",
        "FixedEpochs",
        "GraphTrainer",
        "LayerwiseTrainer",
        "LearnedController",
        "NodeTask",
        "Plateau",
        "Report",
        "Task",
        "TensorBoard",
        "load_run",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = ("nn",)

__all__ = [
    "Adjacency",
    "Batch",
    "BenchReport",
    "Callback",
    "ClusterLoader",
    "ClusterTrainer",
    "ClusteredGraph",
    "CrossValidation",
    "FixedEpochs",
    "GnnscaleError",
    "Graph",
    "GraphTrainer",
    "InexactConvolution",
    "InputError",
    "LayerwiseTrainer",
    "LearnedController",
    "MissingDependency",
    "NodeTask",
    "Partition",
    "PartitionError",
    "PipelineTrainer",
    "Plateau",
    "Report",
    "RunInUse",
    "RunMismatch",
    "StoreError",
    "Task",
    "TensorBoard",
    "UnsupportedModel",
    "baselines",
    "bench",
    "build_graph",
    "cluster",
    "describe",
    "from_edge_list",
    "k_fold",
    "load",
    "load_run",
    "nn",
    "open_graph",
    "partition",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"gnnscale.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gnnscale' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if TYPE_CHECKING:
    from gnnscale import nn
    from gnnscale.benchmarking import BenchReport, CrossValidation, baselines, bench, k_fold
    from gnnscale.data import from_edge_list, load
    from gnnscale.errors import (
        GnnscaleError,
        InexactConvolution,
        InputError,
        MissingDependency,
        PartitionError,
        RunInUse,
        RunMismatch,
        StoreError,
        UnsupportedModel,
    )
    from gnnscale.graph import (
        Adjacency,
        ClusteredGraph,
        Graph,
        Partition,
        build_graph,
        cluster,
        open_graph,
    )
    from gnnscale.loader import Batch, ClusterLoader
    from gnnscale.parallel import PipelineTrainer
    from gnnscale.partitioning import partition
    from gnnscale.statistics import describe
    from gnnscale.train import (
        Callback,
        ClusterTrainer,
        FixedEpochs,
        GraphTrainer,
        LayerwiseTrainer,
        LearnedController,
        NodeTask,
        Plateau,
        Report,
        Task,
        TensorBoard,
        load_run,
    )

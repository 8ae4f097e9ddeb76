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
    "gnnscale.planning": ("Plan", "plan"),
    "gnnscale.data": ("append", "from_edge_list", "load"),
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

__all__ = [*_HOME_OF, *_ROOMS]


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


if TYPE_CHECKING:  # each by its own name: it is given on
    from gnnscale import nn as nn
    from gnnscale.benchmarking import BenchReport as BenchReport
    from gnnscale.benchmarking import CrossValidation as CrossValidation
    from gnnscale.benchmarking import baselines as baselines
    from gnnscale.benchmarking import bench as bench
    from gnnscale.benchmarking import k_fold as k_fold
    from gnnscale.data import append as append
    from gnnscale.data import from_edge_list as from_edge_list
    from gnnscale.data import load as load
    from gnnscale.errors import GnnscaleError as GnnscaleError
    from gnnscale.errors import InexactConvolution as InexactConvolution
    from gnnscale.errors import InputError as InputError
    from gnnscale.errors import MissingDependency as MissingDependency
    from gnnscale.errors import PartitionError as PartitionError
    from gnnscale.errors import RunInUse as RunInUse
    from gnnscale.errors import RunMismatch as RunMismatch
    from gnnscale.errors import StoreError as StoreError
    from gnnscale.errors import UnsupportedModel as UnsupportedModel
    from gnnscale.graph import Adjacency as Adjacency
    from gnnscale.graph import ClusteredGraph as ClusteredGraph
    from gnnscale.graph import Graph as Graph
    from gnnscale.graph import Partition as Partition
    from gnnscale.graph import build_graph as build_graph
    from gnnscale.graph import cluster as cluster
    from gnnscale.graph import open_graph as open_graph
    from gnnscale.loader import Batch as Batch
    from gnnscale.loader import ClusterLoader as ClusterLoader
    from gnnscale.parallel import PipelineTrainer as PipelineTrainer
    from gnnscale.partitioning import partition as partition
    from gnnscale.planning import Plan as Plan
    from gnnscale.planning import plan as plan
    from gnnscale.statistics import describe as describe
    from gnnscale.train import Callback as Callback
    from gnnscale.train import ClusterTrainer as ClusterTrainer
    from gnnscale.train import FixedEpochs as FixedEpochs
    from gnnscale.train import GraphTrainer as GraphTrainer
    from gnnscale.train import LayerwiseTrainer as LayerwiseTrainer
    from gnnscale.train import LearnedController as LearnedController
    from gnnscale.train import NodeTask as NodeTask
    from gnnscale.train import Plateau as Plateau
    from gnnscale.train import Report as Report
    from gnnscale.train import Task as Task
    from gnnscale.train import TensorBoard as TensorBoard
    from gnnscale.train import load_run as load_run

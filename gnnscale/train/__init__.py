"""Trainers: the shared loop, Cluster-GCN, tasks, checkpoints and reports.

Names are loaded on first use: `gnnscale.train.options` is read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # each by its own name: it is given on
    from gnnscale.train.cluster_trainer import ClusterTrainer as ClusterTrainer
    from gnnscale.train.controllers.learned import LearnedController as LearnedController
    from gnnscale.train.controllers.stopping import FixedEpochs as FixedEpochs
    from gnnscale.train.controllers.stopping import Plateau as Plateau
    from gnnscale.train.graph_trainer import GraphTrainer as GraphTrainer
    from gnnscale.train.layerwise.trainer import LayerwiseTrainer as LayerwiseTrainer
    from gnnscale.train.run.callbacks import Callback as Callback
    from gnnscale.train.run.callbacks import TensorBoard as TensorBoard
    from gnnscale.train.run.loading import Run as Run
    from gnnscale.train.run.loading import load_run as load_run
    from gnnscale.train.run.report import Report as Report
    from gnnscale.train.task import NodeTask as NodeTask
    from gnnscale.train.task import Task as Task
    from gnnscale.train.trainer import Trainer as Trainer
    from gnnscale.train.trainers import TRAINERS as TRAINERS

_HOME_OF = {
    "ClusterTrainer": "cluster_trainer",
    "GraphTrainer": "graph_trainer",
    "LayerwiseTrainer": "layerwise.trainer",
    "LearnedController": "controllers.learned",
    **dict.fromkeys(("FixedEpochs", "Plateau"), "controllers.stopping"),
    **dict.fromkeys(("Callback", "TensorBoard"), "run.callbacks"),
    **dict.fromkeys(("Run", "load_run"), "run.loading"),
    "Report": "run.report",
    **dict.fromkeys(("NodeTask", "Task"), "task"),
    "Trainer": "trainer",
    "TRAINERS": "trainers",
}
# Where these were before they had a room of their own.
_MOVED = (
    *("BenchReport", "CrossValidation", "baselines", "bench"),
    *("k_fold", "label_propagation", "majority", "perceptron"),
)

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return getattr(importlib.import_module("gnnscale.benchmarking"), name)
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gnnscale.train' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gnnscale.train.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value

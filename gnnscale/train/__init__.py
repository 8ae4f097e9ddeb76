"""Trainers: the shared loop, Cluster-GCN, tasks, checkpoints, reports and baselines."""

from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.config import ClusterConfig, TrainConfig
from gnnscale.train.graph_trainer import GraphTrainer
from gnnscale.train.layerwise import (
    FixedEpochs,
    LayerwiseTrainer,
    LearnedController,
    Plateau,
)
from gnnscale.train.run.callbacks import Callback, TensorBoard
from gnnscale.train.run.loading import Run, load_run
from gnnscale.train.run.report import Report
from gnnscale.train.task import NodeTask, Task
from gnnscale.train.trainer import Trainer
from gnnscale.train.trainers import TRAINERS

__all__ = [
    "TRAINERS",
    "Callback",
    "ClusterConfig",
    "ClusterTrainer",
    "FixedEpochs",
    "GraphTrainer",
    "LayerwiseTrainer",
    "LearnedController",
    "NodeTask",
    "Plateau",
    "Report",
    "Run",
    "Task",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "load_run",
]

"""Trainers: the shared loop, Cluster-GCN, tasks, checkpoints, reports and baselines."""

from gnnscale.train.baseline import baselines, label_propagation, majority, perceptron
from gnnscale.train.benchmarking import BenchReport, bench
from gnnscale.train.callbacks import Callback, TensorBoard
from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.config import ClusterConfig, TrainConfig
from gnnscale.train.cross_validation import CrossValidation, k_fold
from gnnscale.train.graph_trainer import GraphTrainer
from gnnscale.train.layerwise import (
    FixedEpochs,
    LayerwiseTrainer,
    LearnedController,
    Plateau,
)
from gnnscale.train.report import Report
from gnnscale.train.runs import Run, load_run
from gnnscale.train.task import NodeTask, Task
from gnnscale.train.trainer import Trainer
from gnnscale.train.trainers import TRAINERS

__all__ = [
    "TRAINERS",
    "BenchReport",
    "Callback",
    "ClusterConfig",
    "ClusterTrainer",
    "CrossValidation",
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
    "baselines",
    "bench",
    "k_fold",
    "label_propagation",
    "load_run",
    "majority",
    "perceptron",
]

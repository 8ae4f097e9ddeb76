"""Benchmarks: settings over several seeds or folds, beside baselines, as leaderboards ask."""

from gnnscale.benchmarking.baseline import baselines, label_propagation, majority, perceptron
from gnnscale.benchmarking.cross_validation import CrossValidation, k_fold
from gnnscale.benchmarking.report import BenchReport
from gnnscale.benchmarking.results import SeedResult, Spread
from gnnscale.benchmarking.seeds import bench

__all__ = [
    "BenchReport",
    "CrossValidation",
    "SeedResult",
    "Spread",
    "baselines",
    "bench",
    "k_fold",
    "label_propagation",
    "majority",
    "perceptron",
]

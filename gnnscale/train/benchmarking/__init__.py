"""Benchmarks: one set of settings over several seeds, reported as leaderboards ask."""

from gnnscale.train.benchmarking.results import BenchReport, SeedResult, Spread
from gnnscale.train.benchmarking.seeds import bench

__all__ = ["BenchReport", "SeedResult", "Spread", "bench"]

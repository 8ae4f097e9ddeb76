"""The main job over several seeds: accuracy and wall time of the quickstart, beside its baselines.

    python benchmarks/main_job.py --seeds 5

Seconds are wall time of partitioning, training with its evaluations, and the final evaluation.
Loading the graph, and compiling kernels for the first time (a warm-up run), are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.storage.files import write_json
from gnnscale.train.run.process import memory_use
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "main_job.json"


def train(graph: gs.Graph, seed: int, epochs: int = 40) -> dict[str, Any]:
    """One run with the settings of examples/quickstart.py."""
    torch.manual_seed(seed)
    model = gs.nn.GraphSAGE(
        graph.num_features,
        128,
        3,
        graph.num_classes,
        dropout=0.5,
        norm="layer_norm",
        norm_kwargs={"mode": "node"},
    )
    started = time.monotonic()
    trainer = gs.ClusterTrainer(
        model, graph, 150, 15, epochs=epochs, lr=0.005, seed=seed, progress=False
    )
    report = trainer.fit()
    seconds = time.monotonic() - started
    return {
        "seed": seed,
        "test_accuracy": report.final["test"]["accuracy"],
        "val_accuracy": report.final["val"]["accuracy"],
        "best_epoch": report.best_epoch,
        "seconds": seconds,
        "edge_cut": trainer.clustered.partition.quality(graph).edge_cut,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    # A cached partition would hide its seconds.
    os.environ["GNNSCALE_CACHE"] = tempfile.mkdtemp()
    graph = gs.load("wordnet")
    train(graph, seed=0, epochs=1)
    runs = [train(graph, seed) for seed in range(1, seeds + 1)]
    baselines = gs.baselines(graph)
    accuracy = [run["test_accuracy"] for run in runs]
    seconds = [run["seconds"] for run in runs]
    result = {
        "runs": runs,
        "baselines": baselines,
        "test_accuracy": {
            "mean": statistics.mean(accuracy),
            "sd": statistics.stdev(accuracy) if seeds > 1 else None,
        },
        "seconds": {"median": statistics.median(seconds), "max": max(seconds)},
        "memory": memory_use(),
        "environment": environment("cpu"),
    }
    write_json(RESULT, result)
    table = Table("", "test accuracy", "seconds (median)")
    for name, value in baselines.items():
        table.add_row(name, f"{value:.4f}", "")
    sd = f" ± {statistics.stdev(accuracy):.4f}" if seeds > 1 else ""
    table.add_row(
        f"GraphSAGE, cluster mini-batches, {seeds} seeds",
        f"{statistics.mean(accuracy):.4f}{sd}",
        f"{statistics.median(seconds):.1f}",
    )
    Console().print(table)


if __name__ == "__main__":
    main()

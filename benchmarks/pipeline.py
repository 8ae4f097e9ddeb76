"""The evidence for several devices: pipelines, data parallelism, compressed gradients.

    python benchmarks/pipeline.py --only makespan                # measured beside simulated
    python benchmarks/pipeline.py --only choice ternary --data FOLDER
    python benchmarks/pipeline.py --only makespan --device cuda  # a GPU a rank
    python benchmarks/pipeline.py --table                        # of the results so far

--data FOLDER has the data sets that are not shipped, as `<name>.npz` (see their cards). A run is in
results/pipeline-<section>.json as soon as it is done, and is not repeated with the same settings.
Ranks have one thread each, unless the table says otherwise. Nothing else should run beside it.

`makespan` computes in earnest where there are as many cores as ranks. Where there are fewer, ranks
wait instead of computing, as long as a profile of the same blocks says that they would compute: all
else is as it is, processes, messages, the memory that they need.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, cast

import pipeline_makespan as makespans
import pipeline_tables as tables
import pipeline_training as training
import torch
from campaign import RESULTS, run_all
from pipeline_ranks import on_ranks
from rich.console import Console
from rich.logging import RichHandler

import gnnscale as gs

# Micro-batches of 1,640 nodes and 32,000 edges; twelve blocks of one width.
GRAPH = "synthetic:planted?nodes=41000&communities=500&degree=25&features=100&exponent=2.5"
PARTS = 250
MAKESPAN: dict[str, Any] = {
    "model": {"hidden_channels": 128, "num_layers": 12, "dropout": 0.2},
    "clusters_per_batch": 10,
    "schedules": ["1f1b", "gpipe", "interleaved"],
    "micro_batches": [4, 8, 16],
    "steps": 30,
}
DEVICES, SHAPES = (2, 4), ("uniform", "skewed")

# Ranks and threads of each; equal cores but for the first.
WAYS = {
    "one process, one thread": (1, 1),
    "one process": (1, 2),
    "data parallel": (2, 1),
    "pipeline": (2, 1),
}
_CLUSTERS = {"num_parts": 192, "clusters_per_batch": 3}
CHOICE: dict[str, dict[str, Any]] = {
    "8 layers of 1024": {
        "model": {
            "hidden_channels": 1024, "num_layers": 8, "norm": "layer_norm",
            "norm_kwargs": {"mode": "node"}, "residual": True, "dropout": 0.2,
        },
        "train": {**_CLUSTERS, "epochs": 6, "lr": 0.003},
    },
    "3 layers of 128": {
        "model": {"hidden_channels": 128, "num_layers": 3, "dropout": 0.3},
        "train": {**_CLUSTERS, "epochs": 20, "lr": 0.01},
    },
}  # fmt: skip
BATCHES = 8  # an update
TERNARY: dict[str, Any] = {
    "model": {"hidden_channels": 128, "num_layers": 2, "dropout": 0.5, "norm": "graph_norm"},
    "train": {"num_parts": 32, "clusters_per_batch": 2, "lr": 0.005, "epochs": 40},
}
TERNARY_GRAPHS = ("amazon_computers", "coauthor_cs")


def makespan(args: argparse.Namespace) -> None:
    settings = []
    for devices, shape in product(args.devices, SHAPES):
        there = torch.cuda.device_count() if args.device == "cuda" else os.cpu_count() or 1
        settings.append(
            {
                "devices": devices,
                "shape": shape,
                "device": args.device,
                "computing": "real" if there >= devices else "waits",
                **MAKESPAN,
                **({} if args.steps is None else {"steps": args.steps}),
            }
        )
    if args.device == "cuda":
        settings = [setting for setting in settings if setting["computing"] == "real"]
    run_all("pipeline-makespan", makespan_of, settings)


def makespan_of(devices: int, **setting: Any) -> dict[str, Any]:
    picture = None
    if (devices, setting["shape"], setting["computing"]) == (2, "skewed", "real"):
        picture = str(RESULTS / f"pipeline-{setting['device']}.png")
    with tempfile.TemporaryDirectory() as folder:
        graph = gs.load(GRAPH)
        gs.cluster(graph, gs.partition(graph, PARTS, seed=0, deterministic=True), path=folder)
        return on_ranks(makespans.makespans, devices, 1, graph=folder, picture=picture, **setting)


def choice(args: argparse.Namespace) -> None:
    settings = [
        {"data": data, "network": name, "way": way, "batches": BATCHES, "seed": 0, **CHOICE[name]}
        for data, name, way in product(args.graphs, CHOICE, WAYS)
    ]
    run_all("pipeline-choice", choice_of, settings)


def choice_of(network: str, **setting: Any) -> dict[str, Any]:
    return on_ranks(training.choice, *WAYS[setting["way"]], **setting)


def ternary(args: argparse.Namespace) -> None:
    settings = [
        {"data": data, "compression": compression, "seed": seed, **TERNARY}
        for data, seed, compression in product(TERNARY_GRAPHS, range(args.seeds), (None, "ternary"))
    ]
    run_all("pipeline-ternary", ternary_of, settings)


def ternary_of(**setting: Any) -> dict[str, Any]:
    return on_ranks(training.ternary, 2, 1, **setting)


SECTIONS = {"makespan": makespan, "choice": choice, "ternary": ternary}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    add("--data", help="the folder of the data sets that are not shipped")
    add("--device", default="cpu", choices=["cpu", "cuda"], help="of makespan")
    add("--devices", type=int, nargs="*", default=DEVICES, help="of makespan")
    add("--steps", type=int, help="of makespan, of every schedule; half of them for its costs")
    add("--graphs", nargs="*", default=["amazon_computers"], help="of choice")
    add("--seeds", type=int, default=3, help="of ternary")
    add("--table", action="store_true", help="show the results so far, no more")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    logging.getLogger("campaign").addFilter(_shorten)
    if args.data:
        os.environ["GNNSCALE_DATASETS"] = str(Path(args.data).absolute())
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name in args.only:
        if not args.table:
            SECTIONS[name](args)
        for table in tables.TABLES[name]():
            console.print(table)


def _shorten(record: logging.LogRecord) -> bool:
    """Leave cases and curves out of what is said of a run."""
    *first, run = cast(tuple[Any, ...], record.args)
    short = {k: v for k, v in run.items() if isinstance(v, str | int | float)}
    record.args = (*first, short)
    return True


if __name__ == "__main__":
    main()

"""The evidence for layer-wise training: L-GCN and L²-GCN (You et al., CVPR 2020).

    python benchmarks/layerwise.py --only controllers      # learn the controller that others use
    python benchmarks/layerwise.py --only cora --jobs 2    # the paper's split and settings
    python benchmarks/layerwise.py --only graphs           # six graphs, every trainer
    python benchmarks/layerwise.py --only sampled --peer PYTHON   # GraphSAGE in DGL, beside them
    python benchmarks/layerwise.py --only epoch amazon2m memory
    python benchmarks/layerwise.py --table                 # of the results so far

--data FOLDER has the data sets that are not shipped, as `<name>.npz` (see their cards); --peer is
an interpreter with DGL 1.1.3 and what gnnscale needs. `amazon2m` and `memory` read
synthetic:amazon2m from $GNNSCALE_CACHE, and make it there the first time. A run is in
results/layerwise_<section>.json as soon as it is done, and is not repeated with the same settings.

Seconds are those of training: partition and aggregation count, evaluation does not. Where seconds
or memory matter, runs go one after the other, those of one kind in a process of their own; --jobs
is for what is not timed (cora). Peak memory is summed PSS, about 0.4 GB of it imported libraries.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
from itertools import product
from pathlib import Path
from typing import Any, cast

import layerwise_runs as runs
import layerwise_scale as scale
import layerwise_settings as chosen
import layerwise_tables as tables
from campaign import run_all
from rich.console import Console
from rich.logging import RichHandler


def cora(args: argparse.Namespace) -> None:
    settings = [
        {"propagation": p, "method": m, "seed": s, "learned": learned(m)}
        for p, m, s in product(chosen.PROPAGATIONS, chosen.CONTROLLERS, seeds(args, chosen.SEEDS))
    ]
    run_all("layerwise_cora", runs.cora, settings, workers=args.jobs, threads=1)


def graphs(args: argparse.Namespace) -> None:
    for data, method in product(args.graphs, args.methods):
        few = data in chosen.LARGE or method == "full"
        most = chosen.SEEDS_OF_LARGE if few else chosen.SEEDS
        settings = [
            {
                "data": data,
                "method": method,
                "seed": seed,
                "settings": chosen.settings_of(data, method),
                "learned": learned(method),
            }
            for seed in seeds(args, most)
        ]
        run_all("layerwise_graphs", runs.graphs, settings, threads=args.threads)


def sampled(args: argparse.Namespace) -> None:
    settings = [
        {
            "data": data,
            "seed": seed,
            "hidden": chosen.LAYERWISE[data]["model"]["hidden_channels"],
            "settings": chosen.SAMPLED,
            "threads": args.threads,
        }
        for data in args.graphs
        for seed in seeds(args, chosen.SEEDS_OF_LARGE)
    ]
    run_all("layerwise_sampled", runs.sampled, settings)


def controllers(args: argparse.Namespace) -> None:
    run_all("layerwise_controllers", runs.learn, [chosen.LEARN], threads=args.threads)


def epoch(args: argparse.Namespace) -> None:
    run_all("layerwise_epoch", scale.epoch, list(chosen.EPOCH), threads=args.threads)


def amazon2m(args: argparse.Namespace) -> None:
    for size, method in product(args.scales, chosen.AMAZON2M):
        settings = [
            {"scale": size, "method": method, "seed": s, "settings": chosen.AMAZON2M[method]}
            for s in seeds(args, 1 if size >= 1 else 3)
        ]
        run_all("layerwise_amazon2m", scale.amazon2m, settings, threads=args.threads)


def memory(args: argparse.Namespace) -> None:
    for size in (0.25, 0.5, 1.0, 2.0):
        setting = {"scale": size, **chosen.MEMORY}
        run_all("layerwise_memory", scale.memory, [setting], threads=args.threads)


SECTIONS = {
    "controllers": controllers,
    "cora": cora,
    "graphs": graphs,
    "sampled": sampled,
    "epoch": epoch,
    "amazon2m": amazon2m,
    "memory": memory,
}


def learned(method: str) -> str | None:
    """What tells controllers apart: runs of another one are not this one's."""
    if method != "learned":
        return None
    if not runs.CONTROLLER.exists():
        raise SystemExit("no controller was learnt yet: run --only controllers first")
    return hashlib.sha256(runs.CONTROLLER.read_bytes()).hexdigest()[:12]


def seeds(args: argparse.Namespace, most: int) -> range:
    return range(min(most, args.seeds))


def shorten(record: logging.LogRecord) -> bool:
    """Leave curves out of what is said of a run."""
    *first, run = cast(tuple[Any, ...], record.args)
    short = {k: v for k, v in run.items() if isinstance(v, str | int | float)}
    record.args = (*first, short)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    add("--data", help="the folder of the data sets that are not shipped")
    add("--peer", default=sys.executable, help="an interpreter that has DGL")
    add("--graphs", nargs="*", default=chosen.GRAPHS, choices=chosen.GRAPHS)
    add("--methods", nargs="*", default=chosen.METHODS, choices=chosen.METHODS)
    add("--scales", type=float, nargs="*", default=[0.25, 1.0], help="of amazon2m")
    add("--seeds", type=int, default=10, help="at most; large graphs take 3")
    add("--threads", type=int, default=2, help="of a timed run")
    add("--jobs", type=int, default=1, help="runs at once, of what is not timed")
    add("--table", action="store_true", help="show the results so far, no more")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    logging.getLogger("campaign").addFilter(shorten)
    if args.data:
        os.environ["GNNSCALE_DATASETS"] = str(Path(args.data).absolute())
    os.environ[runs.PEER] = args.peer
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name in args.only:
        if not args.table:
            SECTIONS[name](args)
        for table in tables.TABLES[name]():
            console.print(table)


if __name__ == "__main__":
    main()

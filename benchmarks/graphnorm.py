"""The evidence for GraphNorm (Cai et al., ICML 2021) and its family.

    python benchmarks/graphnorm.py equality                # against PyG and against float64
    python benchmarks/graphnorm.py chunks --data FOLDER    # exact inference, chunk by chunk
    python benchmarks/graphnorm.py speed                   # against PyG and the memory's own speed
    python benchmarks/graphnorm.py tu --data FOLDER        # graph classification, ten folds
    python benchmarks/graphnorm.py nodes --data FOLDER     # cluster batches on three graphs
    python benchmarks/graphnorm.py tables                  # of the results so far, and the picture

FOLDER holds the data sets that are not shipped, as `<name>.npz` (see their cards). Results are in
results/graphnorm-<section>.json; `tu` and `nodes` keep every run as soon as it is done, and go on
where they were stopped. `--device cuda` takes equality and speed to a GPU, where operations of
PyTorch stand in for the kernels.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import graphnorm_exact as exact
import graphnorm_nodes as nodes
import graphnorm_speed as speed
import graphnorm_tables as tables
import graphnorm_tu as tu
import torch
from campaign import RESULTS, run_all
from rich.console import Console
from rich.logging import RichHandler

from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment


def equality(args: argparse.Namespace) -> None:
    keep("equality", args, exact.equality(args.device))


def chunks(args: argparse.Namespace) -> None:
    keep("chunks", args, exact.chunks())


def speed_(args: argparse.Namespace) -> None:
    keep("speed", args, speed.measure(args.device, args.rounds, args.threads))


def tu_(args: argparse.Namespace) -> None:
    grid = product(args.models, args.protocols, args.graphs or tu.SETS, tu.NORMS)
    names = ("data", "model", "norm", "protocol", "epochs", "folds")
    settings = [
        dict(zip(names, (data, m, norm, p, tu.EPOCHS[data], args.folds), strict=True))
        for m, p, data, norm in grid
    ]
    run_all("graphnorm-tu", tu.cross_validate, settings, threads=args.threads)


def nodes_(args: argparse.Namespace) -> None:
    settings = [
        {"data": data, "norm": norm, "seed": seed}
        for seed, data, norm in product(range(args.seeds), args.graphs or nodes.GRAPHS, nodes.NORMS)
    ]
    run_all("graphnorm-nodes", nodes.train, settings, threads=args.threads)


def keep(section: str, args: argparse.Namespace, found: dict) -> None:
    machine = {**environment(args.device), "threads": args.threads}
    write_json(RESULTS / f"graphnorm-{section}.json", {"environment": machine, **found})


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "equality": equality,
    "chunks": chunks,
    "speed": speed_,
    "tu": tu_,
    "nodes": nodes_,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("section", choices=(*SECTIONS, "tables"))
    add("--data", help="the folder of the data sets that are not shipped")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--threads", type=int, default=2)
    add("--rounds", type=int, default=15, help="of speed")
    add("--graphs", nargs="*", help="these data sets only")
    add("--models", nargs="*", default=["gin"], choices=tu.MODELS)
    add("--protocols", nargs="*", default=["validation"], choices=tu.PROTOCOLS)
    add("--folds", type=int, default=tu.FOLDS, help="of tu: the first so many of ten, from 2 on")
    add("--seeds", type=int, default=5, help="of nodes")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    logging.getLogger("campaign").addFilter(tables.shorten)
    torch.set_num_threads(args.threads)
    if args.data:
        os.environ["GNNSCALE_DATASETS"] = str(Path(args.data).absolute())
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = tables.TABLES if args.section == "tables" else [args.section]
    if args.section in SECTIONS:
        SECTIONS[args.section](args)
    for name in shown:
        for table in tables.TABLES[name]():
            console.print(table)


if __name__ == "__main__":
    main()

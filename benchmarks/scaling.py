"""Training out of core at four sizes of graph and one size of batch: what grows, and what does not.

    python benchmarks/scaling.py --scales 0.25 0.5 1 2

Parts are proportional to the scale and a batch draws as many, so that it has the same nodes at
every scale. Each measurement is a process of its own, which trains a 3-layer GCN-400 for a fixed
number of steps; rounds go through the scales in turn, so that a noisy machine hurts all alike. Of
each scale the table has the median seconds a node, and the greatest peak of summed PSS apart from
the arrays of O(nodes) that are in memory, which are listed with their bytes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.graph import is_store
from gnnscale.storage.allocator import kept_buffers
from gnnscale.storage.files import write_json
from gnnscale.train.run.process import MemoryMeter, resident_arrays
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "scaling.json"
WARM_UP = 20  # steps: compiling, and buffers that reach their size


def make_store(args: argparse.Namespace, scale: float) -> None:
    store = args.folder / f"store-{scale:g}"
    if not is_store(store):
        graph = gs.load(f"synthetic:amazon2m?scale={scale}")
        parts = max(1, round(args.parts * scale))
        gs.cluster(graph, gs.partition(graph, parts, method=args.method), store)


def measure(store: str, steps: int) -> dict[str, Any]:
    """Train for some steps, as `fit` does."""
    with MemoryMeter() as meter, kept_buffers():
        clustered = gs.open_graph(store)
        torch.manual_seed(0)
        graph = clustered.graph
        model = gs.nn.GCN(graph.num_features, 400, 3, graph.num_classes, dropout=0.2)
        trainer = gs.ClusterTrainer(model, clustered, clusters_per_batch=10, progress=False)
        trainer.start()
        nodes = done = 0
        while done < WARM_UP + steps:
            for batch in trainer.loader:
                if done == WARM_UP:
                    nodes, started = 0, time.monotonic()
                trainer.step(batch)
                nodes += batch.num_nodes
                done += 1
                if done == WARM_UP + steps:
                    break
        seconds = time.monotonic() - started
        arrays = resident_arrays(trainer.loader.clustered)
    return {
        "num_nodes": clustered.graph.num_nodes,
        "num_edges": clustered.graph.num_edges,
        "seconds_per_node": seconds / nodes,
        "batch_nodes": nodes / steps,
        "peak_pss": meter.peak.together,
        "peak_anonymous": meter.peak.anonymous,
        "peak_file": meter.peak.file_backed,
        "arrays": arrays,
    }


def summarised(scale: float, runs: list[dict[str, Any]]) -> dict[str, Any]:
    apart = [run["peak_pss"] - sum(run["arrays"].values()) for run in runs]
    return {
        "scale": scale,
        "seconds_per_node": statistics.median(run["seconds_per_node"] for run in runs),
        "peak_apart_from_arrays": statistics.median(apart),
        "runs": runs,
    }


def show(found: list[dict[str, Any]]) -> None:
    table = Table("scale", "nodes", "nodes a batch", "µs a node", "peak PSS, MB", "arrays, MB",
                  "peak apart, MB", title="training out of core")  # fmt: skip
    for row in found:
        run = row["runs"][0]
        table.add_row(
            f"{row['scale']:g}",
            f"{run['num_nodes']:,}",
            f"{run['batch_nodes']:.0f}",
            f"{row['seconds_per_node'] * 1e6:.1f}",
            f"{run['peak_pss'] / 1e6:.0f}",
            f"{sum(run['arrays'].values()) / 1e6:.1f}",
            f"{row['peak_apart_from_arrays'] / 1e6:.0f}",
        )
    least, most = found[0], found[-1]
    growth = most["peak_apart_from_arrays"] / least["peak_apart_from_arrays"] - 1
    times = [row["seconds_per_node"] for row in found]
    middle = statistics.median(times)
    spread = max(max(times) / middle - 1, 1 - min(times) / middle)
    console = Console()
    console.print(table)
    console.print(f"memory grows by {growth:+.1%} (target: at most 10 %)")
    console.print(f"seconds a node differ by {spread:.1%} from their median (target: 15 %)")
    console.print("arrays in memory:", most["runs"][0]["arrays"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scales", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0])
    add("--steps", type=int, default=200)
    add("--rounds", type=int, default=3)
    add("--parts", type=int, default=15_000, help="at scale 1")
    add("--method", default="streaming")
    add("--folder", type=Path, default=Path("runs/scaling"), help="of the stores, kept")
    add("--result", type=Path, default=RESULT)
    add("--measure", help=argparse.SUPPRESS)  # what a child is called with
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.steps)))
        return
    scales = sorted(args.scales)
    for scale in scales:
        make_store(args, scale)
    runs: dict[float, list[dict[str, Any]]] = {scale: [] for scale in scales}
    for _ in range(args.rounds):
        for scale in scales:
            store = str(args.folder / f"store-{scale:g}")
            command = [sys.executable, __file__, "--measure", store, "--steps", str(args.steps)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            runs[scale].append(json.loads(done.stdout.splitlines()[-1]))
    found = [summarised(scale, runs[scale]) for scale in scales]
    write_json(args.result, {"scales": found, "steps": args.steps, "method": args.method,
                             "environment": environment("cpu")})  # fmt: skip
    show(found)


if __name__ == "__main__":
    main()

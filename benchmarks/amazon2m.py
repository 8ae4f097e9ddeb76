"""The whole job at the size of Amazon2M, out of core: seconds and memory of every part.

    python benchmarks/amazon2m.py --scale 1 --epochs 40

Open, partition, store, train a 3-layer GCN-400 with a validation every five epochs, and the exact
test on the full graph. A part that is done is not done again after a kill: the partition and the
store are kept in the folder, the trainer goes on from its checkpoint, and what was measured of them
is kept beside. Memory is the peak of summed PSS over the process and its children, by part. Making
the data set is left out, as the paper leaves out its download.

With --memory-limit the job moves into a memory control group of its own, where that is permitted.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.graph import is_store
from gnnscale.storage.files import read_json, write_json
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.run.process import Footprint, MemoryMeter
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "amazon2m.json"
# Cluster-GCN (Chiang et al., KDD 2019), tables 8 and 13: what the paper took with a V100.
PAPER_SECONDS, PAPER_BYTES = 1523 + 148 + 2160, 2.2e9
_GROUP = "gnnscale-benchmark"
_NONE = Footprint()


class Parts:
    """Times and meters the parts of the job, and keeps what it found for a job that goes on."""

    def __init__(self, path: Path, meter: MemoryMeter) -> None:
        self.path = path
        self.meter = meter
        self.found: dict[str, dict[str, float]] = read_json(path) if path.exists() else {}

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        self.meter.reset()
        started = time.monotonic()
        result = work()
        self.add(name, time.monotonic() - started)
        return result

    def add(self, name: str, seconds: float, peak: Footprint | None = None) -> None:
        """Count a part that ends now; its peak is the highest of all the times it ran."""
        peak = self.meter.reset() if peak is None else peak
        before = self.found.get(name, {})
        now = dict(zip(("pss", "anonymous", "file"), peak, strict=True))
        self.found[name] = {
            "seconds": before.get("seconds", 0.0) + seconds,
            **{key: max(value, before.get(key, 0)) for key, value in now.items()},
        }
        write_json(self.path, self.found)

    @property
    def seconds(self) -> float:
        return sum(part["seconds"] for part in self.found.values())

    @property
    def peak(self) -> float:
        return max(part["pss"] for part in self.found.values())


class PartOfTraining(gs.Callback):
    """Counts the time from one epoch's end to the next in its part."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.evaluated = 0.0

    def on_fit_start(self, trainer: Any) -> None:
        self.parts.meter.reset()
        self.since = time.monotonic()
        self.evaluated = trainer.report.seconds.get("evaluate", 0.0)

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        now = time.monotonic()
        evaluated = trainer.report.seconds.get("evaluate", 0.0)
        validation = evaluated - self.evaluated
        if validation:  # what this epoch's peak is of; other epochs show that of training
            self.parts.add("validations", validation)
        self.parts.add("train", now - self.since - validation, _NONE if validation else None)
        self.since, self.evaluated = time.monotonic(), evaluated


def job(args: argparse.Namespace, name: str, parts: Parts) -> dict[str, Any]:
    folder = args.folder
    num_parts = max(1, round(args.parts * args.scale))
    store, assignment = folder / "store", folder / "partition.npz"
    if not is_store(store):
        graph = parts.run("open", lambda: gs.load(name))
        if assignment.exists():
            part = gs.Partition.load(assignment)
        else:
            part = parts.run(
                "partition",
                lambda: gs.partition(
                    graph,
                    num_parts,
                    method=args.method,
                    preset=args.preset,
                    memory=args.room,
                    cache=False,  # a cached partition would hide its seconds
                ),
            )
            part.save(assignment)
        parts.run("store", lambda: gs.cluster(graph, part, store))
        del graph, part
    clustered = gs.open_graph(store)
    torch.manual_seed(args.seed)
    model = gs.nn.GCN(
        clustered.graph.num_features, args.hidden, 3, clustered.graph.num_classes, dropout=0.2
    )
    trainer = gs.ClusterTrainer(
        model,
        clustered,
        clusters_per_batch=args.clusters,
        epochs=args.epochs,
        lr=args.lr,
        seed=args.seed,
        evaluate_every=args.evaluate_every,
        memory=args.memory,
        run_dir=folder / "run",
        callbacks=[PartOfTraining(parts)],
        checkpoint_every="auto",
    )
    report = trainer.fit()
    if "test" not in parts.found:
        parts.add("test", report.seconds["evaluate"] - parts.found["validations"]["seconds"])
    return {
        "graph": repr(clustered.graph),
        "method": clustered.method,
        "steps": len(trainer.loader) * args.epochs,
        "best_epoch": report.best_epoch,
        "val": report.best,
        "final": report.final,
        "first_epoch": report.rows[0],
        "arrays": report.memory["arrays"],
        "report": {"seconds": report.seconds, "memory": report.memory},
    }


def limit_memory(limit: int) -> str:
    """Move this process into a control group with a limit, and say how it went."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    at = {line.split(":")[1]: line.split(":", 2)[2].lstrip("/") for line in own}
    if "memory" in at:
        group = Path("/sys/fs/cgroup/memory") / at["memory"] / _GROUP
        names = ("memory.limit_in_bytes", "cgroup.procs")
    else:
        group = Path("/sys/fs/cgroup") / at.get("", "") / _GROUP
        names = ("memory.max", "cgroup.procs")
    try:
        group.mkdir(exist_ok=True)
        (group / names[0]).write_text(str(limit))
        (group / names[1]).write_text(str(os.getpid()))
    except OSError as error:
        return f"no control group at {group}: {error.strerror or error}"
    return f"limit of {limit / 1e9:.2f} GB, page cache included"


def show(result: dict[str, Any]) -> None:
    table = Table("", "seconds", "peak PSS, GB", "anonymous", "file-backed", title="amazon2m")
    for name, part in result["parts"].items():
        figures = (part[key] / 1e9 for key in ("pss", "anonymous", "file"))
        table.add_row(name, f"{part['seconds']:.1f}", *(f"{figure:.2f}" for figure in figures))
    table.add_section()
    table.add_row("all", f"{result['seconds']:.1f}", f"{result['peak_pss'] / 1e9:.2f}")
    table.add_row("target at scale 1", f"{PAPER_SECONDS}", f"{PAPER_BYTES / 1e9:.1f}")
    console = Console()
    console.print(table)
    console.print(result["limit"], *(f"{k}: {v}" for k, v in result["final"].items()), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--scale", type=float, default=1.0)
    add("--epochs", type=int, default=40)
    add("--evaluate-every", type=int, default=5)
    add("--parts", type=int, default=15_000, help="at scale 1")
    add("--clusters", type=int, default=10, help="a batch")
    add("--hidden", type=int, default=400)
    add("--lr", type=float, default=0.01)
    add("--seed", type=int, default=0)
    add("--method", default="kaminpar")
    add("--preset", default="auto")
    add("--room", help="what the partitioner may take; what there is if not given")
    add("--memory", default="1GB", help="what inference may hold of a layer")
    add("--memory-limit", help="of a control group, as 2.2GB")
    add("--data", help="another data set than synthetic:amazon2m at this scale")
    add("--folder", type=Path, default=Path("runs/amazon2m"), help="goes on with what is there")
    add("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    limit = "no limit"
    if args.memory_limit:
        limit = limit_memory(memory_bytes(args.memory_limit))
    args.folder.mkdir(parents=True, exist_ok=True)
    name = args.data or f"synthetic:amazon2m?scale={args.scale}"
    # Made in a process of its own, which leaves nothing in this one.
    make = f"import gnnscale; gnnscale.load({name!r})"
    subprocess.run([sys.executable, "-c", make], check=True)
    with MemoryMeter() as meter:
        parts = Parts(args.folder / "parts.json", meter)
        result = job(args, name, parts)
    result |= {
        "arguments": {k: v for k, v in vars(args).items() if not isinstance(v, Path)},
        "parts": parts.found,
        "seconds": parts.seconds,
        "peak_pss": parts.peak,
        "targets": {"seconds": PAPER_SECONDS, "peak_pss": PAPER_BYTES},
        "limit": limit,
        "environment": environment("cpu"),
    }
    write_json(args.result, result)
    show(result)


if __name__ == "__main__":
    main()

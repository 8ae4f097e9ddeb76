"""Partitioners on one graph: seconds, memory, cut and balance beside METIS, and the whole path.

    python benchmarks/partition.py --scale 1 --parts 15000              # METIS takes minutes
    python benchmarks/partition.py --scale 0.25 --methods kaminpar streaming path

Each contestant runs in a process of its own, through `gnnscale.partition` and from a stored graph,
one after the other; what is measured is kept, and a second call goes on where the first stopped
(`--again` measures anew). Memory is the summed PSS of that process and its worker, and the worker's
own peak as the system counts it, which for KaMinPar includes what it maps of its file. "others" is
the share of all cores that other processes took meanwhile: figures with a large one want repeating.

"path" is everything from a stored graph to a stored clustered graph, with KaMinPar: opening,
fingerprint, checks and export, the worker, repair, renumbering and storing. It is compared with the
seconds of KaMinPar's own process. Edges are directed ones, and edges a second are those of the
graph over all seconds of the call, whatever the number of passes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.partitioning.native import launch
from gnnscale.partitioning.native.launch import peak_memory
from gnnscale.storage.files import write_json
from gnnscale.train.run.process import MemoryMeter, footprint
from gnnscale.train.run.report import environment

RESULTS = Path(__file__).parent / "results"

CONTESTANTS: dict[str, dict[str, str]] = {
    "random": {"method": "random"},
    "streaming": {"method": "streaming"},
    "kaminpar": {"method": "kaminpar"},  # the settings that suit these parts
    "kaminpar-default": {"method": "kaminpar", "preset": "default"},
    "kaminpar-fast": {"method": "kaminpar", "preset": "fast"},
    "kaminpar-terapart-largek": {"method": "kaminpar", "preset": "terapart-largek"},
    "metis": {"method": "metis"},
}
PATH = "path"
# What the project asks for.
FASTER, LEANER, PATH_RATIO = 3.5, 4.0, 1.3
GAP_CLOSED, EDGES_PER_SECOND, BYTES_PER_NODE = 0.5, 5e6, 32


class Clock:
    """Wall seconds, and the share of all cores that other processes took meanwhile."""

    def __init__(self) -> None:
        self.started, self._busy, self._own = time.monotonic(), _busy(), _own()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def others(self) -> float:
        taken = (_busy() - self._busy) - (_own() - self._own)
        return max(0.0, taken / (self.seconds() * (os.cpu_count() or 1)))


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _own() -> float:
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


class Worker:
    """What is to be known of the native partitioner's process: its seconds and its peak."""

    def __init__(self) -> None:
        self.seconds, self.peak = 0.0, 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[Worker]:
        run, over = launch.run_worker, threading.Event()

        def timed(*arguments: Any) -> None:
            started = time.monotonic()
            run(*arguments)
            self.seconds += time.monotonic() - started

        def watch() -> None:
            while not over.wait(0.05):
                for child in psutil.Process().children():
                    self.peak = max(self.peak, peak_memory(child.pid))

        thread = threading.Thread(target=watch)
        launch.run_worker = timed
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
            launch.run_worker = run


def measure(name: str, source: str, parts: int, seed: int) -> dict[str, Any]:
    """Partition once, and store the result where the whole path is asked for."""
    _warm_up()
    steps: dict[str, float] = {}
    clock = Clock()
    graph = _timed(steps, "open", lambda: gs.load(source))
    with tempfile.TemporaryDirectory() as folder, Worker().watched() as worker:
        before = footprint()
        with MemoryMeter() as meter:
            if name == PATH:
                part = _timed(
                    steps,
                    "partition",
                    lambda: gs.partition(graph, parts, "kaminpar", seed, cache=folder),
                )
                _timed(steps, "store", lambda: gs.cluster(graph, part, Path(folder, "clustered")))
            else:
                part = _timed(
                    steps,
                    "partition",
                    lambda: gs.partition(graph, parts, seed=seed, cache=False, **CONTESTANTS[name]),
                )
        result = {
            "seconds": sum(steps.values()) if name == PATH else steps["partition"],
            "worker_seconds": worker.seconds,
            "steps": steps,
            "others": clock.others(),
            "peak_pss": meter.peak._asdict(),
            "grown_by": meter.peak.anonymous - before.anonymous,
            "worker_peak": worker.peak,
        }
    quality = part.quality(graph)
    return result | {
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "edge_cut": quality.edge_cut,
        "node_balance": quality.node_balance,
        "preset": part.parameters.get("preset"),
    }


def _warm_up() -> None:
    """Compile the kernels, or read them from numba's cache."""
    graph = gs.load("synthetic:planted?nodes=2000")
    with tempfile.TemporaryDirectory() as folder:
        for method in ("streaming", "contiguous"):
            part = gs.partition(graph, 20, method, cache=False)
        with contextlib.suppress(gs.errors.MissingDependency):
            part = gs.partition(graph, 20, "kaminpar", cache=folder)
        gs.cluster(graph, part, Path(folder, "clustered"))


def _timed(steps: dict[str, float], name: str, do: Callable[[], Any]) -> Any:
    started = time.monotonic()
    result = do()
    steps[name] = time.monotonic() - started
    return result


def run_apart(name: str, source: str, parts: int, seed: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    asked = [name, "--source", source, "--parts", str(parts), "--seed", str(seed)]
    command = [sys.executable, __file__, "--measure", *asked]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        subprocess.run([*command, "--out", file.name], check=True)
        return dict(json.load(file))


def table(runs: dict[str, dict[str, Any]]) -> Table:
    """The figures of every run."""
    shown = Table(
        "method", "seconds", "M edges/s", "family GB", "worker GB", "cut", "balance", "others"
    )
    for name, run in runs.items():
        shown.add_row(
            name,
            f"{run['seconds']:.1f}",
            f"{run['num_edges'] / run['seconds'] / 1e6:.2f}",
            f"{run['peak_pss']['together'] / 1e9:.2f}",
            f"{run['worker_peak'] / 1e9:.2f}" if run["worker_peak"] else "",
            f"{run['edge_cut']:.4f}",
            f"{run['node_balance']:.3f}",
            f"{run['others']:.0%}",
        )
    return shown


def verdicts(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked for, as far as it was measured: figure, target and whether it is met."""
    found = []

    def say(what: str, value: float, target: float, at_least: bool) -> None:
        met = value >= target if at_least else value <= target
        found.append({"what": what, "value": value, "target": target, "met": met})

    metis, ours = runs.get("metis"), runs.get("kaminpar")
    if metis and ours:
        say("KaMinPar: times faster than METIS", metis["seconds"] / ours["seconds"], FASTER, True)
        for kind, size in (("family", _family), ("worker", lambda run: run["worker_peak"])):
            say(
                f"KaMinPar: METIS's memory over its, {kind}", size(metis) / size(ours), LEANER, True
            )
        say("KaMinPar: cut over METIS's", ours["edge_cut"] / metis["edge_cut"], 1.0, False)
    if path := runs.get(PATH):
        ratio = path["seconds"] / path["worker_seconds"]
        say("whole path over KaMinPar's process", ratio, PATH_RATIO, False)
    if streaming := runs.get("streaming"):
        rate = streaming["num_edges"] / streaming["seconds"]
        say("streaming: edges a second", rate, EDGES_PER_SECOND, True)
        held = streaming["grown_by"] / streaming["num_nodes"]
        say("streaming: bytes a node held", held, BYTES_PER_NODE, False)
        if metis and (chance := runs.get("random")):
            gap = chance["edge_cut"] - metis["edge_cut"]
            closed = (chance["edge_cut"] - streaming["edge_cut"]) / gap
            say("streaming: share of the gap closed", closed, GAP_CLOSED, True)
    return found


def _family(run: dict[str, Any]) -> int:
    return int(run["peak_pss"]["together"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--source", help="another graph, by the name that gnnscale.load takes")
    parser.add_argument("--parts", type=int, help="15,000 times the scale where not given")
    names = [*CONTESTANTS, PATH]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument("--measure", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="where the result goes")
    given = parser.parse_args()
    if given.source and not given.out:
        parser.error("--source wants --out: results/partition-SCALE.json is of amazon2m")
    source = given.source or f"synthetic:amazon2m?scale={given.scale:g}"
    parts = given.parts or max(2, round(15_000 * given.scale))
    if given.measure:
        given.out.write_text(json.dumps(measure(given.measure, source, parts, given.seed)))
        return
    out = given.out or RESULTS / f"partition-{given.scale:g}.json"
    asked = {"graph": source, "parts": parts, "seed": given.seed}
    kept = json.loads(out.read_text()) if out.exists() else {}
    runs = kept["runs"] if {name: kept.get(name) for name in asked} == asked else {}
    gs.load(source)  # made and stored before anybody is timed
    for name in given.methods:
        if given.again or name not in runs:
            runs[name] = run_apart(name, source, parts, given.seed)
            runs = {one: runs[one] for one in names if one in runs}
            result = {**asked, "runs": runs, "targets": verdicts(runs)}
            write_json(out, result | {"environment": environment("cpu")})
    console = Console(width=max(100, Console().width))
    console.print(table(runs))
    for one in verdicts(runs):
        met = "met" if one["met"] else "missed"
        console.print(f"{one['what']}: {one['value']:,.2f} (target {one['target']:,.2f}, {met})")


if __name__ == "__main__":
    main()

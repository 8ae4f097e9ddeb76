"""Parts of `gpu.sh`: what is there, one training run beside the CPU's, the time of a step.

    python benchmarks/gpu_run.py environment | training | step_time

`DEVICE` is the device ("cuda" unless given), `OUT` the folder for results.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import gnnscale as gs

DEVICE = os.environ.get("DEVICE", "cuda")
OUT = Path(os.environ.get("OUT", "runs/gpu"))
GRAPH = "synthetic:planted?nodes=20000&degree=20"
PACKAGES = ("torch", "torch-geometric", "numba", "numpy", "triton", "pymetis", "kaminpar", "isal")


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def environment() -> dict[str, Any]:
    """Python, packages and the device."""
    found: dict[str, Any] = {"python": platform.python_version()}
    found |= {package: version(package) for package in PACKAGES}
    if DEVICE.startswith("cuda"):
        found["device"] = torch.cuda.get_device_name(torch.device(DEVICE))
        found["cuda"] = torch.version.cuda
        x = torch.ones(8, device=DEVICE)
        assert float(x.sum()) == 8
    return found


def store(parts: int) -> gs.ClusteredGraph:
    """A graph drawn, cut without native partitioners, and stored on disk."""
    graph = gs.load(GRAPH)
    part = gs.partition(graph, parts, method="streaming", cache=False)
    folder = OUT / f"store-{os.getpid()}"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return gs.cluster(graph, part, folder)


def training() -> dict[str, Any]:
    """Three models by clusters: course, exact inference and accuracy beside those of the CPU."""
    clustered, found = store(40), {}
    graph = clustered.graph
    for name in ("GCN", "GraphSAGE", "GAT"):
        runs = []
        for device in ("cpu", DEVICE):
            torch.manual_seed(0)
            dropout = {} if name == "GAT" else {"dropout": 0.2}  # GAT's own draws by the device
            model = getattr(gs.nn, name)(graph.num_features, 64, 3, graph.num_classes, **dropout)
            trainer = gs.ClusterTrainer(
                model, clustered, clusters_per_batch=8, epochs=3, device=device, progress=False
            )
            report = trainer.fit()
            losses = [row["loss"] for row in report.rows]
            runs.append((losses, trainer.predict(), report.final["test"]["accuracy"]))
        (expected, _, accuracy), (losses, out, reached) = runs
        gap = max(abs(a - b) / abs(a) for a, b in zip(expected, losses, strict=True))
        found[name] = {"loss_gap": gap, "accuracy": {"cpu": accuracy, DEVICE: reached}}
        # What the weights of the device give on the CPU.
        exact = gs.ClusterTrainer(trainer.model.cpu(), clustered, device="cpu", progress=False)
        error = float((exact.predict() - out).abs().max() / out.abs().max())
        found[name]["inference_error"] = error
        if gap > 1e-2 or error > 1e-3 or abs(accuracy - reached) > 0.02:
            raise SystemExit(f"{name}: the course on {DEVICE} is another: {found[name]}")
    return found


def step_time() -> dict[str, Any]:
    """Milliseconds of a step, median of 60 or of ten seconds: batches of about 4,000 nodes."""
    clustered, found = store(20), {}
    graph = clustered.graph
    for name in ("GCN", "GraphSAGE", "GAT"):
        torch.manual_seed(0)
        model = getattr(gs.nn, name)(graph.num_features, 256, 3, graph.num_classes)
        trainer = gs.ClusterTrainer(
            model, clustered, clusters_per_batch=4, epochs=15, device=DEVICE, progress=False
        )
        trainer.start()
        trainer.model.train()
        times: list[float] = []
        end = time.monotonic() + 10
        while len(times) < 70 and time.monotonic() < end:
            for batch in trainer.loader:
                trainer.step(batch)
                if DEVICE.startswith("cuda"):
                    torch.cuda.synchronize()
                times.append(time.perf_counter())
        steps = [1e3 * (b - a) for a, b in itertools.pairwise(times)]
        found[name] = round(statistics.median(steps[len(steps) // 7 :]), 3)
    return found


if __name__ == "__main__":
    part = {"environment": environment, "training": training, "step_time": step_time}[sys.argv[1]]
    result = part()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{part.__name__}.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))

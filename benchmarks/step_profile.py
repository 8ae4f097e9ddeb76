"""Where a training step's time goes, by part, as figures and as a picture.

torch's profiler tells which operations a step runs and how long each takes by itself. Recording
them costs time between operations, not inside them: so every second step runs without it, the
step's length is that of those steps, and what its operations leave of it is Python's and the
dispatcher's. The parts then add up to the step.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from peers.contest import SEED, Setup
from peers.ours import Gnnscale
from step_floor import synchronise
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity

import gnnscale as gs
from gnnscale.nn import Context

STEPS = 24
_SKIPPED = 4
_REST = "Python and dispatch"
# By the name of the operation, else by that of what it runs in; the first that fits.
_PARTS = {
    "optimizer": re.compile(r"Optimizer\.|_fused_adam"),
    "dense": re.compile(r"aten::(add)?mm$|aten::bmm$"),
    "loss": re.compile(r"log_?softmax|nll_?loss|cross_entropy|aten::index$|IndexBackward", re.I),
    "elementwise": re.compile(
        r"Dropout|Rows|Statistics|relu|threshold|norm|aten::(add|sum|mul|div|copy|fill|zero)_?$"
    ),
    "sparse": re.compile(
        r"Propagate|Neighbourhood|sparse|SparseLinear|scatter|segment|index_|IndexSelect", re.I
    ),
}
# Before the profiler starts, which else notes every start and stop on the terminal.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


class RecordedTrainer(gs.ClusterTrainer):
    """The trainer, its phases under their names: numba is no operation of torch's."""

    def _make_runner(self) -> Any:
        run = super()._make_runner()

        def named(phase: Any) -> Any:
            def call(x: Any, context: Context) -> Any:
                with record_function(type(phase).__name__):
                    return phase(x, context)

            return call

        def runner(block: Any, phases: Sequence[Any], x: Any, context: Context) -> Any:
            return run(block, [named(phase) for phase in phases], x, context)

        return runner


class Recorded(Gnnscale):
    """gnnscale, its phases under their names."""

    kind = RecordedTrainer


def profile(setup: Setup, picture: Path) -> dict[str, Any]:
    """Milliseconds of a step by part, medians, drawn too.

    Returns:
        `parts`, which add up to `step`; `assembly`, which the loader's thread does meanwhile;
        `recorded_step`, the step with the profiler on.
    """
    contestant = Recorded(setup)
    contestant.begin(setup.case.dropout)
    waits, steps, recorded, parts = [], [], [], []
    with contestant.turn():
        for number in range(_SKIPPED + STEPS):
            before = time.perf_counter()
            batch = contestant.load()
            loaded = time.perf_counter()
            contestant.train(batch)
            synchronise(setup.device)
            after = time.perf_counter()
            found, seconds = _recorded_step(contestant)
            if number >= _SKIPPED:
                waits.append(loaded - before)
                steps.append(after - before)
                recorded.append(seconds)
                parts.append(found)
    result = {name: 1e3 * statistics.median(found[name] for found in parts) for name in _PARTS}
    result["wait"] = 1e3 * statistics.median(waits)
    step = 1e3 * statistics.median(steps)
    result[_REST] = step - sum(result.values())
    outcome = {
        "parts": result,
        "step": step,
        "recorded_step": 1e3 * statistics.median(recorded),
        "assembly": 1e3 * _assembly(setup),
    }
    draw(outcome, setup.case.name, picture)
    return outcome


def _recorded_step(contestant: Gnnscale) -> tuple[Counter[str], float]:
    """Seconds of a step's operations by part, and of the step."""
    device = contestant.setup.device
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    batch = contestant.load()
    with torch.profiler.profile(activities=activities) as profiler:
        started = time.perf_counter()
        contestant.train(batch)
        synchronise(device)
        seconds = time.perf_counter() - started
    found: Counter[str] = Counter()
    for event in profiler.events():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        found[_part(event)] += own / 1e6
    return found, seconds


def _part(event: Any) -> str:
    """The part of an operation: of the innermost one around it whose name tells."""
    while event is not None:
        for part, names in _PARTS.items():
            if names.search(event.name):
                return part
        event = event.cpu_parent
    return _REST


def _assembly(setup: Setup) -> float:
    """Median seconds of putting a batch together, by itself."""
    loader = gs.ClusterLoader(setup.clustered, setup.case.clusters_per_batch, seed=SEED, prefetch=0)
    batches = iter(loader)
    seconds = []
    for _ in range(min(STEPS, len(loader))):
        started = time.perf_counter()
        next(batches)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def draw(outcome: dict[str, Any], name: str, picture: Path) -> None:
    """A bar of the step's parts, and one of what the loader's thread does meanwhile."""
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    left = 0.0
    for part, width in outcome["parts"].items():
        axes.barh(1, width, left=left, label=f"{part} {width:.2f}")
        left += width
    assembly = outcome["assembly"]
    label = f"assembly, in a thread {assembly:.2f}"
    axes.barh(0, assembly, color="none", edgecolor="grey", hatch="//", label=label)
    axes.set_yticks([0, 1], ["loader", "step"])
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{name}: a training step of {outcome['step']:.2f} ms by part")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(picture, metadata={"Date": None})

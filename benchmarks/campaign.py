"""Many runs of one function, kept one by one, so that a campaign that is stopped goes on.

Every run is a setting (a dict of plain values) and its outcome. Results are one JSON file a
campaign: machine and versions, and the runs in the order in which they ended.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULTS = Path(__file__).parent / "results"
Setting = dict[str, Any]
logger = logging.getLogger(__name__)


def read_runs(name: str) -> list[dict[str, Any]]:
    """The runs of a campaign so far."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else []


def run_all(
    name: str,
    function: Callable[..., dict[str, Any]],
    settings: Sequence[Setting],
    *,
    lanes: Callable[[Setting], Any] | None = None,
    workers: int = 1,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Run `function(**setting)` for every setting that has no outcome yet.

    Args:
        name: of the campaign and its file.
        function: a module-level function; returns what is to be kept.
        settings: in the order to run them.
        lanes: gives every setting its process: those of one lane share it, so that its peak memory
            is theirs alone, and runs never overlap. Without lanes, `workers` processes share all.
        workers: processes at once, without lanes.
        threads: of torch, in every process.

    Returns:
        All runs of the campaign, older ones included: each setting joined with its outcome.
    """
    runs = read_runs(name)
    missing = [s for s in settings if not any(s.items() <= run.items() for run in runs)]
    machine = {**environment("cpu"), "threads": threads}

    def keep(setting: Setting, outcome: dict[str, Any]) -> None:
        runs.append({**setting, **outcome})
        write_json(RESULTS / f"{name}.json", {"environment": machine, "runs": runs})
        logger.info("%s: %d of %d, %s", name, len(runs), len(settings), runs[-1])

    def pool(size: int) -> ProcessPoolExecutor:
        # Spawned: a fork after torch's threads have started hangs.
        return ProcessPoolExecutor(size, get_context("spawn"), torch.set_num_threads, (threads,))

    if lanes is None:
        with pool(workers) as executor:
            waiting = {executor.submit(function, **s): s for s in missing}
            for future in as_completed(waiting):
                keep(waiting[future], future.result())
        return runs
    executors: dict[Any, ProcessPoolExecutor] = {}
    try:
        for setting in missing:
            lane = lanes(setting)
            if lane not in executors:
                executors[lane] = pool(1)
            keep(setting, executors[lane].submit(function, **setting).result())
    finally:
        for executor in executors.values():
            executor.shutdown()
    return runs


def mean_sd(values: Iterable[float]) -> str:
    """As "81.2 ± 0.9", in percent; nothing of no values."""
    percent = [100 * value for value in values]
    if not percent:
        return ""
    sd = statistics.stdev(percent) if len(percent) > 1 else float("nan")
    return f"{statistics.mean(percent):.1f} ± {sd:.1f}"


def grouped(
    runs: Iterable[dict[str, Any]], *names: str
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Runs by the values of some of their settings, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[name] for name in names), []).append(run)
    return groups

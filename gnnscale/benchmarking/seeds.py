"""bench: the same settings over several seeds, each in a run folder of its own.

    <out>/seed-0, seed-1, …   the folders of the runs, which `load_run` opens
    <out>/results.json        the figures of all seeds; also as results.md and curves.png

Seeds differ in initial weights, draws and dropout. The partition is shared: OGB's examples, whose
figures these are compared with, cluster the graph once and train on those clusters in every run.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnscale.benchmarking.report import BenchReport
from gnnscale.benchmarking.results import SETS, SeedResult
from gnnscale.data.recipes import Published
from gnnscale.errors import GnnscaleError, InputError, RunMismatch, StoreError
from gnnscale.storage.files import (
    check_writable,
    checked_path,
    json_checksum,
    read_json,
    write_json,
)
from gnnscale.storage.mapped import is_mapped
from gnnscale.train.arguments import as_data
from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.report import Report
from gnnscale.train.trainer import Trainer
from gnnscale.train.trainers import TRAINERS

logger = logging.getLogger(__name__)

# What a comparison of seeds fixes, or gives every seed its own of.
_FIXED = ("seed", "run_dir", "keep")
_OFFICIAL = "official.json"
# Half a unit of the last digit that leaderboards show.
_VISIBLE = 5e-5

Evaluator = Callable[[Tensor, Tensor], float]


def bench(
    graph: object,
    model: Callable[[], object],
    out: str | Path,
    *,
    runs: int = 10,
    seed: int = 0,
    trainer: str = "cluster",
    official: Evaluator | None = None,
    published: Published | None = None,
    unlike: Sequence[str] = (),
    after_run: Callable[[SeedResult], None] | None = None,
    **arguments: object,
) -> BenchReport:
    """Train with several seeds; report mean and deviation at the epochs best on validation.

    A benchmark that was interrupted goes on when it is called again, in the middle of a run;
    complete runs are not repeated. Fewer `runs` report on the first seeds alone, more train what is
    missing, and with more `epochs` each goes on. The runs in `out` must have the same settings
    otherwise.

    Args:
        graph: what a trainer takes.
        model: makes a new model; torch is seeded before every call.
        out: a folder for the runs and the results.
        runs: how many seeds.
        seed: the first; then seed + 1, ….
        trainer: its name: "cluster" or "layerwise".
        official: the benchmark's own evaluator: from outputs `[nodes, out_channels]` and labels of
            a set of nodes to the headline metric. Its figures then count, and are compared with
            ours.
        published: a published row to compare with.
        unlike: settings that differ from those of the published row, in words.
        after_run: is told every result, complete ones included.
        arguments: of the trainer. `partition_seed` is 0 unless given: the runs share a partition. A
            graph in files is clustered into `<out>/store` unless `store` is given. A stop
            controller is shared as well; of a task every run has a copy, as it was given.

    Raises:
        InputError: an argument is out of range, or the split has no validation or test nodes.
        RunMismatch: a run in `out` has other settings; what differs is named.
        GnnscaleError: the metric of a seed is not a number.
        StoreError: `out` cannot be written, or a run there is damaged.

    Example:
        >>> import gnnscale as gs
        >>> graph = gs.load("synthetic:planted?nodes=2000")
        >>> widths = graph.num_features, 32, 2, graph.num_classes
        >>> report = gs.bench(
        ...     graph, lambda: gs.nn.GraphSAGE(*widths), "runs/planted", runs=3, epochs=5
        ... )  # doctest: +SKIP
        >>> report.text()  # doctest: +SKIP
    """
    folder = checked_path(out).absolute()
    check_writable(folder / "results.json", f"out={str(out)!r}")
    _check(runs, seed, trainer, arguments)
    data = as_data(graph, arguments.get("task", "auto"))
    results: list[SeedResult] = []
    store = None  # the clusters on disk of the run before
    for number in range(seed, seed + runs):
        torch.manual_seed(number)
        run = TRAINERS[trainer](
            model(),
            data,
            seed=number,
            run_dir=folder / f"seed-{number}",
            **_shared_arguments(trainer, data, folder, arguments),
        )
        if isinstance(run, ClusterTrainer):
            run.reuse(store)
        if not results:
            _check_sets(run)
            _check_neighbours(run, folder)
        report = run.fit(resume="auto")
        if isinstance(run, ClusterTrainer) and is_mapped(run.graph.adj.indices):
            with contextlib.suppress(InputError):  # of a run that was complete there are none
                store = run.clustered
        results.append(_result(run, report, number, official))
        logger.info("seed %d: %s", number, results[-1].final)
        if after_run is not None:
            after_run(results[-1])
        about = _about(run, report)
        del run  # its clustered graph, before the next one's is made
        gc.collect()
    found = BenchReport(
        **about, runs=results, published=published, unlike=tuple(unlike) if published else ()
    )
    if (apart := found.disagreement) is not None and apart > _VISIBLE:
        logger.warning(
            "the official evaluator and our %s differ by %.2g, which the figures show",
            found.metric,
            apart,
        )
    found.save(folder)
    return found


def _check(runs: object, seed: object, trainer: str, arguments: dict[str, Any]) -> None:
    faults = []
    for name, value, least in (("runs", runs, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            faults.append(f"{name}={value!r} must be a whole number from {least} on")
    if trainer not in TRAINERS:
        faults.append(f"there is no trainer {trainer!r}; there are {', '.join(TRAINERS)}")
    faults += [
        f"{name}={arguments[name]!r}: a benchmark sets it itself"
        for name in _FIXED
        if name in arguments
    ]
    if faults:
        raise InputError(faults)


def _shared_arguments(
    trainer: str, data: object, folder: Path, arguments: dict[str, Any]
) -> dict[str, Any]:
    taken = inspect.signature(TRAINERS[trainer]).parameters
    shared = {**arguments, "task": copy.deepcopy(arguments.get("task", "auto"))}
    if "partition_seed" in taken and shared.get("partition_seed") is None:
        shared["partition_seed"] = 0
    if shared.get("fine_tune"):
        shared["fine_tune"] = {"partition_seed": 0, **shared["fine_tune"]}
    # A store a run would fill the disk with copies of one clustered graph.
    in_files = hasattr(data, "adj") and is_mapped(data.adj.indices)
    if "store" in taken and in_files and shared.get("store") is None:
        shared["store"] = folder / "store"
    return shared


def _check_sets(run: Trainer) -> None:
    missing = [name for name in ("val", "test") if name not in run.sets]
    if missing:
        names = " and no ".join(missing)
        split = f"the split {run.config.split!r} has no {names} nodes: splits='60/20/20' has all"
        raise InputError(
            "a benchmark chooses an epoch on validation nodes and reports test nodes; "
            f"{run.without_metrics or split}"
        )


def _check_neighbours(run: Trainer, folder: Path) -> None:
    """Hold all runs in the folder to the settings of this one, those of other seeds included."""
    identity, faults = run.identity, []
    for path in sorted(folder.glob("seed-*")):
        other = RunFolder(path)
        if not (path / "checkpoint.safetensors").exists():
            continue
        seed = other.describe()["config"].get("seed")
        differences = other.differences(identity, dataclasses.replace(run.config, seed=seed))
        faults += [line for line in differences if line not in faults]
    if faults:
        lines = "\n".join(f"  - {line}" for line in faults)
        raise RunMismatch(
            f"the runs in {folder} are of another benchmark:\n{lines}\nTake another folder, out="
        )


def _result(run: Trainer, report: Report, seed: int, official: Evaluator | None) -> SeedResult:
    metric = report.headline
    final = _finite({where: figures[metric] for where, figures in report.final.items()})
    if missing := {"val", "test"} - final.keys():
        raise GnnscaleError(
            f"seed {seed}: the {metric} of the {' and the '.join(sorted(missing))} nodes is not a "
            f"number, so that there is no mean: the model has diverged (lr is {run.config.lr}), or "
            "the metric is not defined on these nodes"
        )
    curve = [
        _finite({name: row.get(key) for name, key in _columns(metric).items()})
        for row in report.rows
        if f"val_{metric}" in row
    ]
    return SeedResult(
        seed,
        final,
        {} if official is None else _official(run, official),
        report.best_epoch,
        len(report.rows),
        report.seconds,
        report.memory.get("peak_pss"),
        curve,
    )


def _finite(figures: dict[str, Any]) -> dict[str, float]:
    return {name: x for name, x in figures.items() if x is not None and math.isfinite(x)}


def _columns(metric: str) -> dict[str, str]:
    return {"epoch": "epoch", "loss": "loss", **{w: f"{w}_{metric}" for w in SETS}}


def _official(run: Trainer, evaluator: Evaluator) -> dict[str, float]:
    """The evaluator's figures, kept in the run's folder: they take a pass over the full graph."""
    assert run.folder is not None
    path = run.folder.path / _OFFICIAL
    told = json_checksum(read_json(run.folder.path / "report.json"))
    try:
        known = read_json(path)
        if known["report"] == told:
            return dict(known["figures"])
    except (StoreError, KeyError, TypeError):
        pass  # there are none yet, or not of these weights
    split, y, position = run.graph.split(run.config.split), run.graph.y, run.position
    assert split is not None and y is not None
    nodes = {}
    for where in ("val", "test"):
        mask = split[where]
        nodes[where] = (mask if position is None else mask[position]).nonzero().flatten()
    out = run.predict(torch.cat(list(nodes.values())))
    figures, start = {}, 0
    for where, chosen in nodes.items():
        rows = chosen if position is None else position[chosen]
        figures[where] = evaluator(out[start : start + len(chosen)], y[rows])
        start += len(chosen)
    write_json(path, {"report": told, "figures": figures})
    return figures


def _about(run: Trainer, report: Report) -> dict[str, Any]:
    config = {
        name: value
        for name, value in run.config.saved().items()
        if name not in (*_FIXED, "progress")
    }
    spec = run.model.spec
    return {
        "title": report.run["title"],
        "metric": report.headline,
        "higher_is_better": run.task.metrics()[0].higher_is_better,
        "parameters": sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        "hardware": _hardware(report.run["environment"]),
        "settings": config,
        "model": spec,
        "environment": report.run["environment"],
    }


def _hardware(environment: Mapping[str, object]) -> str:
    """The GPU with its memory, else the processor with the threads used.

    Args:
        environment: what `gnnscale.train.run.report.environment` says.
    """
    if "gpu" in environment:
        return str(environment["gpu"])
    threads = environment["threads"]
    name = environment["processor"] or environment["machine"]
    return f"{name}, {threads} thread{'s' * (threads != 1)}"

"""The tables of layerwise.py, of whatever results there are."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from campaign import grouped, mean_sd, read_runs
from layerwise_settings import GRAPHS, PUBLISHED, settings_of
from rich.table import Table

Runs = list[dict[str, Any]]


def cora() -> list[Table]:
    table = Table("P", "epochs a layer", "F1 micro", "epochs", "seeds", title="Cora, 1208 labels")
    for (p, method), found in grouped(read_runs("layerwise_cora"), "propagation", "method").items():
        row = mean_sd(run["test"] for run in found), median(found, "epochs", 1, 0)
        table.add_row(p, method, *row, str(len(found)))
    table.add_section()
    for name, value in PUBLISHED.items():
        table.add_row("published", name, f"{value:.1f}")
    return [table]


def graphs() -> list[Table]:
    """Metric, seconds and memory, and seconds until clusters' final validation less 0.5 points."""
    table = Table(
        *("graph", "method", "test", "less clusters", "epochs", "s", "MB"),
        *("s to it", "reached", "times faster"),
        title="it: the validation metric of what clusters kept, less half a point",
    )
    for data in GRAPHS:
        found = by_method(data)
        if "cluster" not in found:
            continue
        aim = target(found["cluster"])
        reference = time_to(found["cluster"], aim)
        base = statistics.mean(run["test"] for run in found["cluster"])
        for method, each in found.items():
            seconds = time_to(each, aim)
            test = statistics.mean(run["test"] for run in each)
            table.add_row(
                data,
                method,
                mean_sd(run["test"] for run in each),
                f"{100 * (test - base):+.2f}",
                median(each, "epochs", 1, 0),
                median(each, "seconds"),
                median(each, "peak_pss", 1 << 20, 0),
                "never" if seconds is None else f"{seconds:.2f}",
                f"{sum(first(run, aim) is not None for run in each)} of {len(each)}",
                "" if None in (seconds, reference) else f"{reference / seconds:.1f}",
            )
        table.add_section()
    return [table]


def by_method(data: str) -> dict[str, Runs]:
    """The runs with the present settings, those of DGL among them."""
    found: dict[str, Runs] = {}
    for (method,), each in grouped(
        (run for run in read_runs("layerwise_graphs") if run["data"] == data), "method"
    ).items():
        now = [run for run in each if run["settings"] == settings_of(data, method)]
        if now:
            found[method] = now
    drawn = [run for run in read_runs("layerwise_sampled") if run["data"] == data]
    return found | ({"sampled (DGL)": drawn} if drawn else {})


def target(clusters: Runs) -> float:
    return statistics.mean(run["val"] for run in clusters) - 0.005


def first(run: dict[str, Any], value: float) -> float | None:
    """Seconds until a validation metric."""
    return next((seconds for seconds, found in run["curve"] if found >= value), None)


def time_to(found: Runs, value: float) -> float | None:
    """The median over seeds; None where half of them never come there."""
    seconds = sorted(float("inf") if (s := first(run, value)) is None else s for run in found)
    middle = statistics.median_high(seconds)
    return None if middle == float("inf") else middle


def controllers() -> list[Table]:
    """What a controller saves against the fixed number of epochs."""
    table = Table(
        *("graph", "test, fixed", "plateau", "learned", "learned less fixed"),
        *("epochs, fixed", "plateau", "learned", "seconds, fixed", "plateau", "learned"),
        title="when a layer stops: epochs over all layers, seconds of training",
    )
    ratios: list[tuple[float, float]] = []
    for data in GRAPHS:
        found = by_method(data)
        if not {"fixed", "learned"} <= found.keys():
            continue
        three = [found[name] for name in ("fixed", "plateau", "learned") if name in found]
        fixed, learned = found["fixed"], found["learned"]
        points = statistics.mean(r["test"] for r in learned) - statistics.mean(
            r["test"] for r in fixed
        )
        table.add_row(
            data,
            *(mean_sd(run["test"] for run in each) for each in three),
            f"{100 * points:+.2f}",
            *(median(each, "epochs", 1, 0) for each in three),
            *(median(each, "seconds") for each in three),
        )
        ratios.append(tuple(_ratio(learned, fixed, name) for name in ("epochs", "seconds")))
    if ratios:
        mean = (statistics.geometric_mean(part) for part in zip(*ratios, strict=True))
        epochs, seconds = mean
        table.caption = (
            f"learned over fixed: {epochs:.2f} of the epochs, {seconds:.2f} of the seconds"
        )
    learnt = Table("learnt on", "seconds", "rounds", title="the learned controller")
    for run in read_runs("layerwise_controllers"):
        learnt.add_row(run["data"], f"{run['seconds']:.0f}", str(run["rounds"]))
    return [learnt, table]


def _ratio(over: Runs, under: Runs, name: str) -> float:
    return statistics.median(r[name] for r in over) / statistics.median(r[name] for r in under)


def epoch() -> list[Table]:
    table = Table(
        *("data", "hidden", "rows", "layer, ms an epoch", "perceptron", "ratio (target 1.2)"),
        title="one layer's epoch",
    )
    for run in read_runs("layerwise_epoch"):
        milliseconds = (1e3 * run[name] for name in ("layer_seconds", "mlp_seconds"))
        table.add_row(
            run["data"],
            str(run["hidden"]),
            f"{run['rows']:,}",
            *(f"{value:.1f}" for value in milliseconds),
            f"{run['ratio']:.2f}",
        )
    return [table]


def amazon2m() -> list[Table]:
    table = Table(
        *("scale", "method", "test", "validation", "s", "peak PSS, MB", "s to the least of them"),
        title="synthetic:amazon2m",
    )
    for (scale,), every in grouped(read_runs("layerwise_amazon2m"), "scale").items():
        by = grouped(every, "method")
        aim = min(max(value for _, value in run["curve"]) for run in every)
        for (method,), each in by.items():
            seconds = time_to(each, aim)
            table.add_row(
                f"{scale:g}",
                method,
                *(mean_sd(run[name] for run in each) for name in ("test", "val")),
                median(each, "seconds", 1, 1),
                median(each, "peak_pss", 1e6, 0),
                "never" if seconds is None else f"{seconds:.1f} (to {100 * aim:.1f})",
            )
    return [table]


def memory() -> list[Table]:
    table = Table(
        *("scale", "nodes", "peak PSS, MB", "arrays, MB", "peak apart, MB"),
        title="an epoch a layer, rows on disk",
    )
    found = sorted(read_runs("layerwise_memory"), key=lambda run: run["scale"])
    for run in found:
        sizes = run["peak_pss"], sum(run["arrays"].values()), run["apart"]
        table.add_row(
            f"{run['scale']:g}", f"{run['num_nodes']:,}", *(f"{size / 1e6:.0f}" for size in sizes)
        )
    if len(found) > 1:
        growth = found[-1]["apart"] / found[0]["apart"] - 1
        table.caption = f"grows by {growth:+.1%}; in memory: {found[-1]['arrays']}"
    return [table]


def median(found: Iterable[dict[str, Any]], name: str, unit: float = 1, digits: int = 2) -> str:
    return f"{statistics.median(run[name] for run in found) / unit:.{digits}f}"


TABLES: dict[str, Callable[[], list[Table]]] = {
    "controllers": controllers,
    "cora": cora,
    "graphs": graphs,
    "sampled": graphs,
    "epoch": epoch,
    "amazon2m": amazon2m,
    "memory": memory,
}

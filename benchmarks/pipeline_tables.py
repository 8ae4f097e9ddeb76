"""The tables of pipeline.py, of whatever results there are."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from campaign import grouped, mean_sd, read_runs
from rich.table import Table


def makespan() -> list[Table]:
    found = []
    for run in read_runs("pipeline-makespan"):
        title = f"{run['devices']} ranks, {run['shape']} stages, {run['device']}"
        table = Table(
            *(
                "schedule",
                "M",
                "cuts",
                "measured, ms",
                "simulated",
                "off by",
                "its own costs",
                "a profile's",
            ),
            *("bubble", "simulated", "bytes a step", "predicted", "activations held"),
            title=title + ("" if run["computing"] == "real" else ", computing is a timed wait"),
        )
        for case in run["cases"]:
            table.add_row(*_row(case))
        found.append(table)
    return found


def _row(case: dict[str, Any]) -> tuple[str, ...]:
    measured = statistics.median(case["measured"])
    off = case["predicted"] / measured - 1
    return (
        case["schedule"],
        str(case["micro_batches"]),
        " ".join(map(str, case["cuts"])),
        f"{1e3 * measured:.0f}",
        f"{1e3 * case['predicted']:.0f}",
        f"{off:+.1%}",
        f"{case['same_step'] - 1:+.1%}",
        f"{case['profiled'] / measured - 1:+.1%}",
        f"{case['measured_bubble']:.1%}",
        f"{case['predicted_bubble']:.1%}",
        f"{case['measured_bytes']:,}",
        "equal" if case["measured_bytes"] == case["predicted_bytes"] else "NOT EQUAL",
        " ".join(map(str, case["activations"])),
    )


def choice() -> list[Table]:
    table = Table(
        *("graph", "GCN", "way", "s an epoch", "times faster", "test accuracy"),
        *("peak PSS a rank, MB", "above the start", "MB carried an epoch"),
        title="equal updates; two cores but for the first",
    )
    for (data, network), runs in grouped(read_runs("pipeline-choice"), "data", "network").items():
        slowest = runs[0]["seconds_per_epoch"]
        for run in runs:
            sent = run["carried_per_epoch"]
            table.add_row(
                data,
                network,
                run["way"],
                f"{run['seconds_per_epoch']:.2f}",
                f"{slowest / run['seconds_per_epoch']:.2f}",
                f"{100 * run['accuracy']:.2f}",
                ", ".join(f"{size / 1e6:.0f}" for size in run["peak_pss"]),
                ", ".join(f"{size / 1e6:.0f}" for size in run["growth"]),
                "" if sent is None else f"{sent / 1e6:.1f}",
            )
        table.add_section()
    return [table]


def ternary() -> list[Table]:
    table = Table(
        *("graph", "gradients", "test accuracy", "best epoch", "bytes of an update", "parameters"),
        title="two ranks; bytes: what both sent, headers included",
    )
    for (data, compression), runs in grouped(
        read_runs("pipeline-ternary"), "data", "compression"
    ).items():
        sent = [run["carried"] for run in runs if run["carried"] is not None]
        table.add_row(
            data,
            compression or "float32",
            mean_sd(run["accuracy"] for run in runs),
            f"{statistics.median(run['best_epoch'] for run in runs):.0f}",
            f"{statistics.median(sent):,.0f}" if sent else "",
            f"{runs[0]['parameters']:,}",
        )
    return [table]


TABLES: dict[str, Callable[[], list[Table]]] = {
    "makespan": makespan,
    "choice": choice,
    "ternary": ternary,
}

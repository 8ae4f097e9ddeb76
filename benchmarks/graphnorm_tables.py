"""The tables and the picture of graphnorm.py, of whatever results there are."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Callable
from typing import Any, cast

import graphnorm_nodes as nodes
import graphnorm_tu as tu
from campaign import RESULTS, grouped, mean_sd, read_runs
from rich.table import Table

PICTURE = RESULTS / "graphnorm-curves.png"
SHARE = 0.9  # of the final training accuracy
Runs = list[dict[str, Any]]


def read(section: str) -> dict[str, Any]:
    path = RESULTS / f"graphnorm-{section}.json"
    return json.loads(path.read_text()) if path.exists() else {"runs": []}


def shorten(record: logging.LogRecord) -> bool:
    """Leave curves out of what is said of a run."""
    *first, run = cast(tuple[Any, ...], record.args)
    record.args = (*first, {k: v for k, v in run.items() if isinstance(v, str | int | float)})
    return True


# --- equality ---------------------------------------------------------------------------------


def equality() -> list[Table]:
    found = read("equality")
    double = Table("segments", "mean / sd", "output", "gradients", title="float64: from PyG")
    narrow = Table(
        *("segments", "mean / sd", "type", "output, gnnscale", "PyG", "gradients, gnnscale", "PyG"),
        "larger than PyG's",
        title="root mean square error from float64, over the size of the values",
    )
    for run in found["runs"]:
        where = (run["segments"], f"{run['mean']:,}")
        if "from_pyg" in run:
            double.add_row(*where, *both(run["from_pyg"]))
            continue
        ours, theirs = both(run["gnnscale"]), both(run["pyg"])
        larger = [k for k, v in run["gnnscale"].items() if v > run["pyg"][k]]
        narrow.add_row(
            *where, run["type"], ours[0], theirs[0], ours[1], theirs[1], ", ".join(larger)
        )
    if "gradcheck" in found:
        double.caption = f"gradients by finite differences agree: {found['gradcheck']}"
    return [double, narrow]


def both(errors: dict[str, float]) -> tuple[str, str]:
    """The output's error, and the greatest among the gradients'."""
    return f"{errors['output']:.1e}", f"{max(v for k, v in errors.items() if k != 'output'):.1e}"


# --- chunks -----------------------------------------------------------------------------------


def chunks() -> list[Table]:
    found = read("chunks")
    tables = []
    for (data, over), runs in grouped(found["runs"], "data", "over").items():
        title = f"{data}, over={over!r}: mean absolute error of chunks of {found['chunk_rows']:,}"
        table = Table("norm", "gnnscale", "PyG, chunk by chunk", "mean absolute value", title=title)
        for run in runs:
            theirs = f"{run['error_of_pyg']:.2g}" if "error_of_pyg" in run else "-"
            table.add_row(run["norm"], f"{run['error']:.1e}", theirs, f"{run['size']:.2g}")
        tables.append(table)
    return tables


# --- speed ------------------------------------------------------------------------------------


def speed() -> list[Table]:
    found = read("speed")
    if not found["runs"]:
        return []
    threads = found["environment"]["threads"]
    times = Table(
        *("segments", "allocator", "ms", "with a batch vector", "PyG", "floor", "fresh pages"),
        *("times PyG", "times the floor", "copy, GB/s"),
        title=f"{found['rows']:,} by {found['channels']}, float32, {threads} threads: medians",
    )
    memory = Table(
        *("segments", "kept for backward", "PyG", "peak", "PyG"),
        title="memory beyond the inputs, in arrays of the size of x",
    )
    for run in found["runs"]:
        names = ("gnnscale", "gnnscale, batch vector", "PyG")
        ms = [1e3 * run["seconds"][name]["seconds"] for name in names]
        others = [1e3 * run["floor"], 1e3 * run["seconds"]["fresh pages"]["seconds"]]
        times.add_row(
            str(run["segments"]),
            run["allocator"],
            *(f"{value:.1f}" for value in (*ms, *others)),
            f"{run['times_faster_than_pyg']:.1f}",
            f"{run['times_the_floor']:.2f}",
            f"{run['copy_rate'] / 1e9:.1f}",
        )
    for (segments,), runs in grouped(found["runs"], "segments").items():
        ours, theirs = (runs[0]["memory"][name] for name in ("gnnscale", "PyG"))
        memory.add_row(
            str(segments),
            *(f"{m[k]:.2f}" for k in ("kept_for_backward", "peak") for m in (ours, theirs)),
        )
    return [times, memory]


# --- graphs -----------------------------------------------------------------------------------


def tu_() -> list[Table]:
    tables = []
    every = read_runs("graphnorm-tu")
    for (model,), of_model in grouped(every, "model").items():
        table = Table(
            *("data set", "norm", "paper's protocol", "published", "epoch by validation"),
            *("90 % of the best's", "90 % of its own", "final, training"),
            title=f"{model.upper()}: test accuracy, %; epochs to a training accuracy",
        )
        for (data, folds), runs in sorted(grouped(of_model, "data", "folds").items(), key=tu_order):
            which = "" if folds == tu.FOLDS else f", {folds} of {tu.FOLDS} folds"
            finals = {run["norm"]: final(run) for run in runs}
            for run in sorted(runs, key=lambda run: list(tu.NORMS).index(run["norm"])):
                alike = model == "gin" and folds == tu.FOLDS
                published = tu.PUBLISHED.get(run["norm"], {}).get(data) if alike else None
                table.add_row(
                    f"{data}, {run['epochs']} epochs{which}",
                    run["norm"] + (", trained on all" if run["protocol"] == "folds" else ""),
                    spread(run["best_epoch"]),
                    "" if published is None else f"{published:.1f}",
                    spread(run["chosen_epochs"]),
                    reached(run["train"], SHARE * max(finals.values())),
                    reached(run["train"], SHARE * final(run)),
                    f"{100 * final(run):.1f}",
                )
            table.add_section()
        tables.append(table)
    draw()
    return tables


def tu_order(item: tuple[tuple[str, int], Runs]) -> tuple[int, int]:
    (data, folds), _ = item
    return tu.SETS.index(data), -folds


def final(run: dict[str, Any]) -> float:
    """Training accuracy over the last tenth of the epochs: single epochs scatter."""
    last = run["train"][-max(1, len(run["train"]) // 10) :]
    return statistics.mean(last)


def spread(figure: dict[str, Any] | None) -> str:
    return "" if figure is None else f"{100 * figure['mean']:.1f} ± {100 * figure['sd']:.1f}"


def reached(curve: list[float], level: float) -> str:
    epoch = tu.epochs_to(curve, level)
    return "never" if epoch is None else str(epoch)


def draw() -> None:
    """Learning curves: training accuracy, the mean over the folds, norm by norm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = [run for run in read_runs("graphnorm-tu") if run["protocol"] == "validation"]
    runs = [run for run in runs if run["folds"] == tu.FOLDS]
    models, sets = (
        list(grouped(runs, "model")),
        [s for s in tu.SETS if s in {run["data"] for run in runs}],
    )
    if not models:
        return
    figure = Figure(figsize=(3.0 * len(sets), 2.6 * len(models)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(models), len(sets), squeeze=False)
    for row, (model,) in zip(grid, models, strict=True):
        for axes, data in zip(row, sets, strict=True):
            for run in runs:
                if (run["model"], run["data"]) == (model, data):
                    epochs = range(1, len(run["train"]) + 1)
                    axes.plot(epochs, run["train"], lw=1.1, label=run["norm"].replace("_", " "))
            axes.set(title=f"{model.upper()}, {data}", xlabel="epoch")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
    grid[0][0].set_ylabel("training accuracy")
    grid[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})


# --- nodes ------------------------------------------------------------------------------------


def nodes_() -> list[Table]:
    tables = []
    for (data,), of_data in grouped(read_runs("graphnorm-nodes"), "data").items():
        table = Table(
            *("norm", "validation", "test", "epochs to 99 %", "seeds"),
            *("|Δ mean| / sd", "sd / sd", "|log₂| of it"),
            title=f"{data}: {of_data[0]['metric']}, %; training's statistics against the test's",
        )
        groups = grouped(of_data, "norm")
        for norm in nodes.NORMS:
            runs = groups.get((norm,), [])
            apart = [run["mismatch"] for run in runs if run["mismatch"]]
            figures = ("mean", "deviation", "deviation_spread")
            table.add_row(
                norm,
                mean_sd(run["val"] for run in runs),
                mean_sd(run["test"] for run in runs),
                f"{statistics.median(r['epochs_to_99_percent'] for r in runs):.0f}" if runs else "",
                str(len(runs)),
                *(f"{statistics.mean(a[k] for a in apart):.2f}" if apart else "-" for k in figures),
            )
        tables.append(table)
    return tables


TABLES: dict[str, Callable[[], list[Table]]] = {
    "equality": equality,
    "chunks": chunks,
    "speed": speed,
    "tu": tu_,
    "nodes": nodes_,
}

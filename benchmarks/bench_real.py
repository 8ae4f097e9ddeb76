"""The best metric on each real graph over models and trainers: `gnnscale bench`, many times.

    python benchmarks/bench_real.py --data FOLDER
    python benchmarks/bench_real.py --data FOLDER --only cora --models gcn   # some of it
    python benchmarks/bench_real.py --table                                  # of the results so far

FOLDER holds the data sets that are not shipped as `<name>.npz` (see their cards). Every cell is a
command that is printed: the card's preset, with another model or on the full batch, whose epochs
and learning rate suit a step an epoch. Runs are kept in --work, so that a campaign that is stopped
goes on in the middle of a run; results/bench_real.json has the figures.

The best cell of a graph is chosen on validation; its test figure is what is reported.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from campaign import RESULTS, grouped, mean_sd, read_runs
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from gnnscale.graph.files import write_json
from gnnscale.train import BenchReport

DATA = (
    "cora",
    "citeseer",
    "coauthor_cs",
    "amazon_computers",
    "facebook_pages",
    "tolokers",
    "twitch7",
    "wordnet",
    "debian",
)
MODELS = ("gcn", "sage", "gat", "cluster_gcn")
# By trainer: its name, and what it needs besides the preset.
FULL_BATCH = ("--num-parts", "1", "--clusters-per-batch", "1", "--lr", "0.01")
TRAINERS: dict[str, tuple[str, ...]] = {
    "cluster": (),
    "full-batch": (*FULL_BATCH, "--epochs", "200", "--early-stopping", "none"),
}
# Of the two large graphs a full batch takes seconds a step: what the budget bears.
LARGE = ("wordnet", "debian")
OF_LARGE = (*FULL_BATCH, "--epochs", "100", "--early-stopping", "20")
NAME = "bench_real"
logger = logging.getLogger(NAME)


def command(data: str, model: str, trainer: str, seeds: int, out: Path) -> list[str]:
    options = TRAINERS[trainer]
    if trainer == "full-batch" and data in LARGE:
        options = OF_LARGE
    return [
        *("bench", data, "--recipe", "none", "--model", model, "--trainer", "cluster"),
        *("--runs", str(seeds), "--evaluate-every", "2", "--no-progress", "--out", str(out)),
        *options,
    ]


def run(words: list[str], threads: int) -> None:
    logger.info("gnnscale %s", shlex.join(words))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(RESULTS.parents[1]),
    }
    subprocess.run([sys.executable, "-m", "gnnscale.cli", *words], env=environment, check=True)


def outcome(report: BenchReport) -> dict[str, Any]:
    content = asdict(report)
    for each in content["runs"]:
        each.pop("curve")  # they stay with the runs
    return content


def keep(cell: dict[str, Any], found: dict[str, Any]) -> None:
    others = [run for run in read_runs(NAME) if not cell.items() <= run.items()]
    environment = {**found.pop("environment"), "hardware": found.pop("hardware")}
    content = {"environment": environment, "runs": [*others, {**cell, **found}]}
    write_json(RESULTS / f"{NAME}.json", content)


def table() -> Table:
    """Test by trainer and model, mean ± sd over seeds; the best on validation is marked."""
    found = read_runs(NAME)
    columns = list(dict.fromkeys((run["trainer"], run["model_name"]) for run in found))
    shown = Table("graph", "metric", *(" ".join(column) for column in columns), "best")
    for (data,), cells in grouped(found, "data").items():
        best = max(cells, key=lambda cell: _mean(cell, "val"))
        by_column = {(cell["trainer"], cell["model_name"]): cell for cell in cells}
        texts = []
        for column in columns:
            cell = by_column.get(column)
            text = "" if cell is None else mean_sd(run["final"]["test"] for run in cell["runs"])
            texts.append(f"{text} *" if cell is best else text)
        choice = f"{best['trainer']} {best['model_name']}"
        shown.add_row(data, best["metric"], *texts, choice)
    return shown


def _mean(cell: dict[str, Any], where: str) -> float:
    values = [run["final"][where] for run in cell["runs"]]
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="the folder of the data sets that are not shipped")
    parser.add_argument("--only", nargs="*", default=DATA, help="these graphs only")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--trainers", nargs="*", default=list(TRAINERS), choices=list(TRAINERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of every run")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_real"), help="for the runs")
    parser.add_argument("--table", action="store_true", help="show the results so far, no more")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    if arguments.data:
        os.environ["GNNSCALE_DATASETS"] = str(Path(arguments.data).absolute())
    for data in () if arguments.table else arguments.only:
        for model in arguments.models:
            for trainer in arguments.trainers:
                out = arguments.work / f"{data}-{model}-{trainer}"
                run(command(data, model, trainer, arguments.seeds, out), arguments.threads)
                cell = {"data": data, "model_name": model, "trainer": trainer}
                keep(cell, outcome(BenchReport.load(out / "results.json")))
    Console().print(table())


if __name__ == "__main__":
    main()

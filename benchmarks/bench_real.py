"""The best metric on each real graph over models and trainers: `gnnscale bench`, many times.

    python benchmarks/bench_real.py --data FOLDER
    python benchmarks/bench_real.py --data FOLDER --only cora --models gcn   # some of it
    python benchmarks/bench_real.py --table                                  # of the results so far

FOLDER holds the data sets that are not shipped as `<name>.npz` (see their cards). Every cell is a
command that is printed: the card's preset, with another model or on the full batch, whose epochs
and learning rate suit a step an epoch. `CELLS` says which there are; --jobs of them run at once, in
the order of the graphs. A cell is in results/bench_real.json as soon as it is done, and is not
repeated; runs are kept in --work, so that a campaign that is stopped goes on in the middle of one.

The best cell of a graph is chosen on validation; its test figure is what is reported.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from campaign import RESULTS, grouped, mean_sd, read_runs
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from gnnscale.benchmarking import BenchReport
from gnnscale.data import find_card
from gnnscale.storage.files import write_json

# The graphs in the order in which they run, and the models of each by trainer: what fits into
# half an hour on two cores. On WordNet and Debian a full-batch run takes minutes:
# benchmarks/cluster_gcn.py has those.
SMALL = {
    "cluster": ("gcn", "sage", "gat", "cluster_gcn"),
    "full-batch": ("gcn", "sage", "gat", "cluster_gcn"),
}
MIDDLE = {"cluster": ("sage", "gcn", "cluster_gcn"), "full-batch": ("sage", "gcn")}
CELLS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "cora": SMALL,
    "citeseer": SMALL,
    "tolokers": MIDDLE,
    "coauthor_cs": MIDDLE,
    "amazon_computers": MIDDLE,
    "facebook_pages": MIDDLE,
    "debian": {"cluster": ("sage", "cluster_gcn")},
    "wordnet": {"cluster": ("sage",)},
    "twitch7": MIDDLE,
}
DATA = tuple(CELLS)
# By trainer: its name, and what it needs besides the preset.
FULL_BATCH = ("--num-parts", "1", "--clusters-per-batch", "1", "--lr", "0.01")
TRAINERS: dict[str, tuple[str, ...]] = {
    "cluster": (),
    "full-batch": (*FULL_BATCH, "--epochs", "200", "--early-stopping", "none"),
}
NAME = "bench_real"
logger = logging.getLogger(NAME)


def command(data: str, model: str, trainer: str, seeds: int) -> list[str]:
    return [
        *("bench", data, "--recipe", "none", "--model", model, "--trainer", "cluster"),
        *("--runs", str(seeds), "--evaluate-every", "2", "--no-progress"),
        *TRAINERS[trainer],
    ]


def run(words: list[str], out: Path, threads: int) -> None:
    """Run the command with what it says kept beside its runs."""
    logger.info("gnnscale %s", shlex.join(words))
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(RESULTS.parents[1]),
    }
    called = [sys.executable, "-m", "gnnscale.cli", *words, "--out", str(out)]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "output.txt").open("w") as output:
        subprocess.run(called, env=environment, check=True, stdout=output, stderr=output)


def cells(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What is asked for and not yet done with the same command and the same preset."""
    done = read_runs(NAME)
    for data in arguments.only:
        card = find_card(data)
        for trainer, models in CELLS[data].items():
            for model in models:
                if trainer not in arguments.trainers or model not in arguments.models:
                    continue
                cell = {
                    **{"data": data, "model_name": model, "trainer": trainer},
                    "command": command(data, model, trainer, arguments.seeds),
                    "preset": {} if card is None else card.preset,
                }
                if not any(cell.items() <= known.items() for known in done):
                    yield cell


def run_cell(cell: dict[str, Any], work: Path, threads: int) -> dict[str, Any]:
    out = work / f"{cell['data']}-{cell['model_name']}-{cell['trainer']}"
    run(cell["command"], out, threads)
    return outcome(BenchReport.load(out / "results.json"))


def run_all(arguments: argparse.Namespace) -> bool:
    """Run what is missing; whether all of it succeeded."""
    succeeded = True
    with ThreadPoolExecutor(arguments.jobs) as executor:
        waiting = {
            executor.submit(run_cell, cell, arguments.work, arguments.threads): cell
            for cell in cells(arguments)
        }
        try:
            for future in as_completed(waiting):
                cell = waiting[future]
                label = f"{cell['data']} {cell['model_name']} {cell['trainer']}"
                try:
                    found = future.result()
                except subprocess.CalledProcessError as error:
                    succeeded = False
                    logger.error("%s: exit status %d, see output.txt", label, error.returncode)
                    continue
                keep(cell, found)
                test = mean_sd(each["final"]["test"] for each in found["runs"])
                logger.info("%s: test %s", label, test)
        except KeyboardInterrupt:
            executor.shutdown(cancel_futures=True)
            raise
    return succeeded


def outcome(report: BenchReport) -> dict[str, Any]:
    content = asdict(report)
    for each in content["runs"]:
        each.pop("curve")  # they stay with the runs
    return content


def keep(cell: dict[str, Any], found: dict[str, Any]) -> None:
    same = {name: cell[name] for name in ("data", "model_name", "trainer")}
    others = [run for run in read_runs(NAME) if not same.items() <= run.items()]
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
    parser.add_argument("--only", nargs="*", default=DATA, choices=DATA, help="these graphs only")
    parser.add_argument("--models", nargs="*", default=SMALL["cluster"])
    parser.add_argument("--trainers", nargs="*", default=list(TRAINERS), choices=list(TRAINERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of every run")
    parser.add_argument("--jobs", type=int, default=2, help="cells at once")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_real"), help="for the runs")
    parser.add_argument("--table", action="store_true", help="show the results so far, no more")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    if arguments.data:
        os.environ["GNNSCALE_DATASETS"] = str(Path(arguments.data).absolute())
    succeeded = arguments.table or run_all(arguments)
    Console(width=None if sys.stdout.isatty() else 160).print(table())
    sys.exit(not succeeded)


if __name__ == "__main__":
    main()

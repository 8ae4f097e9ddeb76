"""What `gs.describe` says of real graphs before training, beside what training came to.

    python benchmarks/worth_learning.py --data FOLDER

Features alone should score about what a perceptron came to (MLP: the card of the data set), and the
graph should be said to help where a GNN came to more (GNN: the best test metric of
results/bench_real.json). FOLDER has the .npz of the data sets that are not shipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import gnnscale as gs
from gnnscale.data.cards import find_card
from gnnscale.statistics import Homophily
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULT = Path(__file__).parent / "results" / "worth_learning.json"
TRAINED = RESULT.parent / "bench_real.json"
NAMES = (
    *("cora", "citeseer", "tolokers", "facebook_pages", "amazon_computers", "coauthor_cs"),
    *("twitch7", "debian", "wordnet"),
)


def trained(name: str) -> dict[str, float]:
    """The best without edges, and with them."""
    card = find_card(name)
    assert card is not None
    alone = ("MLP", "logistic regression")
    without = [known.value for known in card.results if known.method.startswith(alone)]
    runs = [run for run in json.loads(TRAINED.read_text())["runs"] if run["data"] == name]
    others = [statistics.mean(one["final"]["test"] for one in run["runs"]) for run in runs]
    return {"without": max(without), "with": max(others)}


def measure(name: str, folder: Path) -> dict[str, Any]:
    file = folder / f"{name}.npz"
    graph = gs.load(str(file)) if file.exists() else gs.load(name)
    started = time.process_time()
    found = gs.describe(graph, signal=True, leaks=True, cut=False)
    seconds = time.process_time() - started
    assert isinstance(found.homophily, Homophily) and found.signal is not None
    return {
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "edge": found.homophily.edge,
        "adjusted": found.homophily.adjusted,
        "informativeness": found.homophily.informativeness,
        "metric": found.signal.metric,
        "chance": found.signal.chance,
        "scores": dict(found.signal.scores),
        "gain": found.signal.gain,
        "error": found.signal.error,
        "advice": found.signal.advice,
        "leaks": [leak.words for leak in found.leaks or ()],
        "trained": trained(name),
        "cpu_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("."))
    folder = parser.parse_args().data
    rows = {name: measure(name, folder) for name in NAMES}
    write_json(RESULT, {"graphs": rows, "environment": environment("cpu")})
    headings = (
        "edge",
        "adjusted",
        "LI",
        "features",
        "neighbours",
        "structure",
        "all",
        "MLP",
        "GNN",
    )
    table = Table("", *headings, "advice", "seconds")
    for name, row in rows.items():
        figures = [row["edge"], row["adjusted"], row["informativeness"], *row["scores"].values()]
        figures += row["trained"].values()
        said = row["advice"].partition(":")[0]
        shown = [f"{figure:.3f}" for figure in figures]
        table.add_row(name, *shown, said, f"{row['cpu_seconds']:.1f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()

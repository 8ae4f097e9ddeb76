"""Choose the presets of the cards: a random search on validation, the test nodes unseen.

    python benchmarks/tune_presets.py --data FOLDER --only coauthor_cs

Every configuration is trained with cluster batches and one seed, up to 80 epochs, with early
stopping. The best five on validation are printed; the card takes the first. A search that is
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import random
from typing import Any

import torch
from campaign import read_runs, run_all
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

import gnnscale as gs

DATA = ("coauthor_cs", "amazon_computers", "facebook_pages", "tolokers", "twitch7", "debian")
SPACE = {
    "model": ("gcn", "sage"),
    "hidden_channels": (64, 128, 256),
    "num_layers": (2, 3),
    "dropout": (0.2, 0.5, 0.7),
    "norm": (None, "layer_norm", "batch_norm", "graph_norm"),
    "lr": (0.003, 0.01),
    "weight_decay": (0.0, 5e-4),
    "residual": (False, True),
    "batches": ([16, 2], [16, 4], [48, 6]),
}
INDUCTIVE = ("twitch7",)


@functools.lru_cache(maxsize=1)
def load(name: str) -> gs.Graph:
    return gs.load(name)


def validate(data: str, **choice: Any) -> dict[str, Any]:
    """The best validation metric of one configuration."""
    graph, arguments = load(data), dict(choice)
    arguments["norm_kwargs"] = {"mode": "node"} if choice["norm"] == "layer_norm" else None
    build = gs.nn.MODELS[arguments.pop("model")]
    lr, decay, (parts, drawn) = (arguments.pop(k) for k in ("lr", "weight_decay", "batches"))
    widths = graph.num_features, arguments.pop("hidden_channels"), arguments.pop("num_layers")
    torch.manual_seed(0)
    model = build(*widths, graph.num_classes, **arguments)
    trainer = gs.ClusterTrainer(
        model,
        graph,
        parts,
        drawn,
        epochs=80,
        lr=lr,
        weight_decay=decay,
        evaluate_every=2,
        early_stopping=20,
        inductive=data in INDUCTIVE,
        progress=False,
    )
    report = trainer.fit()
    return {"val": report.final["val"][report.headline], "best_epoch": report.best_epoch}


def drawn(data: str, trials: int) -> list[dict[str, Any]]:
    """Configurations, the same in every call."""
    generator = random.Random(data)
    return [
        {"data": data} | {name: generator.choice(values) for name, values in SPACE.items()}
        for _ in range(trials)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="the folder of the data sets that are not shipped")
    parser.add_argument("--only", nargs="*", default=DATA)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    if arguments.data:
        os.environ["GNNSCALE_DATASETS"] = arguments.data
    settings = [s for data in arguments.only for s in drawn(data, arguments.trials)]
    run_all("tune_presets", validate, settings, workers=arguments.workers)
    table = Table("data", *SPACE, "epoch", "validation")
    for data in arguments.only:
        runs = [run for run in read_runs("tune_presets") if run["data"] == data]
        for run in sorted(runs, key=lambda run: -run["val"])[:5]:
            table.add_row(
                data,
                *(str(run[name]) for name in SPACE),
                str(run["best_epoch"]),
                f"{run['val']:.4f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()

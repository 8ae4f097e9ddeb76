"""The evidence for Cluster-GCN (Chiang et al., KDD 2019) on real graphs.

    python benchmarks/cluster_gcn.py partitions --data FOLDER   # Cora: METIS, KaMinPar, random
    python benchmarks/cluster_gcn.py depth --data FOLDER        # eq. 10 and eq. 11, 2-8 layers
    python benchmarks/cluster_gcn.py drawn --data FOLDER        # Tolokers: clusters a batch
    python benchmarks/cluster_gcn.py comparison --data FOLDER   # cluster batches and full batch
    python benchmarks/cluster_gcn.py tables                     # of the results so far

FOLDER holds the data sets that are not shipped as `<name>.npz` (see their cards). A study that is
stopped goes on where it was. Test figures are those of the epoch that is best on validation.

Full batch is gnnscale's own, one part: the same kernels, so that the batches alone differ. Every
run has one thread.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import statistics
import tempfile
import time
from itertools import product
from typing import Any

import torch
from campaign import grouped, mean_sd, read_runs, run_all
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

import gnnscale as gs
from gnnscale.data import find_card
from gnnscale.train.run.process import memory_use

PARTITIONS = {
    "split": ("default", "full"),
    "clusters_per_batch": (1, 2, 5),
    "method": ("random", "metis", "kaminpar"),
    "seed": tuple(range(1, 21)),
}
DEPTH = {
    "data": ("coauthor_cs", "amazon_computers"),
    "seed": (1, 2, 3),
    "norm": (None, "graph_norm"),
    "diag_lambda": (0.0, 1.0),
    "layers": (2, 3, 4, 6, 8),
}
DRAWN = {"clusters_per_batch": (6, 12, 24, 48), "seed": (1, 2, 3, 4, 5)}
COMPARISON = {
    "data": (
        "coauthor_cs",
        "amazon_computers",
        "facebook_pages",
        "tolokers",
        "twitch7",
        "wordnet",
        "debian",
    ),
    "seed": (1, 2, 3, 4, 5),
    "model": ("gcn", "sage"),
    "batches": ("clusters", "full"),
}
# A step an epoch: the learning rate that suits few steps. Stopping early would stop after as few.
FULL_BATCH = {
    "num_parts": 1,
    "clusters_per_batch": 1,
    "epochs": 200,
    "lr": 0.01,
    "early_stopping": None,
}
# Of the two large graphs a full batch takes seconds a step: what the time allows.
FULL_BATCH_OF_LARGE = FULL_BATCH | {"epochs": 100, "early_stopping": 20}
LARGE = ("wordnet", "debian")


@functools.lru_cache(maxsize=1)
def load(name: str) -> gs.Graph:
    return gs.load(name)


def fit(trainer: gs.ClusterTrainer) -> dict[str, Any]:
    """Train, and give what every study keeps."""
    report = trainer.fit()
    headline = report.headline
    return {
        "metric": headline,
        "test": report.final["test"][headline],
        "val": report.final["val"][headline],
        "best_epoch": report.best_epoch,
    }


def partitions(split: str, clusters_per_batch: int, method: str, seed: int) -> dict[str, Any]:
    """Cora in 10 parts: table 2 of the paper."""
    graph = load("cora")
    torch.manual_seed(seed)
    model = gs.nn.GCN(graph.num_features, 64, 2, graph.num_classes, dropout=0.5)
    trainer = gs.ClusterTrainer(
        model,
        graph,
        10,
        clusters_per_batch,
        epochs=150,
        seed=seed,
        method=method,
        split=split,
        weight_decay=5e-4,
        evaluate_every=1,
        progress=False,
    )
    return {**fit(trainer), "edge_cut": trainer.clustered.partition.quality(graph).edge_cut}


def depth(
    data: str, seed: int, norm: str | None, diag_lambda: float, layers: int
) -> dict[str, Any]:
    """Eq. 10 (λ = 0) and eq. 10 with 11 (λ = 1), no residual: table 11 of the paper."""
    graph = load(data)
    torch.manual_seed(seed)
    model = gs.nn.ClusterGCN(
        graph.num_features,
        128,
        layers,
        graph.num_classes,
        dropout=0.2,
        norm=norm,
        diag_lambda=diag_lambda,
    )
    trainer = gs.ClusterTrainer(
        model, graph, 50, 10, epochs=60, lr=0.01, seed=seed, evaluate_every=2, progress=False
    )
    outcome = fit(trainer)
    return {**outcome, "train": trainer.report.final["train"][outcome["metric"]]}


def drawn(clusters_per_batch: int, seed: int) -> dict[str, Any]:
    """Tolokers, most of whose edges join two clusters: the same steps on ever more clusters."""
    graph = load("tolokers")
    torch.manual_seed(seed)
    model = gs.nn.GraphSAGE(
        graph.num_features,
        64,
        3,
        graph.num_classes,
        dropout=0.2,
        norm="graph_norm",
        residual=True,
    )
    trainer = gs.ClusterTrainer(
        model,
        graph,
        48,
        clusters_per_batch,
        epochs=80 * clusters_per_batch // 6,
        lr=0.003,
        weight_decay=5e-4,
        seed=seed,
        evaluate_every=2 * clusters_per_batch // 6,
        progress=False,
    )
    return fit(trainer)


def comparison(data: str, seed: int, model: str, batches: str) -> dict[str, Any]:
    """The card's preset with clusters, and the same model on the full batch."""
    graph = load(data)
    card = find_card(data)
    assert card is not None
    preset = dict(card.preset)
    if batches == "full":
        preset |= FULL_BATCH_OF_LARGE if data in LARGE else FULL_BATCH
    preset.pop("model")
    names = ("num_parts", "clusters_per_batch", "epochs", "lr")
    arguments = {name: preset.pop(name) for name in names}
    arguments["weight_decay"] = preset.pop("weight_decay", 0.0)
    arguments["early_stopping"] = preset.pop("early_stopping", 20)
    arguments["inductive"] = preset.pop("inductive", False)
    layers = preset.pop("num_layers"), graph.num_classes
    widths = (graph.num_features, preset.pop("hidden_channels"), *layers)
    os.environ["GNNSCALE_CACHE"] = tempfile.mkdtemp()  # a partition known already takes no time
    before = memory_use()["peak_rss"]
    started = time.monotonic()
    torch.manual_seed(seed)
    network = gs.nn.MODELS[model](*widths, **preset)
    trainer = gs.ClusterTrainer(
        network, graph, seed=seed, evaluate_every=2, progress=False, **arguments
    )
    outcome = fit(trainer)
    report = trainer.report
    metric = f"val_{outcome['metric']}"
    best = max(row.get(metric, 0.0) for row in report.rows)

    def seconds_until(value: float) -> float:
        """Of partition and training, without evaluation."""
        epoch = next(row["epoch"] for row in report.rows if row.get(metric, 0.0) >= value)
        training = sum(row["seconds"] for row in report.rows[:epoch])
        return report.seconds.get("partition", 0.0) + training

    return {
        **outcome,
        "seconds_to_best": seconds_until(best),
        "seconds_to_99_percent": seconds_until(0.99 * best),
        "seconds": time.monotonic() - started,
        "peak_rss_before": before,
        "peak_rss": memory_use()["peak_rss"],
        "edge_cut": trainer.clustered.partition.quality(graph).edge_cut,
    }


def partitions_table() -> Table:
    table = Table("labels", "batch", "random", "METIS", "KaMinPar", title="Cora in 10 parts")
    for (split, drawn), runs in grouped(
        read_runs("cluster_gcn_partitions"), "split", "clusters_per_batch"
    ).items():
        by_method = grouped(runs, "method")
        cells = [
            mean_sd(run["test"] for run in by_method.get((name,), []))
            for name in ("random", "metis", "kaminpar")
        ]
        table.add_row({"default": "140", "full": "1208"}[split], str(drawn), *cells)
    return table


def depth_table() -> Table:
    depths = DEPTH["layers"]
    table = Table("graph", "norm", "propagation", *map(str, depths), title="layers, accuracy")
    for (data, norm, diag_lambda), runs in grouped(
        read_runs("cluster_gcn_depth"), "data", "norm", "diag_lambda"
    ).items():
        by_depth = grouped(runs, "layers")
        cells = [mean_sd(run["test"] for run in by_depth.get((n,), [])) for n in depths]
        equation = "eq. 10 + 11, λ = 1" if diag_lambda else "eq. 10"
        table.add_row(data, norm or "none", equation, *cells)
    return table


def drawn_table() -> Table:
    table = Table("clusters a batch, of 48", "validation", "test", title="Tolokers, ROC-AUC")
    for (clusters_per_batch,), runs in grouped(
        read_runs("cluster_gcn_drawn"), "clusters_per_batch"
    ).items():
        figures = (mean_sd(run[where] for run in runs) for where in ("val", "test"))
        table.add_row(str(clusters_per_batch), *figures)
    return table


def comparison_table() -> Table:
    table = Table(
        "graph", "model", "batches", "test", "seconds to 99 %", "to best", "MB", "edges cut"
    )
    names = [f"cluster_gcn_comparison_{data}" for data in COMPARISON["data"]]
    every = [run for name in names for run in read_runs(name)]
    for (data, model, batches), runs in grouped(every, "data", "model", "batches").items():

        def median(name: str, unit: float = 1.0, runs: Any = runs) -> str:
            return f"{statistics.median(run[name] for run in runs) / unit:.2f}"

        table.add_row(
            data,
            model,
            batches,
            mean_sd(run["test"] for run in runs),
            median("seconds_to_99_percent"),
            median("seconds_to_best"),
            # In one process the seeds after the first start at the peak of those before.
            f"{(max(r['peak_rss'] for r in runs) - min(r['peak_rss_before'] for r in runs)) >> 20}",
            median("edge_cut"),
        )
    return table


STUDIES: dict[str, tuple[Any, dict[str, tuple[Any, ...]], Any]] = {
    "partitions": (partitions, PARTITIONS, partitions_table),
    "depth": (depth, DEPTH, depth_table),
    "drawn": (drawn, DRAWN, drawn_table),
    "comparison": (comparison, COMPARISON, comparison_table),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=(*STUDIES, "tables"))
    parser.add_argument("--data", help="the folder of the data sets that are not shipped")
    parser.add_argument("--only", nargs="*", help="these graphs only")
    parser.add_argument("--workers", type=int, default=1, help="processes at once")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s", handlers=[RichHandler()])
    if arguments.study == "tables":
        for _, _, table in STUDIES.values():
            Console().print(table())
        return
    if arguments.data:
        os.environ["GNNSCALE_DATASETS"] = arguments.data
    function, grid, table = STUDIES[arguments.study]
    if arguments.only:
        grid = {**grid, "data": tuple(arguments.only)}
    settings = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if function is not comparison:
        run_all(f"cluster_gcn_{arguments.study}", function, settings, workers=arguments.workers)
    for data in grid["data"] if function is comparison else ():
        run_all(
            f"cluster_gcn_comparison_{data}",
            function,
            [setting for setting in settings if setting["data"] == data],
            # Each kind of run in a process of its own: its peak of memory, and seeds in turn.
            lanes=lambda setting: (setting["model"], setting["batches"]),
        )
    Console().print(table())


if __name__ == "__main__":
    main()

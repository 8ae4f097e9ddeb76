"""What can be learnt from ``synthetic:amazon2m``, and what it takes.

    python benchmarks/calibration.py --scale 0.25

An MLP on the features, and a 3-layer GCN trained on batches of 10 clusters, by KaMinPar and at
random, 15,000 parts at scale 1. The graph is drawn into $GNNSCALE_CACHE the first time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import gnnscale as gs
from gnnscale.data.synthetic.amazon import EDGES
from gnnscale.storage.files import write_json
from gnnscale.train.run.report import environment

RESULTS = Path(__file__).parent / "results"
PARTS = 15_000


def mlp_accuracy(graph: gs.Graph, hidden: int, epochs: int) -> float:
    """The best accuracy on the test nodes over all epochs: in favour of the MLP."""
    torch.manual_seed(0)
    layers = [nn.Linear(graph.num_features, hidden), nn.ReLU(), nn.Dropout(0.3)]
    layers += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.3)]
    network = nn.Sequential(*layers, nn.Linear(hidden, graph.num_classes))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    train, test = (graph.split()[part].nonzero().flatten() for part in ("train", "test"))
    best = 0.0
    for _ in range(epochs):
        network.train()
        for rows in train[torch.randperm(train.numel())].split(2048):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(graph.x[rows]), graph.y[rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            correct = sum(
                int((network(graph.x[rows]).argmax(1) == graph.y[rows]).sum())
                for rows in test.split(65_536)
            )
        best = max(best, correct / test.numel())
    return best


def train(graph: gs.Graph, method: str, parts: int, arguments: argparse.Namespace) -> dict:
    """One training run: its accuracies, and the fraction of edges that the parts cut."""
    torch.manual_seed(0)
    model = gs.nn.GCN(
        graph.num_features, arguments.hidden, 3, graph.num_classes, dropout=arguments.dropout
    )
    trainer = gs.ClusterTrainer(
        model,
        graph,
        parts,
        10,
        epochs=arguments.epochs,
        lr=arguments.lr,
        method=method,
        evaluate_every=1,
        progress=False,
    )
    report = trainer.fit()
    return {
        "test_accuracy": report.final["test"]["accuracy"],
        "val_accuracy": [row["val_accuracy"] for row in report.rows],
        "best_epoch": report.best_epoch,
        "edge_cut": trainer.clustered.partition.quality(graph).edge_cut,
        "seconds": report.seconds,
    }


def describe(graph: gs.Graph, scale: float) -> dict[str, Any]:
    """Sizes and degrees of the graph, and how many of the edges drawn are left after merging."""
    degree = graph.adj.indptr.diff()
    return {
        "nodes": graph.num_nodes,
        "undirected_edges": graph.num_edges // 2,
        "share_of_edges_drawn": graph.num_edges // 2 / round(EDGES * scale),
        "median_degree": int(degree.median()),
        "greatest_degree": int(degree.max()),
        "largest_class": float(torch.bincount(graph.y).max()) / graph.num_nodes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=0, help="of the graph")
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    source = f"synthetic:amazon2m?scale={arguments.scale}&seed={arguments.seed}"
    started = time.monotonic()
    graph = gs.load(source)
    result: dict[str, Any] = {
        "settings": vars(arguments),
        "graph": describe(graph, arguments.scale),
        "seconds_to_load": time.monotonic() - started,
        "mlp": mlp_accuracy(graph, hidden=256, epochs=10),
    }
    parts = round(PARTS * arguments.scale)
    for method in ("kaminpar", "random"):
        result[method] = train(graph, method, parts, arguments)
    result["environment"] = environment("cpu")
    write_json(RESULTS / f"calibration_{arguments.scale:g}.json", result)

    learnt, chance = result["kaminpar"], result["random"]
    table = Table("", "measured", "wanted", title=f"{source}, {parts:,} parts")
    highest = max(learnt["val_accuracy"])
    table.add_row("MLP on the features", f"{result['mlp']:.3f}", "≤ 0.60")
    table.add_row("GCN, KaMinPar", f"{learnt['test_accuracy']:.3f}", "0.88 to 0.92")
    lead = learnt["test_accuracy"] - chance["test_accuracy"]
    table.add_row("its lead over random parts", f"{100 * lead:.1f} points", "≥ 1")
    late = highest - learnt["val_accuracy"][0]
    table.add_row("gained after the first epoch", f"{100 * late:.1f} points", "≥ 3")
    table.add_row("edges cut", f"{learnt['edge_cut']:.3f}", "about 0.45")
    share = result["graph"]["share_of_edges_drawn"]
    table.add_row("edges left of those drawn", f"{share:.3f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()

"""Norms for a PyG model: `with_norm` puts them in, and `over` says which rows are a graph.

Training sees batches of clusters and the test the whole graph, so what a norm takes as a graph
matters: the batch, each cluster, or averages kept in training. The test is exact with any of them.

    python examples/graphnorm.py                                       # WordNet, under a minute
    python examples/graphnorm.py "synthetic:planted?nodes=1500" 2      # another graph, 2 epochs
"""

from __future__ import annotations

import sys
from functools import partial

import torch
import torch_geometric
from rich.console import Console
from rich.table import Table

import gnnscale as gs

NORMS = {
    "none": None,
    "batch norm": gs.nn.BatchNorm,
    "GraphNorm over the batch": partial(gs.nn.GraphNorm, over="batch"),
    "GraphNorm over each cluster": partial(gs.nn.GraphNorm, over="cluster"),
    "GraphNorm, running averages": partial(gs.nn.GraphNorm, running=True),
}


def main(source: str = "wordnet", epochs: int = 6) -> None:
    graph = gs.load(source)
    clustered = gs.cluster(graph, gs.partition(graph, num_parts=100))
    table = Table("norm", "validation after one epoch", "test accuracy")
    for name, norm in NORMS.items():
        torch.manual_seed(0)  # the same initial weights
        pyg_model = torch_geometric.nn.GCN(
            graph.num_features, 64, num_layers=3, out_channels=graph.num_classes, dropout=0.2
        )
        model = gs.nn.with_norm(pyg_model, norm)
        trainer = gs.ClusterTrainer(
            model, clustered, clusters_per_batch=10, epochs=epochs, evaluate_every=1
        )
        report = trainer.fit()
        first, test = report.rows[0]["val_accuracy"], trainer.evaluate("test")["accuracy"]
        table.add_row(name, f"{first:.3f}", f"{test:.3f}")
    Console().print(table)


if __name__ == "__main__":
    source, epochs, *_ = *sys.argv[1:], *("wordnet", "6")[len(sys.argv) - 1 :]
    main(source, int(epochs))

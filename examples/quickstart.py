"""The main job: train a GNN on WordNet by cluster mini-batches, evaluate it on the full graph.

117,659 synsets, joined by 183,789 links; the task is to tell which of WordNet's 45 lexicographer
files a synset stands in. `gnnscale train --dataset wordnet` does the same.
"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.table import Table

import gnnscale as gs


def main() -> None:
    console, started = Console(), time.monotonic()
    graph = gs.load("wordnet")
    console.print(f"{graph}")

    torch.manual_seed(0)  # the initial weights
    model = gs.nn.GraphSAGE(
        graph.num_features,
        hidden_channels=128,
        num_layers=3,
        out_channels=graph.num_classes,
        dropout=0.5,
        norm="layer_norm",
        norm_kwargs={"mode": "node"},
    )
    trainer = gs.ClusterTrainer(
        model,
        graph,
        num_parts=150,
        clusters_per_batch=15,
        epochs=40,
        lr=0.005,
        run_dir="runs/quickstart",
    )
    trainer.fit(resume=False)

    table = Table("", "test accuracy")
    for name, accuracy in gs.baselines(graph).items():
        table.add_row(name, f"{accuracy:.3f}")
    accuracy = trainer.evaluate("test")["accuracy"]
    table.add_row("3-layer GraphSAGE, cluster mini-batches", f"[bold]{accuracy:.3f}[/bold]")
    console.print(table)
    console.print(
        f"{time.monotonic() - started:.0f} s. Report, curves and weights: runs/quickstart"
    )
    console.print("Next: gnnscale predict runs/quickstart --out predictions.npy")


if __name__ == "__main__":
    main()

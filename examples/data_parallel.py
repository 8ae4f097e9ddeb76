"""Train on as many processes as there are: each takes other clusters of every step.

    torchrun --standalone --nproc-per-node 2 examples/data_parallel.py

Run without torchrun it is one process. Several hosts: docs/guide/distributed.md.
"""

from __future__ import annotations

import torch
from rich.console import Console

import gnnscale as gs
from gnnscale import comm


def main() -> None:
    comm.start()  # a trainer does so too: here, to know how many ranks there are
    ranks = comm.world_size()
    graph = gs.load("wordnet")
    torch.manual_seed(0)
    model = gs.nn.GraphSAGE(graph.num_features, 64, 2, graph.num_classes, dropout=0.3)
    # Four batches a step, whoever takes them: 1, 2 and 4 ranks learn the same, but for rounding.
    trainer = gs.ClusterTrainer(
        model,
        graph,
        num_parts=60,
        clusters_per_batch=3,
        accumulate=max(1, 4 // ranks),
        epochs=10,
        seed=0,
    )
    report = trainer.fit()
    accuracy = trainer.evaluate("test")["accuracy"]  # every rank calls it, and computes a share
    if comm.is_main():
        seconds = report.seconds["total"]
        Console().print(f"{ranks} ranks: {accuracy:.4f} of the test set right in {seconds:.1f} s")


if __name__ == "__main__":
    main()

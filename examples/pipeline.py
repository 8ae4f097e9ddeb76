"""Train a model that is spread over two processes: half of its layers in each.

    torchrun --standalone --nproc-per-node 2 examples/pipeline.py

Run without torchrun it is one process, with both halves on two GPUs where there are two, else in
turn. When to take this and when data parallelism: docs/guide/distributed.md.
"""

from __future__ import annotations

import torch
from rich.console import Console

import gnnscale as gs
from gnnscale import comm


def main() -> None:
    comm.start()  # a trainer does so too: here, to know how many ranks there are
    graph = gs.load("wordnet")
    torch.manual_seed(0)
    model = gs.nn.GraphSAGE(
        graph.num_features, 64, 4, graph.num_classes, norm="layer_norm", dropout=0.3, residual=True
    )
    trainer = gs.PipelineTrainer(
        model,
        graph,
        num_parts=60,
        clusters_per_batch=3,
        stages=2,  # cut where a profile of the layers finds the slower half fastest
        micro_batches=5,  # batches an update, on their way through the stages one behind the other
        epochs=5,
        seed=0,
    )
    trainer.record = True
    report = trainer.fit()
    accuracy = trainer.evaluate("test")["accuracy"]
    timeline = trainer.timeline()  # of the last update; every rank calls it
    if comm.is_main():
        console, seconds = Console(), report.seconds["total"]
        ranks = comm.world_size()
        console.print(f"{ranks} ranks: {accuracy:.4f} of the test set right in {seconds:.1f} s")
        console.print(timeline.table())


if __name__ == "__main__":
    main()

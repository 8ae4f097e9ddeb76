"""Layer by layer with the graph, its features and every layer on disk.

    python examples/out_of_core_layerwise.py         # 2 % of Amazon2M's size: 49,000 nodes
    python examples/out_of_core_layerwise.py 0.25    # 612,000 nodes, 27 million edges

What is aggregated goes to files in half precision, and is read from there in shuffled blocks. What
stays in memory is a layer's piece of `memory=` bytes, the labels and the structure being read.
"""

import sys
import tempfile

import torch

import gnnscale as gs


def main() -> None:
    scale = sys.argv[1] if len(sys.argv) > 1 else "0.02"
    graph = gs.load(f"synthetic:amazon2m?scale={scale}")  # drawn to disk once, opened from there
    print(graph)
    torch.manual_seed(0)
    model = gs.nn.GCN(graph.num_features, 128, 3, graph.num_classes, dropout=0.2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = gs.LayerwiseTrainer(
            model,
            graph,
            controller=gs.FixedEpochs(3),
            storage=folder,
            memory="100MB",
            rows_dtype="float16",
        )
        report = trainer.fit()
    print(report.table())
    peak = report.memory["peak_pss"] / 1e6
    print(f"peak memory {peak:.0f} MB, the interpreter and its libraries included")


if __name__ == "__main__":
    main()

"""L-GCN: every layer trained alone, on features that are aggregated once; beside Cluster-GCN.

    python examples/layerwise.py            # Debian's packages
    python examples/layerwise.py wordnet    # or any other graph that gs.load knows

Greedy training may leave accuracy behind: the last line lets all layers train together for a few
epochs at the end.
"""

import sys

import torch

import gnnscale as gs

graph = gs.load(sys.argv[1] if len(sys.argv) > 1 else "debian")


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return gs.nn.GraphSAGE(graph.num_features, 128, 2, graph.num_classes, dropout=0.5)


def tell(name: str, trainer: gs.ClusterTrainer | gs.LayerwiseTrainer, report: gs.Report) -> None:
    accuracy = trainer.evaluate("test")["accuracy"]
    print(f"{name:28} {accuracy:.3f} in {report.seconds['total']:.1f} s")


def main() -> None:
    layerwise = gs.LayerwiseTrainer(
        make_model(),
        graph,
        controller=gs.Plateau(patience=5, monitor="metric"),
        fine_tune={"epochs": 5, "num_parts": 16, "clusters_per_batch": 2},
    )
    report = layerwise.fit()
    print(report.table())
    together = gs.ClusterTrainer(
        make_model(), graph, num_parts=16, clusters_per_batch=2, epochs=20, lr=0.005
    )
    tell("clusters, all layers together", together, together.fit())
    tell("layer by layer, fine-tuned", layerwise, report)


if __name__ == "__main__":
    main()

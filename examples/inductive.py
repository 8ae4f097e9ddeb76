"""The inductive protocol on several graphs: train on some, validate and test on others.

    python examples/inductive.py

The training graphs alone are partitioned and trained on. The others are stored beside them, each a
cluster of its own, and seen for the first time in evaluation.
"""

import itertools

import numpy as np
import torch

import gnnscale as gs


def several_graphs(sizes: list[int], classes: int = 4, seed: int = 0) -> gs.Graph:
    """Graphs of one kind: the first ones to train on, the last but one to validate, the last."""
    rng = np.random.default_rng(seed)
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    y = rng.integers(classes, size=ptr[-1])
    x = rng.normal(size=(ptr[-1], 16)).astype(np.float32)
    x[np.arange(ptr[-1]), y] += 0.7
    edges = []
    for start, end in itertools.pairwise(ptr):
        pairs = rng.integers(start, end, size=(2, 40 * (end - start)))
        same = y[pairs[0]] == y[pairs[1]]
        edges.append(pairs[:, same | (rng.random(pairs.shape[1]) < 0.1)])
    part = np.searchsorted(ptr, np.arange(ptr[-1]), side="right") - 1
    return gs.Graph.from_arrays(
        edge_index=np.concatenate(edges, axis=1),
        x=x,
        y=y,
        node_ptr=ptr,
        train_mask=part < len(sizes) - 2,
        val_mask=part == len(sizes) - 2,
        test_mask=part == len(sizes) - 1,
        undirected=True,
    )


def main() -> None:
    graph = several_graphs([1500, 1500, 800, 800])
    torch.manual_seed(0)
    model = gs.nn.GraphSAGE(graph.num_features, 64, 2, graph.num_classes, dropout=0.2)
    trainer = gs.ClusterTrainer(model, graph, inductive=True, precompute=True, epochs=10)
    trainer.fit()
    print(trainer.clustered)
    print(trainer.evaluate(["val", "test"]))


if __name__ == "__main__":
    main()

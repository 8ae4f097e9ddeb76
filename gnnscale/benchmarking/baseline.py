"""Baselines that every result should stand beside: majority class, label propagation, an MLP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.kernels import spmm
from gnnscale.nn import MLP, SymmetricNormalisation
from gnnscale.nn.convs.matrices import coefficients
from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.graphs import graphs_as_rows
from gnnscale.train.task import NodeTask


def majority(graph: Graph, where: str = "test", split: str = "default") -> float:
    """Accuracy of always answering the training nodes' most frequent class."""
    y, train, rows = _labels(graph, where, split)
    return float((y[rows] == y[train].mode().values).float().mean())


def label_propagation(
    graph: Graph,
    where: str = "test",
    split: str = "default",
    *,
    steps: int = 50,
    alpha: float = 0.9,
) -> float:
    """Accuracy of label propagation (Zhou et al., NeurIPS 2003), which sees no features.

    Y ← α·D^-½ A D^-½ Y + (1 − α)·Y₀, clamped to [0, 1], from the training nodes' labels Y₀.
    """
    y, train, rows = _labels(graph, where, split)
    known = torch.zeros(graph.num_nodes, graph.num_classes)
    known[train] = functional.one_hot(y[train], graph.num_classes).float()
    left, right, _, _ = coefficients(SymmetricNormalisation(None), graph.adj, torch.float32)
    scores = known
    for _ in range(steps):
        scores = spmm(graph.adj, scores, left, right).mul_(alpha)
        scores = scores.add_(known, alpha=1 - alpha).clamp_(0, 1)
    return float((scores[rows].argmax(1) == y[rows]).float().mean())


def perceptron(
    graph: Graph,
    where: str = "test",
    split: str = "default",
    *,
    hidden_channels: int = 128,
    epochs: int = 10,
    seed: int = 0,
    **options: Any,
) -> float:
    """The headline metric of an MLP with one hidden layer on the same features, best epoch kept."""
    with torch.random.fork_rng(devices=[]):  # the caller's own draws stay as they were
        torch.manual_seed(seed)
        model = MLP(graph.num_features, hidden_channels, 2, graph.num_classes, dropout=0.5)
    task = NodeTask(graph.task, graph.metric)
    trainer = ClusterTrainer(
        model, graph, method="random", epochs=epochs, split=split, task=task, seed=seed, **options
    )
    trainer.fit()
    return trainer.evaluate(where)[task.headline]


def baselines(graph: Graph, where: str = "test", split: str = "default") -> dict[str, float]:
    """All three on one set of nodes, by name; those for classes only where there are classes.

    Of graphs with one label each, the majority class alone.
    """
    found = {}
    of_nodes = graph.y_level == "node"
    if graph.task == "classification" and graph.metric in (None, "accuracy"):
        rows = graphs_as_rows(graph) if graph.y_level == "graph" else graph
        found["majority class"] = majority(rows, where, split)
        if of_nodes:
            found["label propagation"] = label_propagation(graph, where, split)
    if graph.x is not None and of_nodes:
        found["MLP on the features"] = perceptron(graph, where, split, progress=False)
    return found


def _labels(graph: Graph, where: str, split: str) -> tuple[Tensor, Tensor, Tensor]:
    chosen = graph.split(split)
    if graph.y is None or graph.y_level != "node" or graph.task != "classification" or not chosen:
        raise InputError("this baseline needs node classes and a split")
    labelled = graph.y >= 0
    train, rows = chosen.train & labelled, chosen[where] & labelled
    for name, mask in (("train", train), (where, rows)):
        if not bool(mask.any()):
            raise InputError(f"the split has no labelled {name} nodes")
    return graph.y, train, rows

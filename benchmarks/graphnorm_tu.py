"""GIN and GCN with and without norms on data sets of many small graphs, ten folds.

The network and its training are those of the code of Cai et al. (ICML 2021): four convolutions
(five layers, as they count, with the output), GIN's network of two layers with the norm after
either, residual connections from the second on, readout by the sum (by the mean on IMDB-BINARY),
dropout on the outputs, a learning rate that falls linearly to 0, GraphNorm's ε 1e-6.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch_geometric.nn import GCNConv, GINConv

import gnnscale as gs

SETS = ("mutag", "ptc", "imdb_binary", "proteins", "nci1")
MODELS = ("gin", "gcn")
PROTOCOLS = ("folds", "validation")
FOLDS, LAYERS, HIDDEN, DROPOUT, LR, BATCH = 10, 4, 64, 0.5, 0.01, 128
# Of the paper's 400, what an hour of one core bears.
EPOCHS = {"mutag": 200, "ptc": 200, "proteins": 30, "nci1": 30, "imdb_binary": 100}
NORMS: dict[str, Callable[[], nn.Module | None]] = {
    "none": lambda: None,
    "batch_norm": lambda: gs.nn.BatchNorm(HIDDEN),
    "instance_norm": lambda: gs.nn.InstanceNorm(HIDDEN, eps=1e-6, affine=True),
    "graph_norm": lambda: gs.nn.GraphNorm(HIDDEN, eps=1e-6),
}
# Cai et al., table 1, in percent: GIN, mean over the folds at the best epoch.
PUBLISHED = {
    "batch_norm": {"mutag": 89.4, "ptc": 64.6, "proteins": 76.2, "nci1": 82.7, "imdb_binary": 75.1},
    "graph_norm": {"mutag": 91.6, "ptc": 64.9, "proteins": 77.4, "nci1": 81.4, "imdb_binary": 76.0},
}


@functools.lru_cache(maxsize=1)
def load(data: str) -> gs.Graph:
    """A data set with its folds; where nodes have no labels, their degrees are their features."""
    with np.load(Path(os.environ["GNNSCALE_DATASETS"]) / f"tu_{data}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    tag, ptr = arrays["node_tag"], arrays["node_ptr"].astype(np.int64)
    if not tag.any():
        tag = np.bincount(arrays["edge_index"].ravel(), minlength=len(tag))
    tag = np.unique(tag, return_inverse=True)[1]
    of_node = np.repeat(arrays["fold"], np.diff(ptr))
    return gs.Graph.from_arrays(
        arrays["edge_index"].astype(np.int64),
        x=np.eye(tag.max() + 1, dtype=np.float32)[tag],
        y=arrays["y"].astype(np.int64),
        splits={
            f"fold{k}": {"train": of_node != k, "val": of_node < -1, "test": of_node == k}
            for k in range(FOLDS)
        },
        node_ptr=ptr,
        y_level="graph",
        undirected=True,
        name=f"tu_{data}",
    )


def network(model: str, norm: str, in_channels: int, out_channels: int) -> gs.nn.LayeredGNN:
    make = NORMS[norm]

    def convolution(width: int) -> nn.Module:
        if model == "gcn":
            return GCNConv(width, HIDDEN)
        layers = [nn.Linear(width, HIDDEN), make(), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN)]
        # Their graphs have self-loops beside GIN's own term: ε = 1.
        return GINConv(nn.Sequential(*(layer for layer in layers if layer is not None)), eps=1.0)

    blocks = [
        gs.nn.Block(convolution(HIDDEN if i else in_channels), norm=make(), residual=i > 0)
        for i in range(LAYERS)
    ]
    head = nn.Sequential(nn.Linear(HIDDEN, out_channels), nn.Dropout(DROPOUT))
    return gs.nn.LayeredGNN(blocks, head=head)


def linear_decay(epochs: int, optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs)


def trainer(
    graph: gs.Graph, split: str, *, model: str, norm: str, epochs: int, readout: str
) -> gs.GraphTrainer:
    return gs.GraphTrainer(
        network(model, norm, graph.num_features, graph.num_classes),
        graph,
        readout,
        graphs_per_batch=BATCH,
        epochs=epochs,
        lr=LR,
        scheduler=partial(linear_decay, epochs),
        split=split,
        evaluate_every=1,
        prefetch=0,
        keep="last",
        device="cpu",
        progress=False,
    )


def cross_validate(
    data: str, model: str, norm: str, protocol: str, epochs: int, folds: int = FOLDS
) -> dict[str, Any]:
    """Train once a fold; "validation" holds out a tenth of the other folds to choose the epoch.

    Of fewer than ten `folds` the first ones are taken: each still trains on the other nine.
    """
    readout = "mean" if data == "imdb_binary" else "sum"
    make = partial(trainer, model=model, norm=norm, epochs=epochs, readout=readout)
    held = 0.1 if protocol == "validation" else 0.0
    graph = load(data)
    first = {name: graph.splits[name] for name in (f"fold{k}" for k in range(folds))}
    found = gs.k_fold(make, dataclasses.replace(graph, splits=first), folds, validation=held)
    best = found.at_best_epoch()
    chosen = found.at_chosen_epochs() if held else None
    # Training alone: evaluations of every epoch take as long.
    seconds = [row["seconds"] for report in found.reports for row in report.rows]
    return {
        "best_epoch": best._asdict(),
        "chosen_epochs": None if chosen is None else chosen._asdict(),
        "train": [round(float(value), 4) for value in found.curves["train"].mean(0)],
        "test": [round(float(value), 4) for value in found.curves["test"].mean(0)],
        "loss": np.mean([[row["loss"] for row in r.rows] for r in found.reports], 0)
        .round(4)
        .tolist(),
        "seconds_an_epoch": float(np.median(seconds)),
    }


def epochs_to(curve: list[float], level: float) -> int | None:
    """Epochs until a curve has reached a level; None: it never does."""
    return next((epoch for epoch, value in enumerate(curve, 1) if value >= level), None)

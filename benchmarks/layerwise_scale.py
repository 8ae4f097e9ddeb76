"""The runs of layerwise.py at the size of Amazon2M, and one epoch beside a perceptron's."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import Any

import torch
from layerwise_runs import controller, network, outcome
from layerwise_settings import Settings
from torch import nn
from torch.nn import functional

import gnnscale as gs

# Amazon2M's scale 1 has 15,000 parts, ten a batch (Chiang et al., KDD 2019, table 4).
PARTS = 15_000


def source(scale: float) -> str:
    return f"synthetic:amazon2m?scale={scale}"


class Until(gs.Callback):
    """Ends the training of ClusterTrainer once a validation metric is reached."""

    def __init__(self, value: float) -> None:
        self.value = value

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        trainer.stop = row.get(f"val_{trainer.task.headline}", 0.0) >= self.value


def amazon2m(scale: float, method: str, seed: int, settings: Settings) -> dict[str, Any]:
    """Train from the stored graph; clusters only until they validate as well as is asked."""
    graph = gs.load(source(scale))
    torch.manual_seed(seed)
    model = network(settings["model"], graph)
    arguments = {**settings["train"], "seed": seed, "evaluate_every": 1, "progress": False}
    with tempfile.TemporaryDirectory(dir=settings.get("folder")) as folder:
        os.environ["GNNSCALE_CACHE"] = folder  # a partition that is known already takes no time
        if method == "cluster":
            stop = [Until(settings["until"])]
            parts = max(1, round(PARTS * scale))
            store = f"{folder}/store"
            trainer: Any = gs.ClusterTrainer(
                model, graph, parts, 10, store=store, callbacks=stop, **arguments
            )
        else:
            stop_rule = controller(method, settings)
            trainer = gs.LayerwiseTrainer(model, graph, stop_rule, storage=folder, **arguments)
        return outcome(trainer.fit()) | {"num_nodes": graph.num_nodes}


def memory(scale: float, hidden: int, rows_dtype: str) -> dict[str, Any]:
    """The peak of an epoch a layer with rows on disk, and what stays in memory."""
    graph = gs.load(source(scale))
    torch.manual_seed(0)
    model = gs.nn.GCN(graph.num_features, hidden, 3, graph.num_classes, dropout=0.2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = gs.LayerwiseTrainer(
            model,
            graph,
            gs.FixedEpochs(1),
            storage=folder,
            rows_dtype=rows_dtype,
            memory="256MB",
            progress=False,
        )
        report = trainer.fit()
    arrays = report.memory["arrays"]
    return {
        "num_nodes": graph.num_nodes,
        "peak_pss": report.memory["peak_pss"],
        "peak_anonymous": report.memory["peak_pss_anonymous"],
        "peak_file": report.memory["peak_pss_file"],
        "arrays": arrays,
        "apart": report.memory["peak_pss"] - sum(arrays.values()),
        "seconds": report.seconds,
    }


class Beside(gs.Callback):
    """After every epoch of a trainer's first layer, one of a perceptron of the same shape.

    The perceptron is what anybody writes in PyTorch: draw an order, index, step.
    """

    def __init__(self, x: torch.Tensor, y: torch.Tensor, widths: tuple[int, ...], about: Settings):
        self.x, self.y, self.batch = x, y, about["batch_rows"]
        before, hidden, classes = widths
        layers = nn.Linear(before, hidden), nn.ReLU(), nn.Dropout(about["dropout"])
        self.model = nn.Sequential(*layers, nn.Linear(hidden, classes))
        self.optimizer = torch.optim.Adam(self.model.parameters(), about["lr"], fused=True)
        self.seconds: list[float] = []
        self.theirs: list[float] = []

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        self.theirs.append(row["seconds"])
        started = time.monotonic()
        for chosen in torch.randperm(len(self.y)).split(self.batch):
            loss = functional.cross_entropy(self.model(self.x[chosen]), self.y[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.seconds.append(time.monotonic() - started)


def epoch(data: str, hidden: int, about: Settings, epochs: int) -> dict[str, Any]:
    """A layer's epoch beside that of a perceptron of its shape, in turn in one process."""
    graph = gs.load(data)
    assert isinstance(graph.x, torch.Tensor) and graph.y is not None
    split = graph.split("default")
    assert split is not None
    torch.manual_seed(0)
    kept = split.train.nonzero().view(-1)
    x, y = graph.x[kept].float(), graph.y[kept].long()
    # Two layers, of which the first, with its temporary classifier, has the perceptron's shape.
    conv = gs.nn.ClusterGCNConv(x.shape[1], hidden, "mean_plus_identity")
    block = gs.nn.Block(conv, dropout=about["dropout"])
    model = gs.nn.LayeredGNN([block], head=nn.Linear(hidden, graph.num_classes))
    beside = Beside(x, y, (x.shape[1], hidden, graph.num_classes), about)
    gs.LayerwiseTrainer(
        model,
        graph,
        gs.FixedEpochs(epochs),
        about["batch_rows"],
        lr=about["lr"],
        evaluate_every=epochs,
        callbacks=[beside],
        progress=False,
    ).fit()
    # The first has both warm up.
    ours, theirs = statistics.median(beside.theirs[1:]), statistics.median(beside.seconds[1:])
    return {
        "rows": len(y),
        "layer_seconds": ours,
        "mlp_seconds": theirs,
        "ratio": ours / theirs,
        "every": [beside.theirs, beside.seconds],
    }

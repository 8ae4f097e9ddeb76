"""The runs of layerwise.py on real graphs: from a setting to what is kept of its outcome."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from campaign import RESULTS
from layerwise_settings import CORA, INDUCTIVE, Settings

import gnnscale as gs
from gnnscale.train import Report

CONTROLLER = RESULTS / "layerwise_controller.safetensors"
FINE_TUNING = "fine-tuning"  # in the place of a layer's number
_CLUSTERING = ("prepare", "partition", "cluster", "first hop")
PEER = "LAYERWISE_PEER"  # the variable with the interpreter that has DGL


@functools.lru_cache(maxsize=1)
def load(name: str) -> gs.Graph:
    return gs.load(name)


def network(settings: Settings, graph: gs.Graph) -> gs.nn.LayeredGNN:
    arguments = dict(settings)
    build = gs.nn.MODELS[arguments.pop("model")]
    widths = graph.num_features, arguments.pop("hidden_channels"), arguments.pop("num_layers")
    return build(*widths, graph.num_classes, **arguments)


def controller(method: str, settings: Settings) -> Any:
    if method == "learned":
        return gs.LearnedController.load(CONTROLLER)
    if method == "fixed":
        return gs.FixedEpochs(settings["epochs"])
    return gs.Plateau(**settings["plateau"])


def outcome(report: Report) -> dict[str, Any]:
    """What every run keeps. Seconds leave out evaluation, as those of DGL do."""
    headline = report.headline
    tuning = [each for each in report.layers if each["layer"] == FINE_TUNING]
    apart = ("evaluate", "total", "fine_tune")
    parts = [seconds for name, seconds in report.seconds.items() if name not in apart]
    parts += [each["seconds"] + each["cluster_seconds"] for each in tuning]
    return {
        "metric": headline,
        "test": report.final["test"][headline],
        "val": report.final["val"][headline],
        "seconds": sum(parts),
        "parts": report.seconds,
        "peak_pss": report.memory["peak_pss"],
        "layers": report.layers,
        "epochs": len(report.rows),
        "curve": curve(report),
    }


def curve(report: Report) -> list[list[float]]:
    """Seconds so far and validation metric, wherever the model that results was evaluated.

    What comes before an epoch counts: partition, first hop, the aggregation of its layer. Layers
    before the last are judged by classifiers that are dropped, and so left out.
    """
    before = {
        each["layer"]: each.get("aggregate_seconds", each.get("cluster_seconds", 0.0))
        for each in report.layers
    }
    last = max((layer for layer in before if layer != FINE_TUNING), default=None)
    # What is not of one layer: the rows that the layers before give.
    seconds = report.seconds.get("aggregate", 0.0)
    seconds -= sum(each.get("aggregate_seconds", 0.0) for each in report.layers)
    seconds += sum(report.seconds.get(name, 0.0) for name in _CLUSTERING)
    found, layer = [], None
    for row in report.rows:
        if row.get("layer") != layer:
            layer = row["layer"]
            seconds += before[layer]
        seconds += row["seconds"]
        value = row.get(f"val_{report.headline}")
        if value is not None and layer in (None, last, FINE_TUNING):
            found.append([seconds, value])
    return found


def cora(propagation: str, method: str, seed: int, learned: str | None = None) -> dict[str, Any]:
    """Cora as You et al. have it: two layers of 16, a classifier on the last, no dropout."""
    graph = load("cora")
    widths = [graph.num_features, *[CORA["hidden_channels"]] * CORA["layers"]]
    torch.manual_seed(seed)
    convs = {
        "D⁻¹A + I": functools.partial(gs.nn.ClusterGCNConv, propagation="mean_plus_identity"),
        "GCN's": _gcn_conv,
    }
    blocks = [
        gs.nn.Block(convs[propagation](before, after))
        for before, after in itertools.pairwise(widths)
    ]
    model = gs.nn.LayeredGNN(blocks, head=torch.nn.Linear(widths[-1], graph.num_classes))
    trainer = gs.LayerwiseTrainer(
        model,
        graph,
        controller(method, CORA),
        CORA["batch_rows"],
        lr=CORA["lr"],
        seed=seed,
        split=CORA["split"],
        keep="last",  # the paper's code takes no weights by validation
        progress=False,
    )
    return outcome(trainer.fit())


def _gcn_conv(before: int, after: int) -> torch.nn.Module:
    from torch_geometric.nn import GCNConv

    return GCNConv(before, after)


def graphs(
    data: str, method: str, seed: int, settings: Settings, learned: str | None = None
) -> dict[str, Any]:
    """One training, validated after every epoch."""
    graph = load(data)
    torch.manual_seed(seed)
    model = network(settings["model"], graph)
    arguments = {**settings["train"], "seed": seed, "evaluate_every": 1, "progress": False}
    # Of its own: a partition that is known already takes no time.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GNNSCALE_CACHE"] = cache
        if method in ("cluster", "full"):
            return outcome(gs.ClusterTrainer(model, graph, **arguments).fit())
        stop = controller("plateau" if method == "fine_tuned" else method, settings)
        return outcome(gs.LayerwiseTrainer(model, graph, stop, **arguments).fit())


def sampled(data: str, seed: int, hidden: int, settings: Settings, threads: int) -> dict[str, Any]:
    """GraphSAGE with neighbour sampling, in the interpreter that has DGL."""
    about = {"data": data, "seed": seed, "hidden": hidden, "threads": threads, **settings}
    about["inductive"] = data in INDUCTIVE
    script = Path(__file__).with_name("layerwise_sampled.py")
    root = str(script.parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": str(threads)}
    command = [os.environ[PEER], str(script), json.dumps(about)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def learn(
    data: str, settings: Settings, rounds: int, every: int, epoch_cost: float, seed: int
) -> dict[str, Any]:
    """Learn a controller on samples of one graph, for all others; kept in `CONTROLLER`."""
    graph = load(data)
    torch.manual_seed(seed)
    started = time.monotonic()
    learned = gs.LearnedController.learn(
        network(settings["model"], graph),
        graph,
        rounds=rounds,
        every=every,
        epoch_cost=epoch_cost,
        seed=seed,
        **settings["train"],
    )
    seconds = time.monotonic() - started
    learned.save(CONTROLLER)
    return {"seconds": seconds, "history": learned.history}

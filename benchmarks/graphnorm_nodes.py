"""Node classification in cluster batches, norm by norm, and how far statistics are apart.

What a norm subtracts and divides by in training are statistics of a batch's rows; in the exact test
they are those of the whole graph, of the same cluster within it, or running averages. Their
distance is measured on the trained model, on what enters its norms: a batch with dropout, as in
training, against what the test uses.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import gnnscale as gs
from gnnscale.nn import Moments
from gnnscale.nn.norms.statistics import uses_running_statistics

GRAPHS = ("amazon_computers", "coauthor_cs", "facebook_pages")
# None of it is tuned: one setting, so that the norms alone differ.
HIDDEN, LAYERS, DROPOUT = 64, 3, 0.5
TRAINING = {"num_parts": 16, "clusters_per_batch": 2, "epochs": 40, "lr": 0.003}
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch_norm": gs.nn.BatchNorm,
    "layer_norm": partial(gs.nn.LayerNorm, mode="node"),
    "graph_norm, batch": partial(gs.nn.GraphNorm, over="batch"),
    "graph_norm, cluster": partial(gs.nn.GraphNorm, over="cluster"),
    "graph_norm, batch, running": partial(gs.nn.GraphNorm, over="batch", running=True),
    "graph_norm, cluster, running": partial(gs.nn.GraphNorm, over="cluster", running=True),
}


@functools.lru_cache(maxsize=1)
def load(data: str) -> gs.Graph:
    return gs.load(data)


def train(data: str, norm: str, seed: int) -> dict[str, Any]:
    """Train with a norm; the metric of the epoch that is best on validation."""
    graph = load(data)
    torch.manual_seed(seed)
    model = gs.nn.GraphSAGE(graph.num_features, HIDDEN, LAYERS, graph.num_classes, dropout=DROPOUT)
    model = gs.nn.with_norm(model, NORMS[norm])
    trainer = gs.ClusterTrainer(
        model, graph, **TRAINING, seed=seed, evaluate_every=1, device="cpu", progress=False
    )
    report = trainer.fit()
    headline = report.headline
    return {
        "metric": headline,
        "test": report.final["test"][headline],
        "val": report.final["val"][headline],
        "best_epoch": report.best_epoch,
        "epochs_to_99_percent": epochs_to_share_of_best(report, f"val_{headline}", 0.99),
        "mismatch": mismatch(trainer),
    }


def epochs_to_share_of_best(report: Any, metric: str, share: float) -> int:
    values = [row[metric] for row in report.rows]
    return next(i for i, value in enumerate(values, 1) if value >= share * max(values))


def mismatch(trainer: gs.ClusterTrainer) -> dict[str, Any] | None:
    """How far training's statistics are from those of the test, over batches and channels.

    Returns:
        By layer, and as means over layers: "mean", of |mean − that of the test| over the test's
        deviation; "deviation", of the deviation over the test's, and "deviation_spread", of how far
        that is from 1, as |log₂|. None where a norm has no statistics over rows.
    """
    model = copy.deepcopy(trainer.model)
    kinds = gs.nn.GraphNorm | gs.nn.BatchNorm
    norms = [part for part in model.modules() if isinstance(part, kinds)]
    if not norms:
        return None
    clustered = trainer.clustered
    segments = {"cluster": clustered.offsets}
    model.eval()
    with torch.no_grad(), recorded(norms) as rows:
        model(clustered.graph.x, clustered.graph.adj, segments=segments)
    wanted = [used(norm, h, clustered.offsets) for norm, h in zip(norms, rows, strict=True)]
    found: list[list[Tensor]] = [[] for _ in norms]
    model.train()
    for batch in trainer.loader:
        with torch.no_grad(), recorded(norms) as rows:
            model(batch.x, batch.adj, segments=batch.segments)
        for norm, h, whole, apart in zip(norms, rows, wanted, found, strict=True):
            moments = Moments.of(h, batch.ptr if over_clusters(norm) else None)
            known = len(whole[0]) > 1  # the clusters of the test, of which these are some
            mean, deviation = (v[batch.clusters] if known else v for v in whole)
            shift = (moments.mean - mean).abs() / deviation
            apart.append(torch.stack([shift, moments.variance.sqrt() / deviation]))
    layers = [summary(torch.cat(parts, 1)) for parts in found]
    return {"layers": layers, **{k: sum(x[k] for x in layers) / len(layers) for k in layers[0]}}


def summary(apart: Tensor) -> dict[str, float]:
    # A channel that no row of a batch or graph excites has no deviation to compare.
    shift, ratio = apart[:, (apart.isfinite() & (apart[1] > 0)).all(0)]
    return {
        "mean": float(shift.mean()),
        "deviation": float(ratio.mean()),
        "deviation_spread": float(ratio.log2().abs().mean()),
    }


def used(norm: Any, rows: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation that the test uses, `[1 or num_clusters, channels]`."""
    if uses_running_statistics(norm):
        kept = norm.module if isinstance(norm, gs.nn.BatchNorm) else norm
        return kept.running_mean[None].double(), kept.running_var[None].double().sqrt()
    moments = Moments.of(rows, offsets if over_clusters(norm) else None)
    return moments.mean, moments.variance.sqrt()


def over_clusters(norm: Any) -> bool:
    return getattr(norm, "over", "batch") == "cluster"


@contextmanager
def recorded(norms: list[nn.Module]) -> Iterator[list[Tensor]]:
    """What enters norms, in their order, while the block runs."""
    rows: list[Tensor] = []
    hooks = [n.register_forward_pre_hook(lambda _, given: rows.append(given[0])) for n in norms]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()

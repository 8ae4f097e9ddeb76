"""Trainings of pipeline.py on real graphs: what the ways to use two cores cost, and learn."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import torch
from pipeline_ranks import carried

import gnnscale as gs
from gnnscale import comm
from gnnscale.train.run.process import MemoryMeter
from gnnscale.train.steps.across_ranks import SharedGradients

_METHOD = "metis"  # the same clusters in every run: it draws nothing


class _WithoutEvaluation(gs.Callback):
    """What an epoch takes of memory and network, where nothing is evaluated in it."""

    def __init__(self, meter: MemoryMeter) -> None:
        self._meter = meter
        self.peak = self.start = 0
        self.before: int | None = None
        self.carried: list[int] = []

    def on_fit_start(self, trainer: Any) -> None:
        self._meter.reset()  # what the partition took was before
        self.start = self._meter.peak.together
        self.before = carried()

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        if f"val_{trainer.report.headline}" not in row:
            self._meter.look()
            self.peak = self._meter.peak.together
        now = carried()
        if now is not None and self.before is not None:
            self.carried.append(now - self.before)
        self.before = now


def choice(
    data: str, way: str, model: dict[str, Any], train: dict[str, Any], batches: int, seed: int
) -> dict[str, Any]:
    """A training by one of the ways; an update takes `batches` batches, whoever computes them.

    Memory is of each rank: the peak while it trained, and how far that is above what it had before
    the first step, with graph, clusters and weights there.
    """
    graph = gs.load(data)
    torch.manual_seed(seed)
    network = gs.nn.GCN(graph.num_features, out_channels=graph.num_classes, **model)
    with MemoryMeter() as meter:
        seen = _WithoutEvaluation(meter)
        arguments: dict[str, Any] = {
            **train, "seed": seed, "method": _METHOD, "keep": "last", "callbacks": [seen],
            "evaluate_every": train["epochs"], "progress": False,
        }  # fmt: skip
        trainer: gs.ClusterTrainer
        if way == "pipeline":
            trainer = gs.PipelineTrainer(
                network, graph, stages=2, micro_batches=batches, **arguments
            )
        else:
            accumulate = batches // comm.world_size()
            trainer = gs.ClusterTrainer(network, graph, accumulate=accumulate, **arguments)
        report = trainer.fit()
    every = comm.gather_objects((seen.peak, seen.peak - seen.start))
    return {
        "accuracy": report.final["test"]["accuracy"],
        "seconds_per_epoch": statistics.median(row["seconds"] for row in report.rows[1:]),
        "updates_per_epoch": -(-trainer.loader.num_batches // batches),
        "peak_pss": [peak for peak, _ in every],
        "growth": [growth for _, growth in every],
        "carried_per_epoch": statistics.median(seen.carried) if seen.carried else None,
        "parameters": sum(p.numel() for p in network.parameters()),
        "cuts": [stage.numbers[0] for stage in trainer.stages[1:]]
        if isinstance(trainer, gs.PipelineTrainer)
        else [],
    }


def ternary(
    data: str, compression: str | None, model: dict[str, Any], train: dict[str, Any], seed: int
) -> dict[str, Any]:
    """A training on two ranks; bytes are those of one update's gradients."""
    graph = gs.load(data)
    torch.manual_seed(seed)
    network = gs.nn.GCN(graph.num_features, out_channels=graph.num_classes, **model)
    carried_by: list[int] = []
    sums = SharedGradients.sum_

    @functools.wraps(sums)
    def watched(self: SharedGradients) -> None:
        comm.sum_numbers(0.0)  # both are here
        before = carried()
        sums(self)
        comm.sum_numbers(0.0)
        after = carried()
        if before is not None and after is not None:
            carried_by.append(after - before)

    SharedGradients.sum_ = watched  # type: ignore[method-assign]
    trainer = gs.ClusterTrainer(
        network, graph, seed=seed, method=_METHOD, gradient_compression=compression,
        evaluate_every=1, progress=False, **train,
    )  # fmt: skip
    report = trainer.fit()
    return {
        "accuracy": report.final["test"]["accuracy"],
        "val": report.final["val"]["accuracy"],
        "best_epoch": report.best_epoch,
        "epochs": len(report.rows),
        "updates": len(carried_by),
        "parameters": sum(p.numel() for p in network.parameters()),
        "carried": statistics.median(carried_by) if carried_by else None,
        "losses": [row["loss"] for row in report.rows],
    }

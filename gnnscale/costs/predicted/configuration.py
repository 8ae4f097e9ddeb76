"""A way to train, as it is planned with. Numbers alone, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Configuration:
    """What is chosen of a trainer's arguments: what memory and time depend on.

    Attributes:
        trainer: as `gnnscale.train.trainers` calls it; full batch is "cluster" with one part.
        parts: clusters that there are.
        clusters: of a batch; of a pipeline, of a micro-batch.
        batch_rows: rows a step, of a layer that is trained by itself.
        graphs: of a batch, of a multi-graph data set.
        ranks: processes that share the batches of a step, or stand for the stages of a pipeline.
        stages: of a pipeline, the blocks with which a new stage begins.
        schedule: of a pipeline.
        micro_batches: of a pipeline's step.
        accumulate: batches of a rank in a step.
        checkpoint: whether blocks are computed again in the backward pass.
        precompute: whether the first hop is computed once.
        storage: where the clustered graph is.
        prefetch: batches that are prepared ahead.
        evaluate_every: epochs between evaluations; None where the trainer chooses.
        memory: the bound, in bytes; None where none is given.
        epochs: of the run; of every layer, where each is trained by itself.
    """

    trainer: Literal["cluster", "layerwise", "pipeline", "graph"] = "cluster"
    parts: int = 1
    clusters: int = 1
    batch_rows: int = 1024
    graphs: int = 128
    ranks: int = 1
    stages: tuple[int, ...] = ()
    schedule: Literal["gpipe", "1f1b", "interleaved", "zbv"] = "1f1b"
    micro_batches: int = 1
    accumulate: int = 1
    checkpoint: bool = False
    precompute: bool = False
    storage: Literal["memory", "files"] = "memory"
    prefetch: int = 2
    evaluate_every: int | None = None
    memory: int | None = None
    epochs: int = 50

    @property
    def is_full_batch(self) -> bool:
        """Whether a step runs on the whole graph."""
        return self.trainer == "cluster" and self.parts == self.clusters

    @property
    def computed(self) -> Literal["none", "first", "each"]:
        """Which propagations are computed before training: see `costs_of`."""
        if self.trainer == "layerwise":
            return "each"
        return "first" if self.precompute else "none"

"""gnnscale as a user has it: the step of `ClusterTrainer.fit`, its loader and its prefetching."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

import gnnscale as gs
from gnnscale.loader import Batch
from gnnscale.nn import as_layered
from gnnscale.storage.allocator import kept_buffers
from gnnscale.train.run.process import MemoryMeter
from peers.contest import SEED, Contestant, Field, Setup


class Gnnscale(Contestant):
    """`ClusterTrainer`."""

    name = "gnnscale"
    kind = gs.ClusterTrainer

    def begin(self, dropout: float) -> None:
        setup, case = self.setup, self.setup.case
        self.trainer = self.kind(
            as_layered(setup.network(dropout, prepared=False)),
            setup.clustered,
            clusters_per_batch=case.clusters_per_batch,
            lr=case.lr,
            seed=SEED,
            device=str(setup.device),
            progress=False,
        )
        self.trainer.start()
        self.trainer.model.train()
        self._batches = self._epochs()

    def _epochs(self) -> Iterator[Batch]:
        while True:
            for batch in self.trainer.loader:
                assert batch is not None  # in one process every step has one
                yield batch

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """As in `fit`: freed memory is kept for the next step, and memory is watched."""
        with MemoryMeter(), kept_buffers():
            yield

    def load(self) -> Batch:
        return next(self._batches)

    def train(self, batch: Batch) -> None:
        self.trainer.step(batch)

    def loss(self, batch: Batch) -> float:
        batch = batch.to(self.setup.device)
        task = self.trainer.task
        with torch.no_grad():
            out = self.trainer.model(batch.x, batch.adj)
        return float(task.loss(out, batch)) / task.normaliser(batch)


def contestants(setup: Setup) -> Field:
    """The library itself."""
    return {Gnnscale.name: Gnnscale(setup)}

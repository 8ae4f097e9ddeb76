"""The arguments of trainers as typed dataclasses, saved with every run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gnnscale.errors import InputError

# May differ when a run is resumed: they change where and how fast, not what is computed.
# (Another device or machine is warned of when the checkpoint is read.)
_FREE_ON_RESUME = frozenset(
    {"device", "prefetch", "checkpoint_every", "storage", "progress", "chunk_rows"}
)


@dataclass(frozen=True)
class TrainConfig:
    """What every trainer is told. See `ClusterTrainer` for the meaning of each."""

    epochs: int = 50
    lr: float = 0.01
    weight_decay: float = 0.0
    seed: int = 0
    device: str = "auto"
    split: str = "default"
    metric: str | None = None
    optimizer: str = "adam"
    scheduler: str | None = None
    clip_norm: float | None = None
    evaluate_every: int | str = "auto"
    early_stopping: int | None = None
    keep: str = "best"
    checkpoint_every: int | str = "auto"
    chunk_rows: int | None = None
    storage: str | None = None
    progress: bool = True

    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = []
        if self.epochs < 1:
            faults.append(f"epochs={self.epochs} must be at least 1")
        if not self.lr > 0:
            faults.append(f"lr={self.lr} must be above 0")
        if self.weight_decay < 0:
            faults.append(f"weight_decay={self.weight_decay} must not be negative")
        if self.seed < 0:
            faults.append(f"seed={self.seed} must not be negative")
        if self.clip_norm is not None and not self.clip_norm > 0:
            faults.append(f"clip_norm={self.clip_norm} must be above 0, or None")
        for name in ("evaluate_every", "checkpoint_every"):
            value = getattr(self, name)
            if value != "auto" and (not isinstance(value, int) or value < 1):
                faults.append(f"{name}={value!r} must be 'auto' or a whole number from 1 on")
        if self.early_stopping is not None and self.early_stopping < 1:
            faults.append(f"early_stopping={self.early_stopping} epochs must be at least 1, or None")
        if self.keep not in ("best", "last"):
            faults.append(f"keep={self.keep!r} must be 'best' or 'last'")
        return faults

    def check(self) -> None:
        """Check all arguments together.

        Raises:
            InputError: listing every fault found.
        """
        if faults := self.faults():
            raise InputError(faults)

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """What differs from a saved configuration in a way that changes the result."""
        mine = dataclasses.asdict(self)
        keys = sorted((mine.keys() | saved.keys()) - _FREE_ON_RESUME)
        return [
            f"{key}: {saved.get(key)!r} in the run, {mine.get(key)!r} now"
            for key in keys
            if saved.get(key) != mine.get(key)
        ]


@dataclass(frozen=True)
class ClusterConfig(TrainConfig):
    """What a `ClusterTrainer` is told besides."""

    num_parts: int = 1
    clusters_per_batch: int = 1
    method: str = "auto"
    balance: str = "nodes"
    stratify: bool = True
    inductive: bool = False
    prefetch: int = 2

    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = super().faults()
        if self.num_parts < 1:
            faults.append(f"num_parts={self.num_parts} must be at least 1")
        if self.clusters_per_batch < 1:
            faults.append(f"clusters_per_batch={self.clusters_per_batch} must be at least 1")
        if self.prefetch < 0:
            faults.append(f"prefetch={self.prefetch} must not be negative")
        return faults

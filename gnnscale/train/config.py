"""The arguments of trainers as typed dataclasses, saved with every run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.partitioning.weights import balance_faults
from gnnscale.storage.memory import memory_bytes
from gnnscale.train.steps.optimizers import is_described

# May differ when a run is resumed: they change where and how fast, not what is computed.
# (Another device or machine is warned of when the checkpoint is read.) `compile` is none of them:
# fused kernels round otherwise.
FREE_ON_RESUME = frozenset(
    {
        "device",
        "prefetch",
        "checkpoint_every",
        "checkpoint_activations",
        "storage",
        "memory",
        "store",
        "progress",
        "chunk_rows",
    }
)

# May be greater when a run goes on: what it has trained so far is what it would have been.
# `going_on` says when not.
_LENGTH = frozenset({"epochs", "early_stopping"})


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
    parameter_groups: str | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    gradient_compression: str | None = None
    precision: str = "float32"
    checkpoint_activations: bool = False
    compile: bool = False
    evaluate_every: int | str = "auto"
    early_stopping: int | None = None
    keep: str = "best"
    checkpoint_every: int | str = "auto"
    chunk_rows: int | None = None
    storage: str | None = None
    memory: int | str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if hasattr(value, "item"):  # NumPy's and torch's numbers are no JSON
                with contextlib.suppress(ValueError, RuntimeError):  # it holds not one number
                    object.__setattr__(self, field.name, value.item())

    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = [
            *self._whole("epochs", 1),
            *self._whole("seed", 0),
            *self._whole("accumulate", 1),
        ]
        if not _is_number(self.lr) or not self.lr > 0:
            faults.append(f"lr={self.lr!r} must be a number above 0")
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            faults.append(f"weight_decay={self.weight_decay!r} must be a number from 0 on")
        elif self.weight_decay and is_described(self.optimizer):
            faults.append(
                f"weight_decay={self.weight_decay!r}: optimizer={self.optimizer} is a function, "
                "which sets its own"
            )
        if self.clip_norm is not None and not (_is_number(self.clip_norm) and self.clip_norm > 0):
            faults.append(f"clip_norm={self.clip_norm!r} must be a number above 0, or None")
        for name in ("evaluate_every", "checkpoint_every"):
            if getattr(self, name) != "auto":
                faults += self._whole(name, 1, " or 'auto'")
        if self.memory != "auto":
            try:
                memory_bytes(self.memory)
            except InputError as error:
                faults += error.faults
        for name in ("early_stopping", "chunk_rows"):
            if getattr(self, name) is not None:
                faults += self._whole(name, 1, " or None")
        if self.gradient_compression not in (None, "ternary"):
            faults.append(
                f"gradient_compression={self.gradient_compression!r} must be None or 'ternary'"
            )
        if self.precision not in ("float32", "bf16", "fp16"):
            faults.append(f"precision={self.precision!r} must be 'float32', 'bf16' or 'fp16'")
        faults += self._flags("checkpoint_activations", "compile", "progress")
        if self.keep not in ("best", "last"):
            faults.append(f"keep={self.keep!r} must be 'best' or 'last'")
        if self.storage is not None and not Path(self.storage).is_dir():
            faults.append(f"storage={self.storage!r} is no folder")
        return faults

    def _whole(self, name: str, least: int, otherwise: str = "") -> list[str]:
        value = getattr(self, name)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63:
            return []
        return [f"{name}={value!r} must be a whole number from {least} on{otherwise}"]

    def _flags(self, *names: str) -> list[str]:
        values = {name: getattr(self, name) for name in names}
        return [
            f"{k}={v!r} must be True or False" for k, v in values.items() if type(v) is not bool
        ]

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
        # What an older version did not write was then at its default.
        saved = {**dataclasses.asdict(type(self)()), **saved}
        length = _LENGTH
        if _patience(mine["early_stopping"]) < _patience(saved["early_stopping"]):
            length = length - {"early_stopping"}
        keys = sorted((mine.keys() | saved.keys()) - FREE_ON_RESUME - length)
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
    partition_seed: int | None = None
    balance: str | float = "nodes"
    stratify: bool = True
    inductive: bool = False
    precompute: bool = False
    prefetch: int = 2
    store: str | None = None

    @override
    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = super().faults()
        faults += self._whole("num_parts", 1)
        faults += self._whole("clusters_per_batch", 1)
        faults += self._whole("prefetch", 0)
        if self.partition_seed is not None:
            faults += self._whole("partition_seed", 0, " or None")
        faults += self._flags("stratify", "precompute")
        faults += balance_faults(self.balance)
        return faults


@dataclass(frozen=True)
class GraphConfig(TrainConfig):
    """What a `GraphTrainer` is told besides."""

    graphs_per_batch: int = 128
    prefetch: int = 2

    @override
    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = super().faults()
        faults += self._whole("graphs_per_batch", 1)
        faults += self._whole("prefetch", 0)
        return faults


@dataclass(frozen=True)
class LayerwiseConfig(TrainConfig):
    """What a `LayerwiseTrainer` is told besides."""

    epochs: int = 500
    lr: float = 0.005
    controller: dict[str, Any] = dataclasses.field(default_factory=dict)
    batch_rows: int = 1024
    inductive: bool = False
    num_parts: int | None = None
    clusters_per_batch: int | None = None
    fine_tune: dict[str, Any] | None = None
    rows_dtype: str = "float32"

    @override
    def faults(self) -> list[str]:
        """Every argument that is out of range, in words."""
        faults = super().faults()
        faults += self._whole("batch_rows", 1)
        for name in ("num_parts", "clusters_per_batch"):
            if getattr(self, name) is not None:
                faults += self._whole(name, 1, " or None")
        faults += self._flags("inductive")
        if self.rows_dtype not in ("float32", "float16", "bfloat16"):
            faults.append(
                f"rows_dtype={self.rows_dtype!r} must be 'float32', 'float16' or 'bfloat16'"
            )
        return faults


def _patience(early_stopping: int | None) -> float:
    return math.inf if early_stopping is None else early_stopping


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

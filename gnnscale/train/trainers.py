"""Trainers by name: what `bench` and the command line call them."""

from __future__ import annotations

from typing import Any

from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.layerwise.trainer import LayerwiseTrainer

TRAINERS: dict[str, type[Any]] = {"cluster": ClusterTrainer, "layerwise": LayerwiseTrainer}

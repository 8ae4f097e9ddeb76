"""Trainers by name: what `bench`, `load_run` and the command line call them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import override


class _Trainers(Mapping[str, type[Any]]):
    """Trainers by name, each imported when it is asked for: those of the rooms above as well."""

    def __init__(self, **homes: str) -> None:
        self._homes = homes

    @override
    def __getitem__(self, name: str) -> type[Any]:
        module, _, kind = self._homes[name].partition(":")
        return getattr(importlib.import_module(module), kind)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    @override
    def __len__(self) -> int:
        return len(self._homes)

    def of_class(self, kind: str) -> type[Any] | None:
        """The trainer whose class is called so, or None."""
        names = [name for name, home in self._homes.items() if home.endswith(f":{kind}")]
        return self[names[0]] if names else None


TRAINERS = _Trainers(
    cluster="gnnscale.train.cluster_trainer:ClusterTrainer",
    layerwise="gnnscale.train.layerwise.trainer:LayerwiseTrainer",
    graph="gnnscale.train.graph_trainer:GraphTrainer",
    pipeline="gnnscale.parallel.trainer:PipelineTrainer",
)

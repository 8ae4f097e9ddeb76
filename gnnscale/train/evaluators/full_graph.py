"""FullGraph: a model beside the whole graph it is for: exact metrics, predictions, embeddings."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from gnnscale import comm
from gnnscale.costs.convolutions import check_convolutions
from gnnscale.errors import InputError
from gnnscale.graph import Graph, Split
from gnnscale.inference import evaluate, predict
from gnnscale.inference.engine import layers_for
from gnnscale.nn import LayeredGNN
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.mapped import release
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.report import Report
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.task import Task


class FullGraph(ABC):
    """What every trainer can do with the present weights, before, during and after training."""

    model: LayeredGNN
    config: TrainerOptions
    task: Task
    device: torch.device
    report: Report
    _unit = "nodes"  # what the model has an output for, in messages

    @property
    def learnt(self) -> Learnt:
        """The model, and what its task has besides that is trained or kept."""
        return Learnt(self.model, self.task)

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """The whole graph, in the order that is best to compute in."""

    @property
    @abstractmethod
    def position(self) -> Tensor | None:
        """Where each original node stands in `graph`; None for the original order."""

    @abstractmethod
    def prepare(self) -> None:
        """Do what comes before the first step; gives lazy parameters their shapes."""

    @overload
    def evaluate(self, where: str = "test") -> dict[str, float]: ...
    @overload
    def evaluate(self, where: list[str] | tuple[str, ...]) -> dict[str, dict[str, float]]: ...
    def evaluate(self, where: str | Sequence[str] = "test") -> dict[str, Any]:
        """The exact full-graph metrics of the present weights, from one pass over the graph.

        Args:
            where: "train", "val" or "test" nodes, or several of them.

        Returns:
            `{"accuracy": …}`; for several, `{"val": {"accuracy": …}, "test": …}`.

        Raises:
            InputError: there is no such set, or it is empty.
        """
        names: list[Any] = list(where) if isinstance(where, list | tuple) else [where]
        known = ("train", "val", "test")
        if not names or not all(isinstance(name, str) and name in known for name in names):
            raise InputError(f"evaluate({where!r}): there are 'train', 'val' and 'test'")
        if empty := [name for name in names if name not in self._sets()]:
            split = f"the split has no {' and no '.join(empty)} {self._unit}"
            raise InputError(f"there is nothing to evaluate: {self._without_metrics() or split}")
        with comm.doing("evaluate"):
            found = self._evaluate(names)
        return found[where] if isinstance(where, str) else found

    def predict(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """The model's exact output in the graph's original order.

        Args:
            nodes: original ids, or a mask, of the nodes wanted; all when None.
            out: a `.npy` file to stream to; the result is then memory-mapped.

        Returns:
            `[num_nodes or k, out_channels]` on the CPU.
        """
        with comm.doing("predict"):
            return self._predict(nodes, out, head=True)

    def embed(self, nodes: Any = None, out: str | Path | None = None) -> Tensor:
        """As `predict`, for what the model's last layer reads: `[num_nodes or k, channels]`."""
        with comm.doing("embed"):
            return self._predict(nodes, out, head=False)

    def _sets(self) -> list[str]:
        """The sets of nodes that there are to evaluate on; none without metrics or labels."""
        split = self.graph.split(self.config.split)
        if split is None or self._without_metrics() is not None:
            return []
        present = [name for name in ("train", "val", "test") if bool(split[name].any())]
        for name in ("train", "val", "test"):
            release(split[name])
        return present

    def _without_labels(self) -> str | None:
        """Why there is nothing that metrics could be of, in words; None where there is."""
        level = self._unit.removesuffix("s")
        if self.graph.y is not None and self.graph.y_level == level:
            return None
        return (
            f"the graph has no {level}-level labels y, which metrics are of; the loss is all that "
            "is reported. Links are trained by a Task of one's own and evaluated outside, on the "
            "rows that embed() or predict() gives; a LinkTask that evaluates them is to come"
        )

    def _without_metrics(self) -> str | None:
        """Why no metrics can be computed, in words; None where they can."""
        if self.task.metrics():
            return self._without_labels()
        return f"the task {self.task.name!r} has no metrics"

    def _evaluate(self, sets: Sequence[str]) -> dict[str, dict[str, float]]:
        if not sets:
            return {}
        started = time.monotonic()
        self._lay_out()
        segments = self._segments()
        split = self._split()
        options = self._inference_options()
        with evaluation_mode(self.learnt):  # metrics may run what the task has learnt
            found = evaluate(
                self.model,
                self.graph,
                {name: split[name] for name in sets},
                {name: self.task.metrics() for name in sets},
                segments=segments,
                **options,
            )
        self._count("evaluate", time.monotonic() - started)
        return found

    def _predict(self, nodes: Any, out: str | Path | None, head: bool) -> Tensor:
        self._lay_out()
        segments = self._segments()
        return predict(
            self.model,
            self.graph,
            position=self.position,
            nodes=nodes,
            out=out,
            head=head,
            segments=segments,
            **self._inference_options(),
        )

    def _inference_options(self) -> dict[str, Any]:
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in self.model.parameters()):
            self.prepare()
        self.learnt.to(self.device)
        return self._places()

    def _places(self) -> dict[str, Any]:
        """Where an inference computes and keeps its layers, and what it may take."""
        return {
            "device": self.device,
            "chunk_rows": self.config.chunk_rows,
            "storage": self.config.storage,
            "scratch": self._scratch(),
            "memory": self.config.memory,
            "held": self._held_bytes(),
        }

    @abstractmethod
    def _lay_out(self) -> None:
        """Settle the order of `graph`: sums, and so the last bits of results, depend on it.

        On every rank together.
        """

    def _check_room(self) -> None:
        """Find before training what the exact evaluation of the whole graph has no room for.

        Raises:
            InputError: with the smallest `memory` that would do.
        """
        if self._sets():
            layers = layers_for(self.model, self.graph, **self._places())
            assert layers.budget is not None
            check_convolutions(self.model, self.graph, layers.budget, self.device)

    def _segments(self) -> dict[str, Tensor]:
        """What norms run over in `graph`, beside its graphs: see `gnnscale.nn.Context`."""
        return {}

    @abstractmethod
    def _held_bytes(self) -> int:
        """Bytes of `memory` that are taken by what stays beside an inference."""

    def _scratch(self) -> Path | None:
        """A folder for layers that do not fit in memory; None for the system's own."""
        return None

    def _split(self) -> Split:
        split = self.graph.split(self.config.split)
        if split is None:
            raise InputError("the graph has no splits to evaluate on")
        return split

    def _count(self, name: str, seconds: float) -> None:
        """Add to the report's seconds of a phase."""
        self.report.seconds[name] = self.report.seconds.get(name, 0.0) + seconds

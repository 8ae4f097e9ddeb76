"""FullGraph: exact metrics, predictions and embeddings of a model over the whole graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnscale.costs.convolutions import check_convolutions
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference import Metric, evaluate, predict
from gnnscale.inference.engine import store_for
from gnnscale.nn.blocks.phases import opaque_of
from gnnscale.nn.modules import evaluation_mode
from gnnscale.storage.allocator import return_freed_memory
from gnnscale.storage.mapped import release
from gnnscale.train.contracts import Evaluated
from gnnscale.train.session import Setup
from gnnscale.train.task import Task

Interval = Callable[[Sequence[Graph]], int]
SETS = ("train", "val", "test")


class FullGraph:
    """Evaluates the present weights: in one pass over the graph, layer by layer.

    Args:
        setup: of the trainer.
        data: the graph.
        interval: epochs between evaluations of such graphs for `evaluate_every="auto"`.
    """

    unit = "nodes"

    def __init__(self, setup: Setup, data: Evaluated, interval: Interval) -> None:
        self._setup, self._data, self._interval = setup, data, interval

    def interval(self) -> int:
        """See `Validator`."""
        return self._interval([self.graph])

    @property
    def graph(self) -> Graph:
        """What the model is run over."""
        return self._data.graph

    def sets(self) -> list[str]:
        """See `Evaluator`."""
        split = self._data.graph.split(self._setup.config.split)
        if split is None or self.without_metrics() is not None:
            return []
        present = [name for name in SETS if bool(split[name].any())]
        for name in SETS:
            release(split[name])
        return present

    def without_labels(self) -> str | None:
        """See `Evaluator`."""
        return without_labels(self._data.graph, "node")

    def without_metrics(self) -> str | None:
        """See `Evaluator`."""
        return without_metrics(self._setup.task) or self.without_labels()

    def validate(self) -> dict[str, dict[str, float]]:
        """See `Validator`."""
        return_freed_memory()  # or what steps use would stay beside the layers of the whole graph
        found = self.evaluate(self.sets())
        return_freed_memory()
        return found

    def evaluate(
        self, sets: Sequence[str], metrics: Callable[[], Sequence[Metric]] | None = None
    ) -> dict[str, dict[str, float]]:
        """See `Evaluator`."""
        if not sets:
            return {}
        started = time.monotonic()
        setup, data = self._setup, self._data
        segments, split = data.segments(), data.graph.split(setup.config.split)
        if split is None:
            raise InputError("the graph has no splits to evaluate on")
        setup.learnt.to(setup.device)
        with evaluation_mode(setup.learnt):  # metrics may run what the task has learnt
            found = evaluate(
                setup.model,
                data.graph,
                {name: split[name] for name in sets},
                {name: (metrics or setup.task.metrics)() for name in sets},
                segments=segments,
                **self.places(),
            )
        setup.count("evaluate", time.monotonic() - started)
        return found

    def predict(self, ids: Any, out: str | Path | None, *, head: bool) -> Tensor:
        """See `Evaluator`."""
        setup, data = self._setup, self._data
        segments = data.segments()
        setup.learnt.to(setup.device)
        return predict(
            setup.model,
            data.graph,
            position=None if ids is None else data.position,
            node_id=data.node_id,
            nodes=ids,
            out=out,
            head=head,
            segments=segments,
            **self.places(),
        )

    def places(self) -> dict[str, Any]:
        """Where an inference computes and keeps its layers, and what it may take."""
        setup, config = self._setup, self._setup.config
        return {
            "device": setup.device,
            "chunk_rows": config.chunk_rows,
            "storage": config.storage,
            "scratch": self._data.scratch(),
            "memory": config.memory,
            "held": setup.held_bytes(self._data),
        }

    def check_room(self) -> None:
        """See `Evaluator`.

        Raises:
            InputError: with the smallest `memory` that would do.
        """
        setup, graph = self._setup, self._data.graph
        bounded = setup.config.memory != "auto"  # else only an opaque row can be too large
        if (bounded or opaque_of(setup.model.phases)) and self.sets():
            layers = store_for(setup.model, graph, **self.places())
            assert layers.budget is not None
            check_convolutions(setup.model, graph, layers.budget, setup.device)


def without_metrics(task: Task) -> str | None:
    """Why a task gives no metrics, in words; None where it does."""
    return None if task.metrics() else f"the task {task.name!r} has no metrics"


def without_labels(graph: Graph, level: str) -> str | None:
    """Why there is nothing that metrics could be of, in words; None where there is."""
    if graph.y is not None and graph.y_level == level:
        return None
    return (
        f"the graph has no {level}-level labels y, which metrics are of; the loss is all that is "
        "reported. Links are trained by a Task of one's own and evaluated outside, on the rows "
        "that embed() or predict() gives; a LinkTask that evaluates them is to come"
    )

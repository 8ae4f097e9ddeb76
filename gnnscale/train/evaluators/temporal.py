"""Temporal: metrics of each part of a split on what was known then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.inference import Metric
from gnnscale.storage.allocator import return_freed_memory
from gnnscale.train.clusters import Clusters
from gnnscale.train.contracts import Evaluated
from gnnscale.train.evaluators.full_graph import FullGraph, Interval
from gnnscale.train.known import Known
from gnnscale.train.session import Setup


class Then:
    """A graph in its original order, beside what is trained on. See `Evaluated`.

    Args:
        data: what is trained on.
        known: of the whole graph.
        then: "val" for what validation knows, "whole" for all of it.
    """

    position = node_id = None

    def __init__(self, data: Clusters, known: Known, then: Literal["val", "whole"]) -> None:
        self._data, self._known, self._then = data, known, then

    @property
    def graph(self) -> Graph:
        """See `Evaluated`."""
        return self._known.val if self._then == "val" else self._known.whole

    def segments(self) -> dict[str, Tensor]:
        """See `Evaluated`.

        Raises:
            InputError: a norm runs over clusters, which nodes that are new since are not in.
        """
        if self._data.segments():
            raise InputError(
                "a norm runs over clusters, and what is new since the training cut is in none: "
                "take over='graph'"
            )
        return {}

    def scratch(self) -> Path | None:
        """See `Evaluated`."""
        return self._data.scratch()

    def held(self) -> dict[str, object]:
        """See `Evaluated`."""
        return self._data.held()

    def to_come(self) -> int:
        """See `Evaluated`."""
        return self._data.to_come()


class Temporal:
    """Evaluates training nodes on what training knows, validation nodes on what validation knows.

    Test nodes are evaluated, and outputs are given, on the whole graph. See `Evaluator`.

    Args:
        setup: of the trainer.
        data: what is trained on.
        known: of the whole graph.
        interval: epochs between evaluations of such graphs for `evaluate_every="auto"`.
    """

    unit = "nodes"

    def __init__(self, setup: Setup, data: Clusters, known: Known, interval: Interval) -> None:
        def over(then: Evaluated) -> FullGraph:
            return FullGraph(setup, then, interval)

        self._whole = over(Then(data, known, "whole"))
        val = over(Then(data, known, "val"))
        self._of = {"train": over(data), "val": val, "test": self._whole}
        self._interval = interval

    def interval(self) -> int:
        """See `Validator`."""
        return self._interval([self._of[name].graph for name in self.sets()])

    def sets(self) -> list[str]:
        """See `Evaluator`."""
        return self._whole.sets()

    def without_labels(self) -> str | None:
        """See `Evaluator`."""
        return self._whole.without_labels()

    def without_metrics(self) -> str | None:
        """See `Evaluator`."""
        return self._whole.without_metrics()

    def validate(self) -> dict[str, dict[str, float]]:
        """See `Validator`."""
        return_freed_memory()
        found = self.evaluate(self.sets())
        return_freed_memory()
        return found

    def evaluate(
        self, sets: Sequence[str], metrics: Callable[[], Sequence[Metric]] | None = None
    ) -> dict[str, dict[str, float]]:
        """See `Evaluator`."""
        found: dict[str, dict[str, float]] = {}
        for name in sets:
            found |= self._of[name].evaluate([name], metrics)
        return found

    def predict(self, ids: Any, out: str | Path | None, *, head: bool) -> Tensor:
        """See `Evaluator`."""
        return self._whole.predict(ids, out, head=head)

    def places(self) -> dict[str, Any]:
        """See `FullGraph.places`."""
        return self._whole.places()

    def check_room(self) -> None:
        """See `Evaluator`.

        Raises:
            InputError: with the smallest `memory` that would do.
        """
        evaluated = [self._of[name] for name in self.sets()]
        _ = [one.graph for one in evaluated]  # what was known then is made now, and counts as held
        for one in evaluated:
            one.check_room()


def evaluator_of(setup: Setup, data: Clusters, interval: Interval) -> FullGraph | Temporal:
    """Who evaluates a model that is trained on `data`."""
    if (known := data.known_then) is None:
        return FullGraph(setup, data, interval)
    return Temporal(setup, data, known, interval)

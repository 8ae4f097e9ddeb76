"""Fine-tuning: all layers together, by a `ClusterTrainer`, after each was trained alone.

Greedy training can leave accuracy behind: a layer that was trained for a classifier of its own is
not what the next ones would ask of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from typing_extensions import override

from gnnscale.declared import arguments_of
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import ClusteredGraph, Graph
from gnnscale.nn import LayeredGNN
from gnnscale.train.cluster_trainer import ClusterTrainer
from gnnscale.train.clusters import Clusters
from gnnscale.train.contracts import Evaluator
from gnnscale.train.options import FREE_ON_RESUME, ClusterOptions, LayerwiseOptions
from gnnscale.train.run.callbacks import Callback, Told, hears_of_steps
from gnnscale.train.run.going_on import snapshot
from gnnscale.train.run.records import Row
from gnnscale.train.run.report import Report
from gnnscale.train.session import Setup
from gnnscale.train.task import Task

LAYER = "fine-tuning"  # in the place of a layer's number
_OF_THE_RUN = ("split", "seed", "device", "inductive")
_UNLESS_GIVEN = {"precision", *FREE_ON_RESUME} & arguments_of(LayerwiseOptions).keys()
_CLUSTERING = ("prepare", "partition", "cluster", "first hop")  # what comes before its first step
_NOT_GIVEN = {"metric", *_OF_THE_RUN} | arguments_of(ClusterOptions).keys() - ClusterOptions.kept()


def fine_tuner(
    given: Mapping[str, Any],
    model: LayeredGNN,
    data: Graph | ClusteredGraph,
    config: LayerwiseOptions,
    task: Task,
    run_dir: Path | None = None,
) -> ClusterTrainer:
    """The trainer that fine-tunes a model.

    Args:
        given: arguments of a `ClusterTrainer`.
        model: the model.
        data: what its layers were trained on.
        config: how they were.
        task: what they learnt.
        run_dir: a folder of its own.

    Raises:
        InputError: listing every argument that is at fault.
    """
    known = arguments_of(ClusterOptions).keys() - _NOT_GIVEN
    if not isinstance(given, Mapping):
        raise InputError(f"fine_tune={given!r}: a dict of a ClusterTrainer's arguments, or None")
    if wrong := sorted(str(name) for name in given if name not in known):
        raise InputError(
            f"fine_tune has no argument {', '.join(wrong)} (data, task, split, seed and device are "
            f"those of the layers); there are {', '.join(sorted(known))}"
        )
    of_run = {name: getattr(config, name) for name in _OF_THE_RUN}
    unless_given = {name: getattr(config, name) for name in _UNLESS_GIVEN}
    try:
        return ClusterTrainer(
            model, data, run_dir=run_dir, task=task, **{**unless_given, **given, **of_run}
        )
    except InputError as error:
        raise InputError([f"fine_tune: {fault}" for fault in error.faults]) from error


class Passed(Callback):
    """Passes on what a fine-tuning does.

    Args:
        of_epoch: takes its report after every epoch; says whether to stop.
    """

    def __init__(self, of_epoch: Callable[[Report], bool]) -> None:
        self._of_epoch = of_epoch

    @override
    def on_epoch_end(self, trainer: Told, row: Row) -> None:
        """See `Callback`."""
        trainer.stop = self._of_epoch(trainer.report)


class PassedSteps(Callback):
    """Passes on the steps of a fine-tuning, where somebody hears of them.

    Args:
        of_step: takes the number of a step; says whether to stop.
    """

    def __init__(self, of_step: Callable[[int], bool]) -> None:
        self._of_step = of_step

    @override
    def on_step_end(self, trainer: Told, step: int) -> None:
        """See `Callback`."""
        trainer.stop = self._of_step(step)


class FineTuning:
    """Trains all layers together, and tells of it as of the last layer.

    Args:
        setup: of the layers' trainer.
        config: its options, of which `fine_tune` are arguments of a `ClusterTrainer`.
        data: what is trained on.
        evaluator: of the whole model.

    Raises:
        InputError: listing every argument that is at fault.
    """

    def __init__(
        self, setup: Setup, config: LayerwiseOptions, data: Clusters, evaluator: Evaluator
    ) -> None:
        self._setup, self._config, self._data = setup, config, data
        self._evaluator = evaluator
        assert config.fine_tune is not None
        self._given = config.fine_tune
        before = list(setup.learnt.task.parameters())
        fine_tuner(self._given, setup.model, data.given, config, setup.task)
        check_kept(setup.task, before, setup.learnt.task)

    def run(self, trainer: Told) -> None:
        """Train, unless the run's folder says that it has been done.

        Args:
            trainer: of the layers, which callbacks are told of.
        """
        setup, report, data = self._setup, self._setup.report, self._data.given
        run_dir, headline = None, setup.task.headline
        if setup.folder is not None:
            data, run_dir = at_source(data, setup.folder.graph), setup.folder.fine_tune
        sets = [name for name in self._evaluator.sets() if name == "val"]
        exact = self._evaluator.evaluate(sets)
        before = exact["val"][headline] if exact else None
        rows, first = report.rows, len(report.rows)

        def of_epoch(tuned: Report) -> bool:
            rows[first:] = rows_of(tuned, first)
            for callback in setup.callbacks:
                callback.on_epoch_end(trainer, rows[-1])
            return setup.stop

        def of_step(step: int) -> bool:
            for callback in hearing:
                callback.on_step_end(trainer, step)
            return setup.stop

        tuner = fine_tuner(self._given, setup.model, data, self._config, setup.task, run_dir)
        tuner.callbacks.append(Passed(of_epoch))
        if hearing := [callback for callback in setup.callbacks if hears_of_steps(callback)]:
            tuner.callbacks.append(PassedSteps(of_step))
        kept = fine_tune(tuner, before)
        rows[first:] = rows_of(tuner.report, first)
        report.layers.append(account_of(tuner, before, kept))
        if kept and tuner.report.best_epoch is not None:
            report.best_epoch = first + tuner.report.best_epoch
        if setup.stop:
            report.stopped = "callback"
        report.seconds["fine_tune"] = tuner.report.seconds["total"]


def fine_tune(tuner: ClusterTrainer, greedy: float | None) -> bool:
    """Train all layers together, unless that has been done already.

    Args:
        tuner: the trainer; it goes on with what its folder holds.
        greedy: the exact validation metric of the model as it is, or None.

    Returns:
        Whether the model has the new weights: with keep="best", only where they are better.

    Raises:
        GnnscaleError: the loss is no longer finite; the model then has the weights that it had.
    """
    before = snapshot(tuner.learnt.weights())
    try:
        report = tuner.fit()
    except GnnscaleError as error:
        tuner.learnt.take(before)
        if type(error) is not GnnscaleError:
            raise
        raise GnnscaleError(
            f"fine-tuning failed, and the weights are those of before: {error}"
        ) from error
    if tuner.config.keep == "last" or greedy is None:
        return True
    tuned = report.final["val"][tuner.task.headline]
    higher = tuner.task.metrics()[0].higher_is_better
    if tuned > greedy if higher else tuned < greedy:
        return True
    tuner.learnt.take(before)
    return False


def rows_of(report: Report, first: int) -> list[Row]:
    """The epochs of a fine-tuning as those that follow on the layers' own.

    Args:
        report: its report.
        first: how many came before.
    """
    return [{**row, "epoch": first + row["epoch"], "layer": LAYER} for row in report.rows]


def account_of(tuner: ClusterTrainer, greedy: float | None, kept: bool) -> Row:
    """A fine-tuning as a row beside those of the layers.

    Args:
        tuner: its trainer.
        greedy: the exact validation metric before it, or None.
        kept: whether its weights are kept.
    """
    report, key = tuner.report, f"val_{tuner.task.headline}"
    account = {
        "layer": LAYER,
        "epochs": len(report.rows),
        "seconds": report.seconds.get("train", 0.0),
        "cluster_seconds": sum(report.seconds.get(name, 0.0) for name in _CLUSTERING),
        "loss": report.rows[-1]["loss"] if report.rows else None,
        "stopped": report.stopped,
        "kept": kept,
    }
    if greedy is None:
        return account
    return account | {
        "best_epoch": report.best_epoch,
        f"{key}_before": greedy,
        key: report.final["val"][tuner.task.headline],
    }


def at_source(data: Graph | ClusteredGraph, stored: Path) -> Graph | ClusteredGraph:
    """Data that a run has stored, said to be there: a second run does not store them again."""
    if isinstance(data, ClusteredGraph):
        return data if data.path is not None else dataclasses.replace(data, path=stored)
    return data if data.source is not None else dataclasses.replace(data, source=str(stored))


def check_kept(task: Task, before: Sequence[nn.Parameter], after: nn.Module) -> None:
    """See that a second trainer, which prepares the task again, trains the same parameters."""
    if {*map(id, before)} - {*map(id, after.parameters())}:
        raise InputError(
            f"fine_tune: {type(task).__name__}.prepare makes parameters anew when it is called "
            "again, and what layers have learnt would be lost: make them in __init__"
        )

"""k_fold: cross-validation of graph classifiers, as the papers report it and without a look at the
test folds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnscale.choices import whole_faults
from gnnscale.errors import InputError
from gnnscale.graph import Graph
from gnnscale.graph.reading.labels import labelled
from gnnscale.inference import make_metric
from gnnscale.train.graph_trainer import GraphTrainer
from gnnscale.train.graphs import as_graphs, graphs_as_rows, split_of_graphs
from gnnscale.train.run.report import Report


class Figure(NamedTuple):
    """A figure over the folds.

    Attributes:
        mean: over the folds.
        sd: their standard deviation, of the sample (n − 1).
        epochs: that each fold was read at, from 1.
    """

    mean: float
    sd: float
    epochs: list[int]


@dataclass
class CrossValidation:
    """What `k_fold` found.

    Attributes:
        headline: the metric.
        curves: "train", "val" (where a part was held out) and "test": the metric on them,
            `[folds, epochs]`.
        reports: of every fold.
    """

    headline: str
    curves: dict[str, np.ndarray]
    reports: list[Report]

    def at_best_epoch(self) -> Figure:
        """The test figure at the one epoch that is best on the mean of all test folds.

        It is what is published (Xu et al., ICLR 2019, section 7): chosen on the test folds, it is
        better than what a new graph will see.
        """
        test = self.curves["test"]
        best = self._best(test.mean(0))
        return _figure(test[:, best], [best + 1] * len(test))

    def at_chosen_epochs(self) -> Figure:
        """The test figure of each fold at the epoch that is best on its own validation graphs.

        Raises:
            InputError: none were held out.
        """
        if "val" not in self.curves:
            raise InputError("no graphs were held out to choose by: k_fold(…, validation=0.1)")
        test = self.curves["test"]
        best = [self._best(curve) for curve in self.curves["val"]]
        return _figure(test[np.arange(len(test)), best], [epoch + 1 for epoch in best])

    def epochs_to(self, level: float, where: str = "train") -> int | None:
        """Epochs until the mean curve over the folds has reached a level; None: it never does."""
        mean = self.curves[where].mean(0)
        reached = mean >= level if self._higher else mean <= level
        return int(reached.argmax()) + 1 if reached.any() else None

    def as_dict(self) -> dict[str, Any]:
        """Figures and curves as JSON."""
        found = {"at_best_epoch": self.at_best_epoch()._asdict()}
        if "val" in self.curves:
            found["at_chosen_epochs"] = self.at_chosen_epochs()._asdict()
        curves = {name: curve.tolist() for name, curve in self.curves.items()}
        return {"headline": self.headline, **found, "curves": curves}

    @property
    def _higher(self) -> bool:
        return make_metric(self.headline).higher_is_better

    def _best(self, curve: np.ndarray) -> int:
        """The first of the best epochs; one without a figure is none."""
        worst = -np.inf if self._higher else np.inf
        curve = np.where(np.isnan(curve), worst, curve)
        return int(curve.argmax() if self._higher else curve.argmin())


def k_fold(
    make_trainer: Callable[[Graph, str], GraphTrainer],
    graphs: object,
    folds: int = 10,
    *,
    validation: float = 0.0,
    seed: int = 0,
    task: object = "auto",
) -> CrossValidation:
    """Train once a fold, on all other folds, and follow the metric on train and test graphs.

    The published protocol trains on all nine other folds of ten and reports `at_best_epoch()`; with
    `validation`, a part of these is held out and `at_chosen_epochs()` says what can be expected of
    graphs that no one has seen. Folds are the data set's own ("fold0", … as TU data sets have
    them), where it has that many; else they are drawn, with the same share of every class.

    Args:
        make_trainer: makes a trainer of a data set and the name of a split set of it, as
            `lambda graph, split: gs.GraphTrainer(model(), graph, split=split, evaluate_every=1)`,
            with a new model every time; torch is seeded before, with `seed` and the fold's number.
        graphs: see `GraphTrainer`.
        folds: how many, from 2 on.
        validation: share of the other folds' graphs that is held out, in [0, 1), with the same
            share of every class.
        seed: of drawn folds, of what is held out, and of torch.
        task: what the labels are read for, as of trainers.

    Raises:
        InputError: an argument is out of range, a fold or what is held out is empty, or trainers do
            not evaluate after every epoch.
    """
    faults = whole_faults("folds", folds, 2) + whole_faults("seed", seed, 0)
    if not isinstance(validation, int | float) or not 0 <= validation < 1:
        faults.append(f"validation={validation!r}: a share in [0, 1)")
    if faults:
        raise InputError(faults)
    graph = with_folds(as_graphs(graphs, task), folds, validation, seed)
    reports = []
    for fold in range(folds):
        with torch.random.fork_rng(devices=[]):  # the caller's own draws stay as they were
            torch.manual_seed(seed + fold)
            trainer = make_trainer(graph, f"fold{fold}")
            if trainer.config.evaluate_every != 1 or trainer.config.early_stopping is not None:
                raise InputError(
                    "k_fold reads every epoch of every fold: give trainers evaluate_every=1 and no "
                    "early_stopping"
                )
            if (why := trainer.without_metrics) is not None:
                raise InputError(f"k_fold follows a metric: {why}")
            reports.append(trainer.fit())
    headline = reports[0].headline
    names = ("train", "val", "test") if validation else ("train", "test")
    curves = {
        name: np.array([[row[f"{name}_{headline}"] for row in r.rows] for r in reports])
        for name in names
    }
    return CrossValidation(headline, curves, reports)


def with_folds(graph: Graph, folds: int, validation: float, seed: int) -> Graph:
    """The data set with a split set for every fold, "fold0" and so on.

    Raises:
        InputError: it has no labels, fewer labelled graphs than folds, or too few to hold some out.
    """
    if graph.y is None:
        raise InputError("folds are of labelled graphs; this data set has no labels y")
    known = labelled(graph.y, graph.task)
    ids = known.nonzero().squeeze(1)
    if len(ids) < folds:
        raise InputError(f"folds={folds}, but {len(ids)} graphs have labels")
    # What folds are evened out by: classes; several labels or a target there is no one class of.
    classes = graph.y[ids] if graph.task == "classification" and graph.y.dim() == 1 else None
    own, rows = [f"fold{k}" for k in range(folds)], graphs_as_rows(graph)
    if f"fold{folds}" not in graph.splits and all(name in graph.splits for name in own):
        tests = [rows.splits[name].test[ids] for name in own]
    else:
        # Dealt out one by one: the sizes of folds, and of a class in them, differ by one at most.
        dealt = torch.empty(len(ids), dtype=torch.int64)
        dealt[_by_class(len(ids), classes, seed)] = torch.arange(len(ids)) % folds
        tests = [dealt == fold for fold in range(folds)]
    splits = {}
    for name, test in zip(own, tests, strict=True):
        others = (~test).nonzero().squeeze(1)
        held = torch.zeros(len(others), dtype=torch.bool)
        if validation:
            order = _by_class(len(others), None if classes is None else classes[others], seed)
            # Every so manieth of them.
            held[order] = (
                torch.arange(1, len(others) + 1)
                .mul(validation)
                .floor()
                .diff(prepend=torch.zeros(1))
                .bool()
            )
            if not held.any():
                raise InputError(
                    f"validation={validation:g} of the {len(others)} graphs of the other folds is "
                    "none of them: hold out a larger share"
                )
        parts_of = {"train": ids[others[~held]], "val": ids[others[held]], "test": ids[test]}
        splits[name] = split_of_graphs(graph, parts_of)
    return dataclasses.replace(graph, splits=splits, source=None)


def _by_class(count: int, classes: Tensor | None, seed: int) -> Tensor:
    """A random order in which one class comes after the other.

    scikit-learn's stratified splits refuse, or warn of, classes rarer than there are folds.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(count))
    return order if classes is None else order[classes[order].argsort(stable=True)]


def _figure(values: np.ndarray, epochs: list[int]) -> Figure:
    return Figure(float(values.mean()), float(values.std(ddof=1)), epochs)

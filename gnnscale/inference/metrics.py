"""Metrics of the full graph, gathered chunk by chunk, each node once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale.errors import InputError
from gnnscale.extras import from_extra
from gnnscale.graph.reading.labels import known_labels


class Metric(Protocol):
    """A figure gathered over chunks of rows.

    One that has a method `merge(other)`, which adds the rows of another of its kind behind its own,
    is gathered by every rank from its own rows; another's rows are sent to all ranks.
    """

    name: str
    higher_is_better: bool

    def update(self, out: Tensor, y: Tensor) -> None:
        """Add rows: outputs `[rows, out_channels]` and labels `[rows]` or `[rows, labels]`."""

    def compute(self) -> float:
        """The figure over all rows added; NaN where there were none."""


class Accuracy:
    """Share of rows whose greatest output is the label; for 0/1 labels, share of right labels."""

    name, higher_is_better = "accuracy", True

    def __init__(self) -> None:
        self.right = self.total = 0

    def update(self, out: Tensor, y: Tensor) -> None:
        """See `Metric`."""
        if y.dim() == 2:
            known = known_labels(y, "multilabel")
            self.right += int((((out > 0) == (y == 1)) & known).sum())
            self.total += int(known.sum())
            return
        self.right += int((out.argmax(dim=1) == y).sum())
        self.total += y.numel()

    def merge(self, other: Accuracy) -> None:
        """See `Metric`."""
        self.right += other.right
        self.total += other.total

    def compute(self) -> float:
        """See `Metric`."""
        return self.right / self.total if self.total else float("nan")


class F1:
    """F1 from pooled counts (micro) or as the mean over classes that occur (macro).

    A multi-label output counts as predicted where its logit is above 0.
    """

    higher_is_better = True

    def __init__(self, average: str) -> None:
        self.name = f"f1_{average}"
        self.average = average
        self.counts: Tensor | None = None

    def update(self, out: Tensor, y: Tensor) -> None:
        """See `Metric`."""
        num_classes = out.size(1)
        if not y.size(0):
            return
        if y.dim() == 2:
            predicted, actual = (out > 0) & known_labels(y, "multilabel"), y == 1
            rows = [(predicted & actual).sum(0), predicted.sum(0), actual.sum(0)]
        else:
            best = out.argmax(dim=1)
            bins = [best[best == y], best, y]
            rows = [torch.bincount(b, minlength=num_classes) for b in bins]
        counts = torch.stack(rows).double().cpu()
        self._add(counts)

    def merge(self, other: F1) -> None:
        """See `Metric`."""
        if other.counts is not None:
            self._add(other.counts)

    def _add(self, counts: Tensor) -> None:
        self.counts = counts if self.counts is None else self.counts + counts

    def compute(self) -> float:
        """See `Metric`."""
        if self.counts is None:
            return float("nan")
        hit, predicted, actual = self.counts
        if self.average == "micro":
            denominator = float((predicted + actual).sum())
            return 2 * float(hit.sum()) / denominator if denominator else 0.0
        occurs = (predicted + actual) > 0
        if not bool(occurs.any()):
            return float("nan")
        return float((2 * hit[occurs] / (predicted + actual)[occurs]).mean())


class ByClass(F1):
    """Precision, recall and F1 of every class, or label of several, and how many rows have it."""

    def __init__(self) -> None:
        super().__init__("micro")
        self.name = "by class"

    @override
    def compute(self) -> Any:
        """A dict of figures a class, in the order of their numbers."""
        if self.counts is None:
            return []
        hit, predicted, actual = self.counts
        figures = {
            "precision": hit / predicted,
            "recall": hit / actual,
            "f1": 2 * hit / (predicted + actual),
        }
        columns = {name: values.tolist() for name, values in figures.items()}
        columns["rows"] = actual.long().tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


class Ranking:
    """How well scores rank what is true above what is not: a figure a label, and their mean.

    "roc_auc" is the area under the ROC curve, the mean over labels with both outcomes;
    "average_precision" the step-wise area under precision over recall, the mean over labels of
    which some are true and some are not, as OGB's evaluators take both. An unknown label does
    not count. For two exclusive classes the score is the second output less the first.
    """

    higher_is_better = True

    def __init__(self, name: str) -> None:
        from_extra("metrics", "sklearn.metrics")  # before there is anything to lose
        self.name = name
        self.scores: list[Tensor] = []
        self.labels: list[Tensor] = []

    def update(self, out: Tensor, y: Tensor) -> None:
        """See `Metric`."""
        if y.dim() == 1 and out.size(1) != 2:
            raise InputError(
                f"{self.name} needs two classes or 0/1 labels; the model has {out.size(1)} outputs"
            )
        score = out if y.dim() == 2 else (out[:, 1] - out[:, 0]).unsqueeze(1)
        y = y if y.dim() == 2 else y.unsqueeze(1)
        self.scores.append(score.float().cpu().clone())
        unknown = ~known_labels(y, "multilabel")
        self.labels.append(y.float().masked_fill(unknown, float("nan")).cpu())

    def merge(self, other: Ranking) -> None:
        """See `Metric`."""
        self.scores += other.scores
        self.labels += other.labels

    def compute(self) -> float:
        """See `Metric`."""
        metrics = from_extra("metrics", "sklearn.metrics")
        figure_of = {
            "roc_auc": metrics.roc_auc_score,
            "average_precision": metrics.average_precision_score,
        }[self.name]

        if not self.scores:
            return float("nan")
        scores, labels = torch.cat(self.scores), torch.cat(self.labels)
        if not bool(torch.isfinite(scores).all()):  # a model that has diverged ranks nothing
            return float("nan")
        figures = []
        for score, label in zip(scores.T, labels.T, strict=True):
            known = ~torch.isnan(label)
            if label[known].unique().numel() == 2:
                figures.append(figure_of(label[known].numpy(), score[known].numpy()))
        return float(sum(figures) / len(figures)) if figures else float("nan")


class MeanError:
    """Mean absolute (mae) or squared (mse) error over all known targets, or its root (rmse)."""

    higher_is_better = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.totals: list[float] = []  # of every chunk: a sum depends on what is added first
        self.count = 0

    def update(self, out: Tensor, y: Tensor) -> None:
        """See `Metric`."""
        difference = (out.reshape(y.shape) - y).double()[~torch.isnan(y)]
        error = difference.abs() if self.name == "mae" else difference.square()
        self.totals.append(float(error.sum()))
        self.count += error.numel()

    def merge(self, other: MeanError) -> None:
        """See `Metric`."""
        self.totals += other.totals
        self.count += other.count

    def compute(self) -> float:
        """See `Metric`."""
        mean = sum(self.totals) / self.count if self.count else float("nan")
        return math.sqrt(mean) if self.name == "rmse" else mean


class KeptRows:
    """Rows for a metric that cannot be merged, until those of all ranks can be added to it."""

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, Tensor]] = []

    def update(self, out: Tensor, y: Tensor) -> None:
        """See `Metric`."""
        self._rows.append((out.cpu().clone(), y.cpu()))

    def merge(self, other: KeptRows) -> None:
        """See `Metric`."""
        self._rows += other._rows

    def into(self, metric: Metric) -> Metric:
        """A metric with these rows added."""
        for out, y in self._rows:
            metric.update(out, y)
        return metric


METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "f1_micro": lambda: F1("micro"),
    "f1_macro": lambda: F1("macro"),
    "roc_auc": lambda: Ranking("roc_auc"),
    "average_precision": lambda: Ranking("average_precision"),
    "mae": lambda: MeanError("mae"),
    "mse": lambda: MeanError("mse"),
    "rmse": lambda: MeanError("rmse"),
}


def make_metric(name: str) -> Metric:
    """A fresh metric by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in METRICS:
        raise InputError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    return METRICS[name]()

"""Ridge regression in closed form, and how well what it gives ranks or tells labels.

The penalty is chosen among ten by the leave-one-out error, which the factorisation gives without
fitting again (Allen's PRESS). Classes are fitted as one-hot rows: with equal costs that is a linear
discriminant (Hastie, Buja and Tibshirani, "Penalized Discriminant Analysis", 1995).
"""

from __future__ import annotations

import math

import scipy.stats
import torch
from torch import Tensor

_PENALTIES = tuple(10.0**power for power in range(-4, 6))  # times the mean eigenvalue


def scaled(view: Tensor, fitted: int, each: bool) -> Tensor:
    """Columns of variance 1 over the first rows: each of them, or on average.

    Args:
        view: `[rows, columns]`.
        fitted: how many rows are fitted.
        each: whether each column is; else what varies more goes on doing so.
    """
    seen = view[:fitted].double()
    spread = seen.std(0, correction=0)
    varies = spread > 1e-6 * seen.mean(0).abs() + 1e-12
    if not each:
        spread = spread.square().mean().sqrt().expand_as(spread)
    return torch.where(varies, view / torch.where(varies, spread, 1), 0)


def predict(train: Tensor, targets: Tensor, wanted: Tensor) -> Tensor:
    """What ridge regression gives for `wanted`, having seen `train`.

    Args:
        train: `[rows, columns]`.
        targets: float64 `[rows, outputs]`.
        wanted: `[others, columns]`.

    Returns:
        float64 `[others, outputs]`.
    """
    centre = train.double().mean(0)
    x, z = train.double() - centre, wanted.double() - centre
    if not bool(x.any()):
        return targets.mean(0).expand(len(z), -1)
    offset = targets.mean(0)
    y = targets - offset
    rows, columns = x.shape
    wide = columns > rows
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    values = values.clamp(min=0)
    mean = float(values.sum()) / min(rows, columns)
    turned = vectors if wide else x @ vectors  # its squares give the leverages
    seen = turned.T @ y
    best, error = x.new_zeros(x.size(1), y.size(1)), math.inf
    for penalty in (share * mean for share in _PENALTIES):
        inverse = 1 / (values + penalty)
        if wide:
            dual = vectors @ (inverse.unsqueeze(1) * seen)
            kept = (vectors.square() @ inverse) * penalty - 1 / rows
            left, weight = dual * penalty, x.T @ dual
        else:
            weight = vectors @ (inverse.unsqueeze(1) * seen)
            kept = 1 - turned.square() @ inverse - 1 / rows
            left = y - x @ weight
        missed = float((left / kept.clamp(min=1e-9).unsqueeze(1)).square().mean())
        if missed < error:
            best, error = weight, missed
    return z @ best + offset


def auc(scores: Tensor, truth: Tensor) -> float:
    """Area under the ROC curve, ties counted half; NaN where only one outcome occurs."""
    positive = int(truth.sum())
    negative = truth.numel() - positive
    if not positive or not negative:
        return math.nan
    ranks = torch.from_numpy(scipy.stats.rankdata(scores.numpy()))
    above = float(ranks[truth].sum()) - positive * (positive + 1) / 2
    return above / (positive * negative)


def score(scores: Tensor, y: Tensor, metric: str) -> float:
    """How well outputs tell labels.

    Args:
        scores: `[rows, outputs]`.
        y: classes `[rows]`, or `[rows, outputs]` with NaN for what is unknown.
        metric: "accuracy", "ROC-AUC" (the mean over labels) or "R²" (the mean over targets).
    """
    if metric == "accuracy":
        return float((scores.argmax(1) == y).double().mean())
    if metric == "ROC-AUC" and y.dim() == 1:
        return auc(scores[:, 1] - scores[:, 0], y == 1)
    found = []
    for column in range(y.size(1)):
        known = ~y[:, column].isnan()
        out, truth = scores[known, column], y[known, column]
        if metric == "ROC-AUC":
            found.append(auc(out, truth == 1))
        elif truth.numel() and float(truth.var(correction=0)) > 0:
            rest = (truth - out).square().mean() / truth.var(correction=0)
            found.append(1 - float(rest))
    return float(torch.tensor(found or [math.nan], dtype=torch.float64).nanmean())

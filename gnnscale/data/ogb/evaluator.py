"""OGB's own Evaluator, for the figure that goes to a leaderboard."""

from __future__ import annotations

import numpy as np

from gnnscale.data.ogb.catalogue import find_entry
from gnnscale.errors import InputError
from gnnscale.extras import from_extra

_MODULES = {"node": "ogb.nodeproppred", "graph": "ogb.graphproppred"}


def official_metric(name: str, y_true: object, y_pred: object) -> dict[str, float]:
    """Compute the metric of a data set with OGB's own Evaluator.

    ogb is imported by this call: it takes seconds, and some 500 MB.

    Args:
        name: the data set, such as "ogbn-arxiv". One of our own making has no Evaluator.
        y_true: labels `[rows]` or `[rows, num_tasks]`, of the nodes or graphs that count. NaN, and
            -1 for a class, is no label.
        y_pred: what the model gives for the same rows: scores `[rows, num_classes]` of classes, of
            which the greatest counts, or classes `[rows]`; else values `[rows, num_tasks]`.

    Returns:
        The value by OGB's name of the metric: "acc", "rocauc", "ap", "rmse".

    Raises:
        InputError: shapes do not fit the data set, or there is no Evaluator for it.
        MissingDependency: ogb is not installed.
    """
    entry = find_entry(name)
    if entry.files_of != name:
        raise InputError(f"{name!r} has no leaderboard and no Evaluator; it is part of OGB's data")
    truth, scores = _table(y_true), _table(y_pred)
    if entry.task == "classification":
        if scores.shape[1] == entry.num_classes:
            scores = scores.argmax(axis=1)[:, None]
        truth = np.where(truth < 0, np.nan, truth)
    if truth.shape != scores.shape or truth.shape[1] != entry.num_tasks:
        raise InputError(
            f"{name}: y_true {truth.shape} and y_pred {_table(y_pred).shape}; expected "
            f"[rows, {entry.num_tasks}] and as many rows of {entry.outputs} outputs"
        )
    evaluator = from_extra("ogb", _MODULES[entry.level]).Evaluator(name)
    result = evaluator.eval({"y_true": truth, "y_pred": scores})
    return {metric: float(value) for metric, value in result.items()}


def _table(values: object) -> np.ndarray:
    """A float64 array `[rows, columns]` of a tensor or an array."""
    table = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
    return table.reshape(len(table), -1) if table.ndim != 2 else table

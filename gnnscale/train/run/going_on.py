"""Going on with what has ended: a further `fit`, more `epochs`, as one longer run would have it.

A longer run differs from the shorter one in two things. It goes on from the weights of the last
epoch, where the shorter one ends with the best; and it need not evaluate after that epoch, which
the shorter one does for being its last. Both are kept beside what a run ends with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gnnscale.errors import RunMismatch
from gnnscale.train.run.records import State
from gnnscale.train.run.report import Report

logger = logging.getLogger(__name__)

Weights = Mapping[str, Any]


def check_epochs(until: int, done: int, before: int, fixed: str | None, run: str) -> None:
    """Refuse a number of epochs that a run cannot have any more.

    Args:
        until: epochs that it is to have in all.
        done: epochs that it has trained, the one it stands in included.
        before: epochs that it was to have.
        fixed: what depends on their number, and a remedy, in words; None where nothing does.
        run: the run, in words.

    Raises:
        RunMismatch: naming the remedy.
    """
    if until < done:
        raise RunMismatch(
            f"epochs={until}, but {run} has trained {done} already: ask for {done} or more, or for "
            "resume=False, which begins anew"
        )
    if until != before and fixed is not None:
        raise RunMismatch(f"epochs={until}, but {run} is one of {before}: {fixed}")


def is_over(report: Report, done: int, until: int, before: int, patience: int | None) -> bool:
    """Whether a run that stopped, for the reason in its report, has nothing left to train.

    Args:
        report: its report.
        done: epochs that it has trained.
        until: epochs that it is to have now.
        before: epochs that it was to have.
        patience: epochs without a better validation metric after which it stops now.
    """
    best, stopped = report.best_epoch, report.stopped
    if stopped == "early stopping" and patience is not None and best is not None:
        if done - best < patience:
            return until <= done
        if until > before:
            logger.warning(
                "the run stopped early after epoch %d, as one of %d epochs does: a greater "
                "early_stopping, or None, goes on",
                done,
                until,
            )
        return True
    if stopped == "layers":
        return True
    if stopped == "callback":  # which is asked again
        return until <= max(before, done)
    return until <= done


def snapshot(weights: Weights) -> State:
    """A copy of weights on the host."""
    return {k: v.detach().cpu().clone() if isinstance(v, Tensor) else v for k, v in weights.items()}


def _equal(values: Tensor, before: Tensor) -> bool:
    """Whether all are the same, NaN included."""
    unset = values.isnan()
    return torch.equal(unset, before.isnan()) and torch.equal(values[~unset], before[~unset])


def unchanged(weights: Weights, before: Weights) -> bool:
    """Whether weights are what a snapshot holds, bit for bit."""
    return weights.keys() == before.keys() and all(
        _equal(value.detach().cpu(), before[name])
        if isinstance(value, Tensor)
        else value == before[name]
        for name, value in weights.items()
    )

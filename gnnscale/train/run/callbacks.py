"""Callbacks: what is told of a run while it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch.optim import Optimizer
from typing_extensions import override

from gnnscale import comm
from gnnscale.extras import from_extra
from gnnscale.train.run.records import Row
from gnnscale.train.run.report import Report


class Told(Protocol):
    """What callbacks are given: the trainer, of which these are the attributes that all have.

    Attributes:
        stop: set it to True to end training.
    """

    stop: bool

    @property
    def model(self) -> Any:
        """The model in training."""

    @property
    def report(self) -> Report:
        """Of the run so far."""

    @property
    def optimizer(self) -> Optimizer:
        """Of what is in training."""

    @property
    def epochs_done(self) -> int:
        """Epochs that have been trained."""


class Callback:
    """Override what you need. Set `trainer.stop = True` to end training.

    In `on_epoch_end` that is after the epoch. In `on_step_end` it is after the step (of several
    ranks, after the next), and the rest of the epoch is left: it has no row in the report, and is
    what more epochs go on with. Of several ranks each calls its own; one that asks for it stops
    all.
    """

    def on_fit_start(self, trainer: Told) -> None:
        """Called once, before the first step of every `fit`."""

    def on_step_end(self, trainer: Told, step: int) -> None:
        """Called after every step, the `step`-th of the epoch `trainer.epochs_done + 1`.

        Losses stay on the device: what reads one waits for it.
        """

    def on_epoch_end(self, trainer: Told, row: Row) -> None:
        """Called after every epoch with its row of the report."""

    def on_fit_end(self, trainer: Told, report: Report) -> None:
        """Called once, when training has ended."""


def hears_of_steps(callback: object) -> bool:
    """Whether a callback is told of steps: one that says nothing of them costs nothing."""
    told = getattr(callback, "on_step_end", None)
    return told is not None and getattr(told, "__func__", told) is not Callback.on_step_end


class TensorBoard(Callback):
    """Writes every figure of every epoch to TensorBoard; of several ranks, rank 0 does.

    Args:
        log_dir: the folder that `tensorboard --logdir` is given.

    Raises:
        MissingDependency: tensorboard is not installed.
    """

    def __init__(self, log_dir: str | Path) -> None:
        from_extra("tensorboard", "tensorboard")
        self._make = from_extra("tensorboard", "torch.utils.tensorboard").SummaryWriter
        self._log_dir = str(log_dir)
        self._writer: Any = None

    @override
    def on_fit_start(self, trainer: Told) -> None:
        """Go on after the last epoch of an interrupted run: what came later is purged."""
        if self._writer is not None:  # of a `fit` that was interrupted
            self._writer.close()
        if comm.is_main():
            self._writer = self._make(self._log_dir, purge_step=trainer.epochs_done + 1)

    @override
    def on_epoch_end(self, trainer: Told, row: Row) -> None:
        """See `Callback`."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "epoch" and value is not None and not isinstance(value, str):
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()  # a run that is killed keeps what it has written

    @override
    def on_fit_end(self, trainer: Told, report: Report) -> None:
        """See `Callback`."""
        if self._writer is not None:
            self._writer.close()

"""Callbacks: what is told of a run while it happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from gnnscale import comm
from gnnscale.extras import from_extra

if TYPE_CHECKING:
    from gnnscale.train.kept_run import KeptRun
    from gnnscale.train.run.report import Report


class Callback:
    """Override what you need. Set `trainer.stop = True` to end training after the epoch.

    Of several ranks each calls its own; one that asks for it stops all.
    """

    def on_fit_start(self, trainer: KeptRun) -> None:
        """Called once, before the first step of every `fit`."""

    def on_epoch_end(self, trainer: KeptRun, row: dict[str, Any]) -> None:
        """Called after every epoch with its row of the report."""

    def on_fit_end(self, trainer: KeptRun, report: Report) -> None:
        """Called once, when training has ended."""


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
    def on_fit_start(self, trainer: KeptRun) -> None:
        """Go on after the last epoch of an interrupted run: what came later is purged."""
        if self._writer is not None:  # of a `fit` that was interrupted
            self._writer.close()
        if comm.is_main():
            self._writer = self._make(self._log_dir, purge_step=trainer.epochs_done + 1)

    @override
    def on_epoch_end(self, trainer: KeptRun, row: dict[str, Any]) -> None:
        """See `Callback`."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "epoch" and value is not None and not isinstance(value, str):
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()  # a run that is killed keeps what it has written

    @override
    def on_fit_end(self, trainer: KeptRun, report: Report) -> None:
        """See `Callback`."""
        if self._writer is not None:
            self._writer.close()

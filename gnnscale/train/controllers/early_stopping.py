"""EarlyStopping: epochs, fewer of them where the validation metric gets no better."""

from __future__ import annotations

from gnnscale.train.run.records import Row
from gnnscale.train.session import Setup


class EarlyStopping:
    """Stops after `epochs`, or after `early_stopping` epochs without a better metric.

    Args:
        setup: of the trainer.

    Attributes:
        counts_from: the epoch that patience counts from, where training has stopped once.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.counts_from = 0

    @property
    def stopped(self) -> str | None:
        """See `StopRule`."""
        return self._setup.report.stopped

    def after(self, row: Row) -> str | None:
        """See `StopRule`."""
        setup, report = self._setup, self._setup.report
        patience, best, epoch = setup.config.early_stopping, report.best_epoch, row["epoch"]
        evaluated = f"val_{setup.task.headline}" in row  # else nothing new is known
        since = None if best is None else epoch - max(best, self.counts_from)
        if evaluated and patience is not None and since is not None and since >= patience:
            return "early stopping"
        return "epochs" if epoch >= setup.until else None

    def stop(self, why: str) -> None:
        """See `StopRule`."""
        self._setup.report.stopped = why

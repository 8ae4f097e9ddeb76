"""AllLayers: the one session of a trainer that trains all layers together, and when it stops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from gnnscale.errors import InputError, RunMismatch
from gnnscale.loader import ClusterLoader
from gnnscale.nn.modules import has_lazy
from gnnscale.train.contracts import Data, Evaluator, Step
from gnnscale.train.run.callbacks import Told
from gnnscale.train.run.records import Row, State
from gnnscale.train.run.report import Meter, Report
from gnnscale.train.session import Session, Setup
from gnnscale.train.steps.batch_step import WholeModel
from gnnscale.train.steps.optimizers import SCHEDULERS

logger = logging.getLogger(__name__)


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


class Batched(Data, Protocol):
    """Data that give batches."""

    @property
    def loader(self) -> ClusterLoader:
        """The batches of an epoch, once prepared."""

    @property
    def is_prepared(self) -> bool:
        """Whether there are batches."""

    def prepare(self) -> None:
        """Make what gives batches. Nothing is written."""


MakeStep = Callable[[Setup, WholeModel, Meter, ClusterLoader, Evaluator], Step]


class AllLayers:
    """A session for all layers, whose optimizer and schedule `start` makes.

    Args:
        setup: of the trainer.
        data: what is trained on.
        evaluator: of the trainer.
        check: finds before training what does not fit together.
        make_step: makes the step, with a new optimizer.
        keep: writes what a run has to find again.
        before: refuses what is known not to fit before the data are prepared.
    """

    def __init__(
        self,
        setup: Setup,
        data: Batched,
        evaluator: Evaluator,
        check: Callable[[], None],
        make_step: MakeStep,
        keep: Callable[[], None] = lambda: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._setup, self._data, self._evaluator = setup, data, evaluator
        self._check, self._make_step, self.keep = check, make_step, keep
        self._before = before
        self._rule = EarlyStopping(setup)
        self._meter = Meter(setup.device)
        self._prepared = False
        self._laid_out: int | None = None  # until which epoch the schedule is
        self.open: Session | None = None

    def prepare(self) -> None:
        """See `Sessions`."""
        if self._prepared and self._data.is_prepared:
            return
        setup, evaluator = self._setup, self._evaluator
        self._before()
        self._data.prepare()
        if setup.config.early_stopping is not None and "val" not in evaluator.sets():
            why = evaluator.without_metrics() or "the split has none"
            raise InputError(f"early_stopping needs validation {evaluator.unit}; {why}")
        setup.learnt.to(setup.device)
        self._check()
        self._prepared = True

    def ready(self) -> None:
        """See `Sessions`."""
        self._data.lay_out()
        if has_lazy(self._setup.model) or self._data.is_prepared:
            self.prepare()
        if self.open is not None:
            self.open.step.share()

    def begin(self) -> None:
        """See `Sessions`."""
        self._rule.counts_from = 0
        if self.open is not None:
            self.open.forget()

    def start(self) -> None:
        """See `Sessions`."""
        self.prepare()
        if not self._setup.stands:
            self._stand_at(0, 0)
        self._renew()

    def take_up(self, ended: str | None) -> None:
        """See `Sessions`."""
        assert self.open is not None
        session, loader, setup = self.open, self._data.loader, self._setup
        if ended == "early stopping":  # as it would at once again
            self._rule.counts_from = self.epochs_done
        self._stand_at(loader.epoch, loader.step - session.step.waiting)
        session.step.forget()
        if setup.config.scheduler not in SCHEDULERS or self._laid_out == setup.until:
            return
        if not session.step.updates.fresh:
            raise RunMismatch(
                f"scheduler={setup.config.scheduler!r} was laid out over {self._laid_out} epochs: "
                "call start() before fit(), which lays a new one out over those to come, with a "
                "new optimizer"
            )
        self._renew()

    def _stand_at(self, epoch: int, step: int) -> None:
        """Let the loader go on from there."""
        loader = self._data.loader
        loader.load_state_dict({**loader.state_dict(), "epoch": epoch, "step": step})

    def _renew(self) -> None:
        """Make a step with a new optimizer and schedule."""
        setup, loader = self._setup, self._data.loader
        if setup.until <= loader.epoch:  # between two calls of `fit`
            setup.until = loader.epoch + setup.config.epochs
        self._laid_out = setup.until
        trained = WholeModel(setup)
        step = self._make_step(setup, trained, self._meter, loader, self._evaluator)
        if self.open is None or self.open.source is not loader:
            self.open = Session(loader, trained, step, self._meter, self._evaluator, self._rule)
        else:
            self.open.trained, self.open.step = trained, step

    def reopen(self) -> None:
        """See `Sessions`."""
        session, report = self.open, self._setup.report
        if session is not None and (longer := session.longer) is not None:
            report.rows[-1], report.best_epoch = longer["row"], longer["best_epoch"]
            session.best, session.best_value = longer["best"], longer["best_value"]
            session.longer = None

    def __iter__(self) -> Iterator[Session]:
        """See `Sessions`."""
        assert self.open is not None
        yield self.open

    def close(self, session: Session) -> bool:
        """Nothing: the run takes the best weights when it has written the last ones."""
        return False

    def finish(self, trainer: Told) -> None:
        """Nothing comes after."""

    def best(self) -> State | None:
        """See `Sessions`."""
        return None if self.open is None else self.open.best

    @property
    def epochs_done(self) -> int:
        """See `Sessions`."""
        return self._data.loader.epoch if self._data.is_prepared else 0

    def epochs_of(self, state: State, report: Report) -> int:
        """See `Sessions`."""
        source = state["open"]["source"]
        return source["epoch"] + (source["step"] > 0)

    def fixed_length(self, report: Report) -> str | None:
        """See `Sessions`."""
        if self._setup.config.scheduler not in SCHEDULERS:
            return None
        return (
            f"scheduler={self._setup.config.scheduler!r} was laid out over those. For more, give "
            "the model of load_run to a trainer with another run_dir, or begin anew with "
            "resume=False"
        )

    def shown(self, session: Session | None) -> tuple[int, int, str]:
        """See `Sessions`."""
        loader, until = self._data.loader, self._setup.until
        epoch, steps = loader.epoch, len(loader)
        return epoch * steps + loader.step, until * steps, f"{epoch + 1}/{until}"

    def state_dict(self) -> State:
        """See `Sessions`."""
        assert self.open is not None
        return {"open": self.open.state_dict()}

    def own_state(self) -> State:
        """See `Sessions`."""
        assert self.open is not None
        return {"open": self.open.own_state()}

    def load_state_dict(self, state: State) -> None:
        """See `Sessions`."""
        assert self.open is not None
        self.open.load_state_dict(state["open"])
        source = state["open"]["source"]
        logger.info("going on after epoch %d, step %d", source["epoch"], source["step"])

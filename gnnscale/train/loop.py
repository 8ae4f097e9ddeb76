"""Loop: the epoch loop of every trainer.

    for every session: epochs of steps → evaluation → decision → checkpoint

A step reads no value back from the device.
"""

from __future__ import annotations

import logging
import time
from math import isfinite, isnan
from typing import Protocol

from gnnscale import comm
from gnnscale.errors import GnnscaleError
from gnnscale.train.run.callbacks import Told, hears_of_steps
from gnnscale.train.run.records import Row
from gnnscale.train.run.report import Progress
from gnnscale.train.session import Session, Sessions, Setup
from gnnscale.train.steps.updates import gentler
from gnnscale.train.task import check_counted

logger = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who keeps what training has come to."""

    def checkpoint(self) -> None:
        """Write the state to go on from, unless it is no longer finite. On every rank."""

    def told(self, steps: int, of: int, seconds: float) -> None:
        """Take note of a step: how many of an epoch there have been, and what they took."""

    def checkpoint_is_due(self) -> bool:
        """Whether it is time for a checkpoint at the end of an epoch. On every rank."""


class Loop:
    """Trains session after session, each until its decision stops it.

    Args:
        trainer: what callbacks are told of.
        setup: of the trainer.
        sessions: what is trained.
        keeper: of the run.
    """

    def __init__(self, trainer: Told, setup: Setup, sessions: Sessions, keeper: Keeper) -> None:
        self._trainer, self._setup, self._sessions = trainer, setup, sessions
        self._keeper = keeper
        self._steps_since_checkpoint = 0

    def run(self) -> None:
        """Train until the report says why it stopped.

        Raises:
            KeyboardInterrupt: a rank was interrupted; the state is whole and written.
            GnnscaleError: what is trained is no longer finite; it has the weights of before.
        """
        setup, sessions = self._setup, self._sessions
        done, total, _ = sessions.shown(None)
        shown = setup.config.progress and comm.is_main()
        with Progress(total, done, shown) as self._progress:
            for session in sessions:
                if session.rule.stopped is None:  # what fault there is comes before an epoch
                    session.interval(setup.config.evaluate_every)
                while session.rule.stopped is None:
                    self._run_epoch(session)
                if sessions.close(session):
                    self._checkpoint()
                if setup.stop:
                    break
        if setup.report.stopped is None:
            setup.report.stopped = "callback" if setup.stop else "layers"

    def _run_epoch(self, session: Session) -> None:
        setup, rule = self._setup, session.rule
        setup.stands = False
        if self._steps(session):
            setup.stop = True
            rule.stop("callback")
            return
        row, why, evaluated = self._end_epoch(session)
        setup.stands = True
        try:
            for callback in setup.callbacks:
                callback.on_epoch_end(self._trainer, row)
        except BaseException:
            if why is not None:  # a further `fit` has nothing left to train
                rule.stop(why)
            raise
        setup.stop = comm.any_rank(setup.stop)
        if setup.stop:
            if not evaluated:
                self._evaluate_last(session, row)
            why = "callback"
        if why is not None:
            rule.stop(why)
        if comm.any_rank(setup.interrupted()):
            self._leave()
        if why is None and self._keeper.checkpoint_is_due():
            self._checkpoint()

    def _steps(self, session: Session) -> bool:
        """Run the rest of an epoch; whether it was broken off because training is to stop."""
        setup, meter, source = self._setup, session.meter, session.source
        told = [call.on_step_end for call in setup.callbacks if hears_of_steps(call)]
        alone = comm.world_size() == 1
        session.begin_epoch()
        before = time.monotonic()
        for batch in source:
            done = source.step if batch is None else batch.step + 1
            signals = session.step(batch, done, len(source))
            now = time.monotonic()
            meter.seconds += now - before
            self._keeper.told(done, len(source), meter.seconds)
            before = time.monotonic()
            at, _, where = self._sessions.shown(session)
            self._progress.step(at, where, meter.mean_loss, meter.nodes_per_second)
            self._steps_since_checkpoint += 1
            for on_step_end in told:
                on_step_end(self._trainer, done)
            if signals.interrupted:
                self._leave()
            if self._steps_since_checkpoint == setup.config.checkpoint_every:
                self._checkpoint()
            # Several ranks agree in a step's message; the end of an epoch sees to itself.
            if (signals.stop or (alone and setup.stop)) and source.step < len(source):
                return True
            if told or not self._steps_since_checkpoint:
                before = time.monotonic()
        return False

    def _end_epoch(self, session: Session) -> tuple[Row, str | None, bool]:
        """The row of an epoch that has been trained, why to stop, and whether it was evaluated."""
        setup, meter, config = self._setup, session.meter, self._setup.config
        if setup.stage_group is not None:
            meter.over_ranks(setup.stage_group)  # the losses are with the last stage
        meter.over_ranks(setup.group)
        check_counted(setup.task, meter.weight, session.where)
        loss = meter.mean_loss()
        self._check_finite(session, loss)
        session.keep_good()
        row: Row = {
            "epoch": session.epoch,
            **({} if session.layer is None else {"layer": session.layer}),
            "loss": loss,
            "lr": session.step.updates.optimizer.param_groups[0]["lr"],
            "seconds": meter.seconds,
            "nodes_per_second": meter.nodes_per_second,
        }
        setup.report.rows.append(row)
        setup.count("train", meter.seconds)
        session.count(row)
        meter.reset()
        due = session.source.epoch % session.interval(config.evaluate_every) == 0
        if due:
            self._evaluate(session, row)
        session.step.updates.end_epoch(row)
        why = session.rule.after(row)
        if why is not None and not due:
            self._evaluate_last(session, row)
        logger.info("epoch %d: %s", row["epoch"], row)
        return row, why, due or why is not None

    def _check_finite(self, session: Session, loss: float) -> None:
        """See that what is trained is finite: a last step that overflows shows in no loss."""
        if not comm.any_rank(not (isfinite(loss) and session.is_finite())):
            return
        session.revert()
        fault = f"the training loss is {loss} in {session.where}"
        if isfinite(loss):
            fault = f"after {session.where}, weights are no longer finite"
        raise GnnscaleError(
            f"{fault}; the model has those from before that epoch. Try "
            f"{gentler(self._setup.config)}, and see that the features are not too large"
        )

    def _evaluate_last(self, session: Session, row: Row) -> None:
        """Evaluate after an epoch for being the last, as a longer run would not."""
        session.keep_for_longer(row, self._setup.report)
        self._evaluate(session, row)

    def _evaluate(self, session: Session, row: Row) -> None:
        setup, headline = self._setup, self._setup.task.headline
        session.step.share()
        found = session.validator.validate()
        for where, metrics in found.items():
            row.update({f"{where}_{name}": value for name, value in metrics.items()})
        value = found.get("val", {}).get(headline)
        if value is None or isnan(value):
            return
        self._progress.validation(headline, value)
        if session.improves(value, higher=setup.task.metrics()[0].higher_is_better):
            setup.report.best_epoch = row["epoch"]
            session.keep_best(f"val_{headline}", value, weights=setup.config.keep == "best")

    def _checkpoint(self) -> None:
        self._keeper.checkpoint()
        self._steps_since_checkpoint = 0

    def _leave(self) -> None:
        """Interrupt training, where everything that moves is whole."""
        self._checkpoint()
        self._setup.stands = True
        raise KeyboardInterrupt

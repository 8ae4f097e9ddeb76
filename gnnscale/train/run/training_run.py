"""TrainingRun: a run that can be left and gone on with: report, folder, checkpoints.

    resume or begin → start → train, until it is said why to stop → finish

Everything that moves is in the checkpoint, so a run killed at any moment goes on to the same
weights.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from gnnscale import comm
from gnnscale.errors import InputError, RunMismatch
from gnnscale.nn.modules import repeatable
from gnnscale.storage.allocator import buffers_within, kept_buffers
from gnnscale.train.contracts import Data, Evaluator
from gnnscale.train.loop import Loop
from gnnscale.train.options import TrainerOptions
from gnnscale.train.run.callbacks import Told
from gnnscale.train.run.evidence import measured
from gnnscale.train.run.expected import Expectation
from gnnscale.train.run.going_on import check_epochs, is_over, snapshot, unchanged
from gnnscale.train.run.identity import (
    check_same_on_all_ranks,
    check_world_size,
    share_weights,
    with_own,
)
from gnnscale.train.run.process import (
    MemoryMeter,
    deferred_interrupt,
    memory_use,
    resident_arrays,
)
from gnnscale.train.run.records import Description, State
from gnnscale.train.run.report import Report, environment, warn_of_another_environment
from gnnscale.train.session import Sessions, Setup
from gnnscale.train.steps.learnt import shapes_of_task
from gnnscale.train.task import NodeTask, describe_task

logger = logging.getLogger(__name__)

_CHECKPOINT_SECONDS = 20.0


class TrainingRun:
    """Trains, and keeps what training has come to.

    Under torchrun every rank runs the same. What one alone can tell (files, the clock, metrics)
    rank 0 tells the others, so that all decide alike. Rank 0 writes.

    Args:
        kind: of the trainer, by name.
        setup: what its parts share.
        data: what is trained on.
        evaluator: of the final weights.
        sessions: what is trained.
    """

    # The weights that `fit` ended with, those that it was interrupted with, and those of the last
    # epoch where they are others.
    _left: State | None
    _broken_off: State | None
    _last: State | None

    def __init__(
        self, kind: str, setup: Setup, data: Data, evaluator: Evaluator, sessions: Sessions
    ) -> None:
        self._kind, self._setup, self._data = kind, setup, data
        self._evaluator, self._sessions = evaluator, sessions
        # Before lazy parameters get their shapes: a second `fit` is of the same model.
        self._model_as_given = {
            "model": setup.model.signature(),
            "spec": setup.model.spec,
            "modules": re.sub(r" at 0x\w+", "", repr(setup.model)).splitlines(),
        }
        task, built_in = setup.task, type(setup.task) is NodeTask
        parameters = {} if built_in else shapes_of_task(task, setup.model)
        self._task_as_given = describe_task(task, parameters)
        self._begin()

    def identity(self) -> Description:
        """What makes a run the same run: trainer, data, model and task."""
        data, spec = self._data.identity(), self._setup.model.spec
        schema = self._data.whole.schema
        title = f"{spec['model'] if spec else 'model'} on {data['name']}"
        return {
            "trainer": self._kind,
            "data": data,
            **self._model_as_given,
            "task": self._task_as_given,
            "about": {"title": title, "graph": data, "trainer": self._kind},
            # For tables that are scored later, when the graph may be gone.
            "schema": None if schema is None else schema.to_json(),
            "num_classes": self._data.whole.num_classes,
        }

    def fit(self, trainer: Told, resume: str | bool, epochs: int | None) -> Report:
        """See `Trainer.fit`; callbacks are told of the trainer."""
        if not isinstance(resume, bool) and not (isinstance(resume, str) and resume == "auto"):
            raise InputError(f"resume={resume!r} must be 'auto', True or False")
        with (
            comm.telling_the_others(),
            comm.doing("fit"),
            MemoryMeter() as memory,
            contextlib.ExitStack() as held,
        ):
            folder = self._setup.folder
            comm.from_main(lambda: None if folder is None else folder.hold(held))
            held.enter_context(buffers_within(self._setup.config.memory))
            self._setup.is_fitting, self._meter = True, memory
            held.callback(setattr, self._setup, "is_fitting", False)
            if self._starts(resume, epochs):
                self._train(trainer)
                self._finish(trainer, memory)
            return self._setup.report

    def adopt(self, weights: dict[str, Tensor], report: Report, same_data: bool) -> None:
        """See `Trainer.adopt`."""
        self._setup.learnt.take(weights)
        if same_data:
            self._data.resume()
        self._setup.learnt.to(self._setup.device)
        self._setup.report = report

    # --- from where to where ----------------------------------------------------------------

    def _starts(self, resume: str | bool, epochs: int | None) -> bool:
        """Begin, or go on with what there is; whether anything is left to train."""
        started = time.monotonic()
        setup, folder = self._setup, self._setup.folder
        again = folder is None and resume is not False and setup.stands
        before = setup.until
        config = self._lengthen(epochs, again)
        if not again:
            self._begin()
        elif self._left is not None and setup.until == self._sessions.epochs_done:
            return False
        identity = self.identity()
        check_same_on_all_ranks(identity, config, folder)
        state = None
        if folder is not None:
            state = comm.from_main(lambda: folder.resume(identity, config, resume))
        elif resume is True and not again:
            raise RunMismatch("resume=True needs a run_dir")
        if state is not None and self._is_over(state):
            logger.info("the run in %s is complete; nothing is left to train", folder)
            self.adopt(state["best"] or state["model"], Report(**state["report"]), True)
            return False
        if folder is not None:
            comm.from_main(folder.check_writable)
        if state is not None:
            check_world_size(state, folder)
            self._data.resume()
        if again:
            self._go_on(before)
        else:
            # Before the folder is touched: a model that does not fit leaves a run there as it was.
            self._sessions.start()
        if folder is not None and state is None:
            comm.from_main(lambda: folder.begin(identity, config))
            self._data.keep()
            comm.from_main(self._sessions.keep)
        if not again:
            elapsed = time.monotonic() - started
            setup.count("prepare", elapsed - sum(setup.report.seconds.values()))
        setup.report.run = {
            **identity["about"],
            "classes": [*(self._data.whole.class_names or ())],
            "config": config.saved(),
            "environment": environment(str(setup.device)),
            "ranks": comm.world_size(),
        }
        if state is None:
            share_weights(setup.learnt)
        else:
            self._restore(state)
            if folder is not None:
                comm.from_main(lambda: folder.keep_config(config))
        if state is None or state["finished"]:
            self.checkpoint()  # the weights before the first step: a run killed early goes on too
        if (why := self._evaluator.without_labels()) is not None:
            setup.report.notes = [why]
            logger.warning("no metrics are computed: %s", why)
        return True

    def _train(self, trainer: Told) -> None:
        setup = self._setup
        for callback in setup.callbacks:
            callback.on_fit_start(trainer)
        stages: Sequence[Any] = getattr(trainer, "stages", ())
        cuts = tuple(stage.numbers.start for stage in stages[1:])
        self._expectation = Expectation(setup, self._data, self._sessions, cuts)
        self._expectation.begin()
        bounded = setup.config.memory != "auto"
        buffers = contextlib.nullcontext() if bounded else kept_buffers()
        with buffers, repeatable(setup.device), deferred_interrupt() as interrupted:
            setup.interrupted = interrupted
            try:
                Loop(trainer, setup, self._sessions, self).run()
            except BaseException:
                if setup.folder is None and setup.stands:
                    self._broken_off = snapshot(setup.learnt.weights())
                raise

    def _begin(self) -> None:
        """Forget where training stood."""
        setup = self._setup
        setup.report = Report(headline=setup.task.headline)
        setup.stop = setup.stands = False
        self._left = self._broken_off = self._last = None
        self._last_checkpoint = time.monotonic()
        self._sessions.begin()

    def _lengthen(self, epochs: int | None, again: bool) -> TrainerOptions:
        """Settle until which epoch to train; the configuration that says so.

        Args:
            epochs: what `fit` was told.
            again: whether it goes on from what is in memory.
        """
        setup, sessions = self._setup, self._sessions
        if epochs is None:
            epochs = setup.config.epochs
            if again:
                finished = self._left is not None  # else it was interrupted: completed now
                epochs = sessions.epochs_done + epochs if finished else setup.until
        config = replace(setup.config, epochs=epochs)
        config.check()
        if again:
            done = sessions.epochs_of(sessions.state_dict(), setup.report)
            check_epochs(epochs, done, setup.until, None, "this trainer")
        if setup.folder is not None:
            setup.config = config
        setup.until = epochs
        return config

    def _is_over(self, state: State) -> bool:
        """Whether the run of a checkpoint is complete.

        Raises:
            RunMismatch: it cannot have so many epochs.
        """
        setup, report = self._setup, Report(**state["report"])
        done = self._sessions.epochs_of(state["sessions"], report)
        before, fixed = report.run["config"]["epochs"], self._sessions.fixed_length(report)
        check_epochs(setup.until, done, before, fixed, f"the run in {setup.folder}")
        over = self._has_ended(report, done, before)
        return over and state["finished"]

    def _has_ended(self, report: Report, done: int, before: int) -> bool:
        patience = self._setup.config.early_stopping
        return report.stopped is not None and is_over(
            report, done, self._setup.until, before, patience
        )

    def _go_on(self, before: int) -> None:
        """Go on from what the last `fit` left in memory, or from weights that are others since.

        Args:
            before: epochs that the run was to have.
        """
        setup, finished = self._setup, self._left is not None
        weights, ended = setup.learnt.weights(), setup.report.stopped
        known = self._left if finished else self._broken_off
        if comm.any_rank(known is not None and not unchanged(weights, known)):
            self._begin()
        else:
            if self._last is not None:
                setup.learnt.take(self._last)
            setup.report = Report(**asdict(setup.report))  # what `fit` returned stays as it is
            # Interrupted after its last epoch, it has nothing left but to finish.
            if finished or not self._has_ended(setup.report, self._sessions.epochs_done, before):
                self._reopen()
        self._left = self._broken_off = self._last = None
        setup.stop = False
        self._sessions.take_up(ended)

    def _reopen(self) -> None:
        """Take back what an end has added to the run."""
        report = self._setup.report
        report.stopped, report.final = None, {}
        report.seconds.pop("total", None)
        self._sessions.reopen()

    def _finish(self, trainer: Told, memory: MemoryMeter) -> None:
        setup, report, learnt = self._setup, self._setup.report, self._setup.learnt
        self._sessions.finish(trainer)
        state = self._state()
        if (best := self._sessions.best()) is not None:
            state["model"] = self._last = snapshot(state["model"])
            learnt.take(best)
        started = time.monotonic()
        report.final = self._evaluator.evaluate(self._evaluator.sets())
        evaluation = time.monotonic() - started if report.final else None
        memory.look()
        report.predicted = comm.from_main(lambda: report.predicted)
        report.measured = measured(report.rows, evaluation, memory.added, report.measured)
        arrays = resident_arrays(self._data.held())
        report.memory = {**memory_use(memory), "arrays": arrays}
        report.seconds["total"] = sum(
            seconds for name, seconds in report.seconds.items() if name != "total"
        )
        if (folder := setup.folder) is not None:
            comm.from_main(lambda: folder.finish(learnt.weights(), state, report))
            self._last = None
        else:
            self._left, setup.stands = snapshot(learnt.weights()), True
        for callback in setup.callbacks:
            callback.on_fit_end(trainer, report)

    # --- state ------------------------------------------------------------------------------

    def told(self, steps: int, of: int, seconds: float) -> None:
        """See `Keeper`."""
        self._expectation.after(steps, of, seconds)

    def checkpoint_is_due(self) -> bool:
        """See `Keeper`."""
        if self._setup.config.checkpoint_every != "auto":
            return False
        due = time.monotonic() - self._last_checkpoint >= _CHECKPOINT_SECONDS
        return comm.any_rank(due and comm.is_main())

    def checkpoint(self) -> None:
        """See `Keeper`."""
        folder, session = self._setup.folder, self._sessions.open
        if folder is None:
            return
        # What is no longer finite is not what to go on from.
        sound = session is None or (isfinite(session.meter.mean_loss()) and session.is_finite())
        if comm.any_rank(not sound):
            return
        state = self._state()
        most = max(self._meter.added, self._setup.report.measured.get("memory", 0))
        self._setup.report.measured["memory"] = most  # a run that is killed has had it too
        comm.from_main(lambda: folder.checkpoint(state, self._setup.report))
        self._last_checkpoint = time.monotonic()

    def _state(self) -> State:
        if (session := self._sessions.open) is not None:
            session.step.share()
        own = self._own_state()
        others = comm.gather_objects(own)[1:]
        return {
            "model": self._setup.learnt.weights(),
            "best": self._sessions.best(),
            "sessions": self._sessions.state_dict(),
            "rng": own["rng"],
            "other_ranks": others,
        }

    def _own_state(self) -> State:
        """Of the state, what is this rank's own, under the same keys."""
        device = self._setup.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {
            "rng": {"cpu": torch.get_rng_state(), "cuda": cuda},
            # Running statistics are the same on all ranks; what else a module counts is its own.
            "buffers": dict(self._setup.learnt.named_buffers()),
            "sessions": self._sessions.own_state(),
        }

    def _restore(self, state: State) -> None:
        setup = self._setup
        if not comm.is_main():
            state = with_own(state, state["other_ranks"][comm.rank() - 1])
        report, now = Report(**state["report"]), setup.report
        known, here = report.run.get("environment", {}), now.run["environment"]
        warn_of_another_environment(known, here)
        done, before = self._sessions.epochs_of(state["sessions"], report), report.run["config"]
        reopened = report.stopped is not None and not self._has_ended(
            report, done, before["epochs"]
        )
        report.run["config"] = now.run["config"]  # of more epochs, perhaps
        setup.report = report
        for name, value in now.seconds.items():
            setup.count(name, value)
        setup.learnt.take(state["model"])
        for name, buffer in setup.learnt.named_buffers():
            if name in state.get("buffers", ()):  # of another rank than 0
                buffer.copy_(state["buffers"][name])
        self._sessions.load_state_dict(state["sessions"])
        if reopened:
            self._reopen()
        torch.set_rng_state(state["rng"]["cpu"])
        if state["rng"]["cuda"] is not None and setup.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"], setup.device)

"""KeptRun: a training run that can be left and gone on with: report, run folder, checkpoints.

    resume or begin → start → train, until it is said why to stop → finish

What is trained, and in which steps, a child says. Everything that moves is in the checkpoint, so a
run killed at any moment goes on to the same weights.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from gnnscale import comm
from gnnscale.errors import InputError, RunMismatch
from gnnscale.nn import LayeredGNN
from gnnscale.train.device import choose_device
from gnnscale.train.evaluators.full_graph import FullGraph
from gnnscale.train.options import TrainerOptions
from gnnscale.train.ranks import (
    check_same_on_all_ranks,
    check_world_size,
    share_weights,
    with_own,
)
from gnnscale.train.run.allocator import kept_buffers, return_freed_memory
from gnnscale.train.run.folder import RunFolder
from gnnscale.train.run.going_on import check_epochs, is_over, snapshot, unchanged
from gnnscale.train.run.identity import describe_model, describe_task
from gnnscale.train.run.interrupt import deferred_interrupt
from gnnscale.train.run.memory import MemoryMeter, memory_use, resident_arrays
from gnnscale.train.run.progress import Progress
from gnnscale.train.run.report import (
    Report,
    environment,
    warn_of_another_environment,
)
from gnnscale.train.steps.repeatable import repeatable
from gnnscale.train.task import Task

logger = logging.getLogger(__name__)

_CHECKPOINT_SECONDS = 20.0
_STATES = 4  # of the weights: gradients, an optimizer's two moments, the best so far


class KeptRun(FullGraph):
    """What trainers share, however they train.

    Under torchrun every rank runs the same. What one alone can tell (files, the clock, metrics)
    rank 0 tells the others, so that all decide alike. Rank 0 writes.

    Attributes:
        group: the ranks that share the batches of a step; None for all.
    """

    group: Any = None
    _best: dict[str, Tensor] | None
    _until: int  # epochs that the run has when `fit` ends
    _stands = False  # whether a further `fit` can go on from what is in memory
    _patience_from: int  # the epoch that early stopping counts from where it has stopped once
    # What a longer run has in the place of a last epoch that was evaluated for being the last.
    _longer: dict[str, Any] | None
    # The weights that `fit` ended with, and those of the last epoch where they are others.
    _left: dict[str, Any] | None
    _last: dict[str, Any] | None
    _is_training = False  # whether `fit` runs: what it has made then counts in its `memory`

    def __init__(
        self,
        model: LayeredGNN,
        config: TrainerOptions,
        *,
        task: Task,
    ) -> None:
        config.check()
        comm.start()
        self.model = model
        self.config = config
        self._until = config.epochs
        self.task = task
        self.callbacks = list(config.callbacks)
        self.device = choose_device(config.device)
        self.folder = None if config.run_dir is None else RunFolder(config.run_dir)
        # Before lazy parameters get their shapes: a second `fit` is of the same model.
        self._model_as_given = describe_model(model)
        self._task_as_given = describe_task(task, model)

    # --- what a child provides --------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Prepare, and make a new optimizer: what comes before the first step."""

    @abstractmethod
    def _train(self, interrupted: Callable[[], bool]) -> None:
        """Train until the report says why it stopped.

        Args:
            interrupted: whether this rank was; ranks have yet to agree on it.
        """

    @abstractmethod
    def _loop_state(self) -> dict[str, Any]:
        """Where training stands, beside weights and generators: a part of the checkpoint."""

    @abstractmethod
    def _load_loop_state(self, state: dict[str, Any]) -> None:
        """Go on from what `_loop_state` returned."""

    @property
    @abstractmethod
    def epochs_done(self) -> int:
        """Epochs that have been trained; the next one's number is one more."""

    @abstractmethod
    def _epochs_of(self, state: dict[str, Any]) -> int:
        """Epochs that a checkpoint has behind it, the one it stands in included."""

    @abstractmethod
    def _fixed_length(self, report: Report) -> str | None:
        """What of a run depends on its number of epochs, with a remedy; None for nothing."""

    @abstractmethod
    def _take_up(self) -> None:
        """Go on from what the last `fit` left in memory.

        Raises:
            GnnscaleError: why that cannot be, and what to do.
        """

    @abstractmethod
    def _keep_data(self) -> None:
        """Write into the run folder, new, what preparing made and nothing can bring back.

        On every rank; what writes goes through `comm.from_main`.
        """

    @abstractmethod
    def _resume_data(self) -> None:
        """Prepare the data, when that is asked for, as the run in the folder did."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What identifies the data of this run."""

    @abstractmethod
    def _evaluation_interval(self) -> int:
        """Epochs between evaluations for `evaluate_every="auto"`."""

    @abstractmethod
    def _held(self) -> dict[str, Any]:
        """Graphs and arrays that stay while it trains, by name; "" for the one trained on."""

    # --- the public verbs -------------------------------------------------------------------

    def fit(self, resume: str | bool = "auto", epochs: int | None = None) -> Report:
        """Train.

        A further call goes on as one longer run would: from the weights of the last epoch, with its
        optimizer and schedule, and with the next epoch's number, by which batches and dropout are
        drawn. Where the weights have been changed in between (a mean over clients, say), it goes on
        from those, with a report of its own. `start()` before it makes optimizer and schedule anew.

        Args:
            resume: "auto" goes on with the run in `run_dir` if there is one, or without a `run_dir`
                where the last call ended; True insists on that; False begins anew, with the present
                weights and the first epoch.
            epochs: how many the run has when this call ends, those of earlier calls included; None
                for the trainer's `epochs`, which without a `run_dir` are so many more. More of them
                also continue a run that a callback has stopped; one that stopped early needs a
                larger `early_stopping`.

        Returns:
            The report. The model then has the weights that `keep` asks for.

        Raises:
            RunMismatch: the run in `run_dir` has another configuration, graph, model or number of
                ranks; ranks have been given different ones; or it cannot have so many epochs.
            RankFailure: another rank has failed.
            InputError: data and model do not fit together.
            RunInUse: another trainer is writing into the run folder.
            StoreError: the run folder cannot be written, or its checkpoint is damaged.
            GnnscaleError: the loss is no longer finite.
        """
        if not isinstance(resume, bool) and not (isinstance(resume, str) and resume == "auto"):
            raise InputError(f"resume={resume!r} must be 'auto', True or False")
        with (
            comm.telling_the_others(),
            comm.doing("fit"),
            MemoryMeter() as self._memory,
            contextlib.ExitStack() as held,
        ):
            folder = self.folder
            comm.from_main(lambda: None if folder is None else folder.hold(held))
            self._is_training = True
            held.callback(setattr, self, "_is_training", False)
            return self._fit(resume, epochs)

    def _fit(self, resume: str | bool, epochs: int | None) -> Report:
        started = time.monotonic()
        folder = self.folder
        again = folder is None and resume is not False and self._stands
        config = self._lengthen(epochs, again)
        if not again:
            self._begin()
        elif self.report.stopped is not None and self._until == self.epochs_done:
            return self.report
        identity = self._run_identity()
        check_same_on_all_ranks(identity, config, folder)
        state = None
        if folder is not None:
            state = comm.from_main(lambda: folder.resume(identity, config, resume))
        elif resume is True and not again:
            raise RunMismatch("resume=True needs a run_dir")
        if state is not None and self._is_over(state):
            logger.info("the run in %s is complete; nothing is left to train", folder)
            self.adopt(state["best"] or state["model"], Report(**state["report"]))
            return self.report
        if folder is not None:
            comm.from_main(folder.check_writable)
        if state is not None:
            check_world_size(state, folder)
            self._resume_data()
        if again:
            self._go_on()
        else:
            # Before the folder is touched: a model that does not fit leaves a run there as it was.
            self.start()
        if folder is not None and state is None:
            comm.from_main(lambda: folder.begin(identity, config))
            self._keep_data()
        if not again:
            elapsed = time.monotonic() - started
            self._count("prepare", elapsed - sum(self.report.seconds.values()))
        self.report.run = {
            **identity["about"],
            "config": config.saved(),
            "environment": environment(str(self.device)),
            "ranks": comm.world_size(),
        }
        if state is not None:
            self._restore(state)
            if folder is not None:
                comm.from_main(lambda: folder.keep_config(config))
        else:
            share_weights(self.learnt)
        if state is None or state["finished"]:
            self._checkpoint()  # the weights before the first step: a run killed early goes on too
        if (why := self._without_labels()) is not None:
            self.report.notes = [why]
            logger.warning("no metrics are computed: %s", why)
        for callback in self.callbacks:
            callback.on_fit_start(self)
        with kept_buffers(), repeatable(self.device), deferred_interrupt() as interrupted:
            self._train(interrupted)
        self._finish()
        return self.report

    def _lengthen(self, epochs: int | None, again: bool) -> TrainerOptions:
        """Settle until which epoch to train; the configuration that says so.

        Args:
            epochs: what `fit` was told.
            again: whether it goes on from what is in memory.
        """
        if epochs is None:
            epochs = self.config.epochs
            if again:
                ended = self.report.stopped is not None  # else it was interrupted, and is completed
                epochs = self.epochs_done + epochs if ended else self._until
        config = replace(self.config, epochs=epochs)
        config.check()
        if again:
            done = self._epochs_of(self._loop_state())
            check_epochs(epochs, done, self._until, None, "this trainer")
        if self.folder is not None:
            self.config = config
        self._until = epochs
        return config

    def _is_over(self, state: dict[str, Any]) -> bool:
        """Whether the run of a checkpoint is complete.

        Raises:
            RunMismatch: it cannot have so many epochs.
        """
        report, done = Report(**state["report"]), self._epochs_of(state)
        before = report.run["config"]["epochs"]
        fixed = self._fixed_length(report)
        check_epochs(self._until, done, before, fixed, f"the run in {self.folder}")
        patience = self.config.early_stopping
        over = report.stopped is not None and is_over(report, done, self._until, before, patience)
        if report.stopped is not None and not over:
            _reopen(state)
        return over and state["finished"]

    def _go_on(self) -> None:
        """Go on from what the last `fit` left in memory, or from weights that are others since."""
        weights, ended = self.learnt.weights(), self.report.stopped
        if comm.any_rank(self._left is not None and not unchanged(weights, self._left)):
            self._begin()
        else:
            if self._last is not None:
                self.learnt.take(self._last)
            kept = {"best": self._best, "longer": self._longer}
            state: dict[str, Any] = {"report": asdict(self.report), **kept}
            _reopen(state)
            self.report, self._best = Report(**state["report"]), state["best"]
            self._longer = None
        if ended == "early stopping":  # as it would at once again
            self._patience_from = self.epochs_done
        self._left = self._last = None
        self.stop = False
        self._take_up()

    def adopt(self, weights: dict[str, Tensor], report: Report) -> None:
        """Take over the weights and the report of a run, without going on with it.

        Raises:
            RunMismatch: the weights are of another model.
        """
        self.learnt.take(weights)
        self._resume_data()
        self.learnt.to(self.device)
        self.report = report

    # --- from one epoch to the next ---------------------------------------------------------

    def _evaluation_is_due(self, epoch: int) -> bool:
        every = self.config.evaluate_every
        interval = self._evaluation_interval() if every == "auto" else every
        return epoch % int(interval) == 0

    def _evaluate_last(self, row: dict[str, Any], progress: Progress) -> None:
        """Evaluate after an epoch that it is not due after, for being the last."""
        best, best_epoch = self._best, self.report.best_epoch
        self._longer = {"row": dict(row), "best": best, "best_epoch": best_epoch}
        self._evaluate_into(row, progress)

    def _evaluate_into(self, row: dict[str, Any], progress: Progress) -> None:
        found = self._evaluate_between_epochs()
        for where, metrics in found.items():
            row.update({f"{where}_{name}": value for name, value in metrics.items()})
        value = found.get("val", {}).get(self.task.headline)
        if value is None or math.isnan(value):
            return
        progress.validation(self.task.headline, value)
        best = self.report.best
        higher = self.task.metrics()[0].higher_is_better
        if best is None or (value > best if higher else value < best):
            self.report.best_epoch = row["epoch"]
            if self.config.keep == "best":
                self._best = snapshot(self.learnt.weights())

    def _evaluate_between_epochs(self) -> dict[str, dict[str, float]]:
        return_freed_memory()  # or what steps use would stay beside the layers of the whole graph
        found = self._evaluate(self._sets())
        return_freed_memory()
        return found

    def _why_stop(self, row: dict[str, Any]) -> str | None:
        patience, best = self.config.early_stopping, self.report.best_epoch
        epoch = row["epoch"]
        if comm.any_rank(self.stop):
            return "callback"
        # Else nothing new is known, or nothing that a longer run would know.
        evaluated = f"val_{self.task.headline}" in row and self._longer is None
        if evaluated and patience is not None and best is not None:
            since = max(best, self._patience_from)
            if epoch - since >= patience:
                return "early stopping"
        return "epochs" if epoch >= self._until else None

    def _finish(self) -> None:
        state = self._state()
        if self._best is not None:
            state["model"] = self._last = snapshot(state["model"])
            self.learnt.take(self._best)
        self.report.final = self._evaluate(self._sets())
        self._memory.look()
        self.report.memory = {
            **memory_use(self._memory),
            "arrays": resident_arrays(self._held()),
        }
        self.report.seconds["total"] = sum(
            seconds for name, seconds in self.report.seconds.items() if name != "total"
        )
        if (folder := self.folder) is not None:
            comm.from_main(lambda: folder.finish(self.learnt.weights(), state, self.report))
            self._last = None
        else:
            self._left, self._stands = snapshot(self.learnt.weights()), True
        for callback in self.callbacks:
            callback.on_fit_end(self, self.report)

    @override
    def _held_bytes(self) -> int:
        if not self._is_training:
            return 0
        held = self._held()
        given = {name: data for name, data in held.items() if name == "given"} or held
        made = sum(resident_arrays(held).values()) - sum(resident_arrays(given).values())
        learnt = sum(tensor.nbytes for tensor in self.learnt.state_dict().values())
        return made + _STATES * learnt

    # --- state ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.report = Report(headline=self.task.headline)
        self.stop = self._stands = False
        self._best = self._longer = self._left = self._last = None
        self._patience_from = 0
        self._last_checkpoint = time.monotonic()

    def _run_identity(self) -> dict[str, Any]:
        data = self._identity()
        title = f"{self.model.spec['model'] if self.model.spec else 'model'} on {data['name']}"
        return {
            "trainer": type(self).__name__,
            "data": data,
            **self._model_as_given,
            "task": self._task_as_given,
            "about": {"title": title, "graph": data, "trainer": type(self).__name__},
        }

    def _checkpoint_is_due(self) -> bool:
        if self.config.checkpoint_every != "auto":
            return False
        due = time.monotonic() - self._last_checkpoint >= _CHECKPOINT_SECONDS
        return comm.any_rank(due and comm.is_main())

    def _checkpoint(self) -> None:
        if self.folder is None:
            return
        folder, state = self.folder, self._state()
        comm.from_main(lambda: folder.checkpoint(state, self.report))
        self._last_checkpoint = time.monotonic()

    def _state(self) -> dict[str, Any]:
        own = self._rank_state()
        others = comm.gather_objects(own)[1:]
        return {
            "model": self.learnt.weights(),
            "best": self._best,
            "longer": self._longer,
            **self._loop_state(),
            "rng": own["rng"],
            "other_ranks": others,
        }

    def _rank_state(self) -> dict[str, Any]:
        """Of the state, what is this rank's own, under the same keys."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        # Running statistics are the same on all ranks; what else a module counts is its own.
        buffers = dict(self.learnt.named_buffers())
        return {"rng": {"cpu": torch.get_rng_state(), "cuda": cuda}, "buffers": buffers}

    def _restore(self, state: dict[str, Any]) -> None:
        if not comm.is_main():
            state = with_own(state, state["other_ranks"][comm.rank() - 1])
        report = Report(**state["report"])
        warn_of_another_environment(
            report.run.get("environment", {}), self.report.run["environment"]
        )
        now, self.report = self.report, report
        report.run["config"] = now.run["config"]  # of more epochs, perhaps
        for name, value in now.seconds.items():
            self._count(name, value)
        self.learnt.take(state["model"])
        for name, buffer in self.learnt.named_buffers():
            if name in state.get("buffers", ()):  # of another rank than 0
                buffer.copy_(state["buffers"][name])
        self._best, self._longer = state["best"], state["longer"]
        self._load_loop_state(state)
        torch.set_rng_state(state["rng"]["cpu"])
        if state["rng"]["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng"]["cuda"], self.device)


def _reopen(state: dict[str, Any]) -> None:
    """Take from a state what an end has added to the run."""
    report = state["report"]
    report["stopped"], report["final"] = None, {}
    report["seconds"].pop("total", None)
    if (longer := state["longer"]) is not None:
        report["rows"][-1] = longer["row"]
        report["best_epoch"], state["best"] = longer["best_epoch"], longer["best"]
        state["longer"] = None

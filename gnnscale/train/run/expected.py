"""Expectation: what a run is expected to take, in a line before it, and kept beside what it took.

    the machine's cached profile ─▶ before the first step
    the run's own first steps    ─▶ after them, where no machine is known

Nothing is measured for it, and what cannot be predicted is left out: it never fails a run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gnnscale import comm
from gnnscale.costs.sizes import row_bytes
from gnnscale.errors import RankFailure
from gnnscale.shown import duration, size
from gnnscale.storage.memory import available_memory, in_words, memory_bytes
from gnnscale.train.contracts import Data
from gnnscale.train.options import OPTIONS
from gnnscale.train.session import Sessions, Setup

if TYPE_CHECKING:
    from gnnscale.costs.predicted.configuration import Configuration
    from gnnscale.costs.predicted.job import Job

logger = logging.getLogger(__name__)

_ENOUGH = 5.0  # seconds of a first epoch; shorter ones are mostly what happens once


class Expectation:
    """What `fit` is expected to take.

    Args:
        setup: of the trainer.
        data: what is trained on.
        sessions: what is trained.
        cuts: the blocks with which stages begin, once they are known.
    """

    def __init__(
        self, setup: Setup, data: Data, sessions: Sessions, cuts: tuple[int, ...] = ()
    ) -> None:
        self._setup, self._data, self._sessions, self._cuts = setup, data, sessions, cuts
        self._said = False

    def begin(self) -> None:
        """Say it before the first step, where the machine is known or memory may be short."""
        is_known, is_short = comm.from_main(self._reasons)
        if is_known or is_short:
            self._try()

    def after(self, steps: int, of: int, seconds: float) -> None:
        """Say it after some steps of an epoch, or the second epoch, where that has not been done.

        Args:
            steps: of an epoch, that there have been.
            of: steps of an epoch.
            seconds: that they took.
        """
        if self._said:
            return
        whole = steps == of and (bool(self._setup.report.rows) or self._setup.until == 1)
        if whole or (seconds >= _ENOUGH and comm.world_size() == 1):  # clocks of ranks differ
            self._said = True
            self._try(seconds / steps * of)

    def _try(self, epoch: float | None = None) -> None:
        """Predict, on all ranks: a norm over all of them talks where its costs are counted."""
        try:
            self._predict(epoch)
        except RankFailure:
            raise
        except Exception as error:  # it is no part of the run
            logger.debug("nothing is predicted: %r", error)

    # --- what is known ----------------------------------------------------------------------

    def _reasons(self) -> tuple[bool, bool]:
        """Whether the machine is known, and whether memory may be short."""
        try:
            return self._known_machine() is not None, self._may_be_short()
        except Exception as error:
            logger.debug("nothing is predicted: %r", error)
            return False, False

    def _known_machine(self) -> Any:
        if self._setup.device.type != "cpu":
            return None
        from gnnscale.costs.machine.cached import known

        return known()

    def _may_be_short(self) -> bool:
        """Whether all layers of the whole graph, and rows of edges too, would fill the memory."""
        graph, model = self._data.whole, self._setup.model
        rows = graph.num_nodes + graph.num_edges
        return rows * row_bytes(model, graph) * len(model.phases) > available_memory() / 2

    def _predict(self, epoch: float | None = None) -> None:
        """Predict, by the machine or what an epoch takes; keep it and say it."""
        # Here, so that a first step is not behind what it does not need.
        from gnnscale.costs.predicted.memory import run_memory
        from gnnscale.costs.predicted.seconds import from_epoch, run_seconds

        setup, report = self._setup, self._setup.report
        job, configuration = setup.job(self._data), self._configuration()
        memory, machine = run_memory(job, configuration), self._known_machine()
        found, by = None, ""
        if machine is not None:
            found, by = run_seconds(job, configuration, machine), "profile"
        if found is None and epoch is not None:
            every = epoch * self._layers(job)
            found, by = from_epoch(job, configuration, every), "first steps"
        if "epoch" not in report.predicted:  # else a run goes on: what was said before it stays
            seconds: dict[str, Any] = {}
            if found is not None:
                seconds = {"by": by, "epoch": found.epoch, "evaluation": found.evaluation}
            parts = {name: round(value) for name, value in memory.parts.items() if value >= 1}
            report.predicted = {
                **seconds,
                "memory": round(memory.total),
                "moment": memory.moment,
                "parts": parts,
            }
        if epoch is None and setup.device.type == "cpu" and comm.is_main():
            self._warn(memory.total)
        if found is not None:
            self._said = True
            line = self._line(found.epoch, found.evaluation, memory.total, by)
            logger.log(logging.INFO if comm.is_main() else logging.DEBUG, "%s", line)

    def _layers(self, job: Job) -> float:
        """What an epoch of every layer takes, in that of the layer in training."""
        session = self._sessions.open
        if session is None or session.layer is None:
            return 1.0
        costs, sizes = job.costs(computed="each"), job.sizes
        blocks = [costs.of_blocks(n, n + 1).step.of(sizes) for n in range(len(costs.blocks))]
        every = [work for work in blocks if work]
        return sum(every) / every[min(session.layer, len(every)) - 1] if every else 1.0

    def _configuration(self) -> Configuration:
        from gnnscale.costs.predicted.configuration import Configuration

        config: Any = self._setup.config
        given = {
            "batch_rows": "batch_rows",
            "graphs": "graphs_per_batch",
            "schedule": "schedule",
            "micro_batches": "micro_batches",
            "accumulate": "accumulate",
            "checkpoint": "checkpoint_activations",
            "precompute": "precompute",
            "prefetch": "prefetch",
        }
        taken = {
            name: getattr(config, option)
            for name, option in given.items()
            if hasattr(config, option)
        }
        loader = getattr(self._data, "loader", None) if self._is_of_clusters else None
        if loader is not None:
            taken |= {"parts": loader.clusters_drawn, "clusters": loader.clusters_per_batch}
        in_files = config.storage is not None or getattr(config, "store", None) is not None
        return Configuration(
            trainer=self._trainer,
            ranks=comm.world_size(),
            stages=self._cuts,
            storage="files" if in_files else "memory",
            memory=None if config.memory == "auto" else memory_bytes(config.memory),
            epochs=self._setup.until,
            **taken,
        )

    @property
    def _trainer(self) -> Any:
        kind = type(self._setup.config)
        return next(name for name, options in OPTIONS.items() if options is kind)

    @property
    def _is_of_clusters(self) -> bool:
        return self._trainer in ("cluster", "pipeline")

    # --- in words ---------------------------------------------------------------------------

    def _line(self, epoch: float, evaluation: float, memory: float, by: str) -> str:
        setup, done = self._setup, self._sessions.epochs_done
        config: Any = setup.config
        each = setup.until
        if layers := self._trainer == "layerwise":
            each, done = min(each, getattr(config.controller, "epochs", each)), 0
            evaluations = 1
        else:
            session = self._sessions.open
            every = each if session is None else session.interval(config.evaluate_every)
            evaluations = each // every - done // every + (each % every > 0) + 1
        left = max(0, each - done)
        told = f"{left} epochs" if left != 1 else "1 epoch"
        told = f"{told} of each layer" if layers else told
        how = "predicted" if by == "profile" else "predicted by the first steps"
        seconds = left * epoch + evaluations * evaluation
        return f"about {size(memory)} and {duration(seconds)} for {told} ({how}; {self._way()})"

    def _way(self) -> str:
        config: Any = self._setup.config
        ranks = f", {comm.world_size()} ranks" if comm.world_size() > 1 else ""
        if self._trainer == "layerwise":
            return f"{config.batch_rows:,} rows a step{ranks}"
        if self._trainer == "graph":
            return f"{config.graphs_per_batch:,} graphs a batch{ranks}"
        loader: Any = getattr(self._data, "loader", None)
        drawn, of = loader.clusters_per_batch, loader.clusters_drawn
        if self._trainer == "cluster" and drawn >= of:
            return f"full batch{ranks}"
        return f"clusters {drawn:,} of {of:,}{ranks}"

    def _warn(self, memory: float) -> None:
        there = available_memory()
        if memory > there:
            logger.warning(
                "this run may need about %s, and %s are there: memory=%r holds it to that, or says "
                "what would do; gs.plan shows which way to train fits",
                size(memory),
                size(there),
                in_words(there),
            )

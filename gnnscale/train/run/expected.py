"""Expectation: what a run is expected to take, in a line before it, and kept beside what it took.

    the machine's cached profile ─▶ before the first step
    the run's own first steps    ─▶ after them, where no machine is known

Nothing is measured for it, no more of the graph is read than some edges, and what cannot be
predicted is left out: it never fails a run. Rank 0 predicts, and no rank waits for it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gnnscale import comm
from gnnscale.costs.sizes import row_bytes
from gnnscale.shown import duration, size
from gnnscale.storage.mapped import is_mapped
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
        self._said = not comm.is_main()

    def begin(self) -> None:
        """Say it before the first step, where the machine is known or memory may be short."""
        if not self._said:
            self._try(self._begin)

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
        if whole or seconds >= _ENOUGH:
            self._said = True
            self._try(lambda: self._predict(None, seconds / steps * of))

    def _begin(self) -> None:
        machine = self._known_machine()
        if machine is not None or self._may_be_short():
            self._predict(machine)

    @staticmethod
    def _try(predict: Callable[[], None]) -> None:
        try:
            predict()
        except Exception as error:  # it is no part of the run
            logger.debug("nothing is predicted: %r", error)

    # --- what is known ----------------------------------------------------------------------

    def _known_machine(self) -> Any:
        if self._setup.device.type != "cpu":
            return None
        from gnnscale.costs.machine.cached import known

        return known()

    @property
    def _there(self) -> int:
        """Bytes that a rank has for itself: those of a host share its memory."""
        return available_memory() // comm.ranks_here()

    def _may_be_short(self) -> bool:
        """Whether all layers of the whole graph, and rows of edges too, would fill the memory."""
        graph, model = self._data.whole, self._setup.model
        rows = graph.num_nodes + graph.num_edges
        return rows * row_bytes(model, graph) * len(model.phases) > self._there / 2

    def _predict(self, machine: Any, epoch: float | None = None) -> None:
        """Predict, by the machine or what an epoch takes; keep it and say it."""
        # Here, so that a first step is not behind what it does not need.
        from gnnscale.costs.predicted.memory import run_memory
        from gnnscale.costs.predicted.seconds import from_epoch, run_seconds

        setup, report = self._setup, self._setup.report
        job, configuration = setup.job(self._data), self._configuration()
        memory = run_memory(job, configuration)
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
        if epoch is None and setup.device.type == "cpu":
            self._warn(memory.total)
        if found is not None:
            self._said = True
            left, told = self._left(job, found.epoch, found.evaluation)
            how = "predicted" if by == "profile" else "predicted by the first steps"
            about = f"about {size(memory.total)} and {duration(left)} for {told}"
            logger.info("%s (%s; %s)", about, how, self._way())

    def _layers(self, job: Job) -> float:
        """What an epoch of every layer takes, in that of the layer in training."""
        session = self._sessions.open
        if session is None or session.layer is None:
            return 1.0
        works = self._works(job)
        return sum(works) / works[min(session.layer, len(works)) - 1] if works else 1.0

    @staticmethod
    def _works(job: Job) -> list[float]:
        """What the layers compute that are trained one by one."""
        costs, sizes = job.costs(computed="each"), job.sizes
        blocks = (costs.of_blocks(n, n + 1).step.of(sizes) for n in range(len(costs.blocks)))
        return [work for work in blocks if work]

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
        in_files = is_mapped(self._data.graph.adj.indices)
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

    def _left(self, job: Job, epoch: float, evaluation: float) -> tuple[float, str]:
        """Seconds of what is left to do, and what that is."""
        config: Any = self._setup.config
        until, session = self._setup.until, self._sessions.open
        begun = 0.0 if session is None else session.source.step / max(1, len(session.source))
        if self._trainer == "layerwise":
            each, accounts = getattr(config.controller, "epochs", until), self._setup.report.layers
            each, works = min(each, until), self._works(job)
            at = accounts[-1]["layer"] if accounts else 1
            at = at if isinstance(at, int) else len(works) + 1  # they are tuned together by now
            done = accounts[-1]["epochs"] + begun if accounts and at <= len(works) else 0.0
            left = [each * (number >= at) - done * (number == at) for number in _from_1(works)]
            left = [max(0.0, epochs) for epochs in left]
            seconds = sum(e * work for e, work in zip(left, works, strict=True)) / sum(works)
            whole = at == 1 and not done
            told = f"{_epochs(each)} of each layer" if whole else _epochs(sum(left))
            return seconds * epoch + evaluation, told
        done, every = self._sessions.epochs_done, until
        if session is not None:
            every = session.interval(config.evaluate_every)
        evaluations = until // every - done // every + (until % every > 0) + 1
        epochs = max(0.0, until - done - begun)
        return epochs * epoch + evaluations * evaluation, _epochs(epochs)

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
        there = self._there
        if memory > there:
            ranks = comm.ranks_here()
            logger.warning(
                "this run may need about %s%s, and %s are there%s: memory=%r holds it to that, or "
                "says what would do; gs.plan shows which way to train fits",
                size(memory),
                " a rank" if ranks > 1 else "",
                size(there),
                f" for each of {ranks}" if ranks > 1 else "",
                in_words(there),
            )


def _from_1(values: list[float]) -> range:
    return range(1, len(values) + 1)


def _epochs(left: float) -> str:
    """Epochs that are left, one that has begun among them."""
    number = math.ceil(left - 1e-9)
    if number == 0:
        return "the evaluation at its end"
    return f"{number} epochs" if number != 1 else "1 epoch"

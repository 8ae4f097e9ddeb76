"""Which configuration is recommended, of all that are compared, and why."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.prediction import Prediction, predict
from gnnscale.costs.predicted.trial import Tried
from gnnscale.parallel.simulation.predicted import pipeline_seconds
from gnnscale.planning.candidates import candidates, thriftier, usual_sizes
from gnnscale.planning.words import seconds, short, way
from gnnscale.shown import size
from gnnscale.storage.memory import in_words, memory_bytes

#: A batch this many times as large as the usual one, or as small, trains about as well.
NEAR = 4.0
#: Nodes up to which the whole graph is trained better at once (docs, "Which trainer when").
SMALL = 10_000
# Of edges dropped: so many times as many as the usual batches drop, and a little.
_MORE, _LITTLE = 1.25, 0.02
#: Trainers refuse by what a run takes at most, which is up to a tenth above what it will take.
SPARE = 1.1
_TURNS = 8  # in which a smallest bound is found


class Here(NamedTuple):
    """Where it is trained.

    Attributes:
        machine: its rates.
        whole: what a trial of the model found on pieces of the graph as it is.
        in_clusters: likewise on pieces with the edges that clusters have.
    """

    machine: Machine
    whole: Sequence[Tried] = ()
    in_clusters: Sequence[Tried] = ()


@dataclass(frozen=True)
class Asked:
    """What a plan is for, beside its job.

    Attributes:
        trainers: names of those that may be taken, in the order in which they are preferred;
            "cluster" and "pipeline", which train the same way, count as one.
        memory: the bound, in bytes.
        bounded: whether it is asked for; else it is what there is, and trainers go by none.
        ranks: the most processes that may train together.
        devices: of this process.
        least: the fewest: all that there are, where several have been started.
    """

    trainers: tuple[str, ...]
    memory: int
    ranks: int
    bounded: bool = True
    devices: int = 1
    least: int = 1

    def runs(self, configuration: Configuration) -> bool:
        """Whether there are as many processes, or devices, as it takes."""
        return self.least <= configuration.ranks <= self.ranks and (
            configuration.trainer != "pipeline" or max(self.ranks, self.devices) > 1
        )


class Found(NamedTuple):
    """What was compared.

    Attributes:
        predictions: of every configuration.
        best: the recommended one, or None where nothing fits.
        why: in a sentence.
    """

    predictions: tuple[Prediction, ...]
    best: Prediction | None
    why: str


class Search:
    """Compares configurations by what is predicted of them.

    Args:
        job: what is trained.
        asked: within which limits.
        here: where; None leaves seconds out.
    """

    def __init__(self, job: Job, asked: Asked, here: Here | None) -> None:
        self._job, self._asked, self._here = job, asked, here
        self._usual = usual_sizes(job)
        self._least_dropped = job.batches(self._as_usual).dropped

    @property
    def _as_usual(self) -> Configuration:
        usual = self._usual
        if self._job.of_graphs:
            return Configuration(trainer="graph", graphs=int(usual.rows))
        return Configuration(parts=usual.parts, clusters=usual.clusters)

    def run(self) -> Found:
        """Predict all, and choose."""
        predictions = self.predictions()
        best = self.best(predictions)
        return Found(tuple(predictions), best, self.why(best, predictions))

    def predictions(self) -> list[Prediction]:
        """Of every configuration that is compared."""
        asked = self._asked
        bound = asked.memory if asked.bounded else None
        limits = (asked.trainers, asked.ranks, asked.devices, bound)
        first = candidates(self._job, self._usual, *limits)
        return [each for one in first for each in self._ladder(one)]

    def _ladder(self, configuration: Configuration) -> Iterable[Prediction]:
        """A configuration, and what needs less memory until it fits."""
        yield (found := self._predict(configuration))
        for less in thriftier(configuration):
            if self.fits(found):
                return
            yield (found := self._predict(less))

    def _predict(self, configuration: Configuration) -> Prediction:
        if self._here is None:
            return predict(self._job, configuration)
        tried = self._here.in_clusters if in_clusters(configuration) else self._here.whole
        machine = self._here.machine
        found = predict(self._job, configuration, machine, tried)
        if configuration.trainer != "pipeline":
            return found
        return replace(found, seconds=pipeline_seconds(self._job, configuration, machine, tried))

    # --- the rule -----------------------------------------------------------------------------

    def fits(self, prediction: Prediction) -> bool:
        """Whether it stays within the bound, with a little to spare."""
        return SPARE * prediction.bytes <= self._asked.memory

    def best(self, predictions: Sequence[Prediction]) -> Prediction | None:
        """The recommended one of some.

        Of those that run and fit, by the order of trainers; of a trainer's those that train about
        as it does by itself, the fastest first; and where none of these fits, the one whose
        updates are nearest in size.
        """
        open_ = [one for one in predictions if self._asked.runs(one.configuration)]
        open_ = [one for one in open_ if self.fits(one)]
        return min(open_, key=self._rank, default=None)

    def of_way(self, some: Sequence[Prediction]) -> Prediction:
        """The one that stands for a way to train: the best that fits, else the thriftiest."""
        fitting = list(filter(self.fits, some))
        return min(fitting, key=self._rank) if fitting else min(some, key=lambda one: one.bytes)

    def _rank(self, prediction: Prediction) -> tuple[float, ...]:
        configuration = prediction.configuration
        order = kinds(self._asked.trainers).index(kind(configuration.trainer))
        off = 1 + abs(math.log2(self.share(prediction)))
        if self.is_near(prediction):
            off = float(self._job.trained.nodes <= SMALL and not configuration.is_full_batch)
        seconds = self.seconds(prediction)
        # Without seconds: the usual size first, then what needs no thrift.
        likeness = abs(math.log2(self.share(prediction)))
        thrift = (configuration.storage == "files") + configuration.checkpoint
        pace = (likeness, float(thrift), configuration.ranks) if seconds is None else (seconds,)
        return (order, off, *pace, prediction.bytes)

    def seconds(self, prediction: Prediction) -> float | None:
        """Seconds of an epoch, without evaluations; None where no machine is known."""
        return None if prediction.seconds is None else prediction.seconds.epoch

    def share(self, prediction: Prediction) -> float:
        """The size of an update, in that of the usual one."""
        configuration = prediction.configuration
        if configuration.trainer == "layerwise":
            rows = configuration.batch_rows * configuration.ranks
            usual = min(Configuration.batch_rows, max(1, self._job.train_rows))
            return max(rows, 1) / usual
        whole = self._job.trained
        every = whole.segments if configuration.trainer == "graph" else max(1.0, whole.nodes)
        return max(1.0, every / max(1, prediction.epoch.steps)) / self._usual.rows

    def is_near(self, prediction: Prediction) -> bool:
        """Whether it trains about as the trainer does by itself: as large updates, as many edges.

        Of a small graph the full batch is what is trained best.
        """
        configuration = prediction.configuration
        if configuration.is_full_batch and self._job.trained.nodes <= SMALL:
            return True
        if not 1 / NEAR <= self.share(prediction) <= NEAR:
            return False
        return prediction.epoch.dropped <= _MORE * self._least_dropped + _LITTLE

    # --- in words -----------------------------------------------------------------------------

    def why(self, best: Prediction | None, predictions: Sequence[Prediction]) -> str:
        """The reason, in a sentence; where nothing fits, what would do."""
        bound = in_words(self._asked.memory)
        if best is None:
            return self._nothing(predictions, bound)
        configuration = best.configuration
        order = self._rank(best)[0]
        said = [] if not order else ["nothing fits that trains all layers together"]
        others = [one for one in predictions if self._asked.runs(one.configuration)]
        among = [
            one for one in others if kind(one.configuration.trainer) == kind(configuration.trainer)
        ]
        fitting = [one for one in among if self.fits(one)]
        pace = "" if best.seconds is None else f": {seconds(best.seconds.epoch)} an epoch"
        if not self.is_near(best):
            said.append(
                f"of the {len(fitting):,} that fit in {bound} none has updates about as large as "
                f"the trainer chooses by itself, and this one comes nearest{pace}"
            )
        elif configuration.is_full_batch and self._job.trained.nodes <= SMALL:
            said.append(
                f"it fits in {bound}, and graphs of {SMALL:,} nodes or fewer are trained better "
                f"at once than in clusters{pace}"
            )
        else:
            near = sum(map(self.is_near, fitting))
            first = "the fastest" if best.seconds is not None else "nearest to the usual size"
            said.append(
                f"{first} of {near:,} that fit in {bound} and have updates about as large, and "
                f"about as many edges, as the trainer chooses by itself{pace}"
            )
        return "; ".join(said)

    def _nothing(self, predictions: Sequence[Prediction], bound: str) -> str:
        if not any(self._asked.runs(one.configuration) for one in predictions):
            return f"no trainer that was asked for runs on {self._asked.ranks} ranks"
        needed, least = self._smallest(predictions)
        most = max(least.memory.parts.items(), key=operator.itemgetter(1))
        return (
            f"nothing fits in {bound}: the least is {in_words(needed)}, "
            f"{way(least.configuration)} ({short(least.configuration)}), of which {most[0]} takes "
            f"{size(most[1])} at its peak, the {least.memory.moment}"
        )

    def _smallest(self, predictions: Sequence[Prediction]) -> tuple[int, Prediction]:
        """The smallest bound that would do, and for what: what is needed depends on it, too."""
        for _ in range(_TURNS):
            runs = (one for one in predictions if self._asked.runs(one.configuration))
            least = min(runs, key=lambda one: one.bytes)
            needed = memory_bytes(in_words(math.ceil(SPARE * least.bytes)))
            search = Search(self._job, replace(self._asked, memory=needed), None)
            predictions = search.predictions()
            if (found := search.best(predictions)) is not None:
                return needed, found
        return needed, least


def in_clusters(configuration: Configuration) -> bool:
    """Whether batches are of clusters, rather than the graph as it is."""
    return configuration.trainer in ("cluster", "pipeline") and configuration.parts > 1


def kind(trainer: str) -> str:
    """What a trainer's updates are of: all layers together, or one at a time."""
    return "together" if trainer in ("cluster", "pipeline") else trainer


def kinds(trainers: Sequence[str]) -> list[str]:
    """The kinds of some trainers, in their order."""
    return list(dict.fromkeys(map(kind, trainers)))

"""What would change with twice the memory, the cores or the ranks: a line each."""

from __future__ import annotations

from dataclasses import replace

from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.prediction import Prediction
from gnnscale.planning.search import Asked, Here, Search
from gnnscale.planning.words import seconds, short, way
from gnnscale.shown import size
from gnnscale.storage.memory import in_words

_HELPED = {  # whether more cores help, by what bounds a configuration
    "memory": "but memory's bandwidth bounds it, which cores share",
    "disk": "but the disk bounds it",
    "network": "but messages bound it",
    "overhead": "but what every step takes, however small, bounds it",
}


def changes(
    job: Job, asked: Asked, here: Here | None, best: Prediction | None, cores: int
) -> list[str]:
    """What twice as much would bring.

    Args:
        job: what is trained.
        asked: within which limits it was planned.
        here: where.
        best: the recommended configuration, if there is one.
        cores: that compute.
    """
    lines = [_memory(job, asked, here, best)]
    if best is not None:
        lines += [_cores(here, best, cores), _ranks(job, asked, here, best)]
    return lines


def at_most(work: float, depth: float, cores: int) -> float:
    """How many times as fast twice the cores are at most: by W/p + D.

    On p processors W operations, D of which wait for one another, take W/p at least and W/p + D at
    most (Brent, JACM 1974).
    """
    return (work / cores + depth) / (work / (2 * cores) + depth)


def _memory(job: Job, asked: Asked, here: Here | None, best: Prediction | None) -> str:
    twice = replace(asked, memory=2 * asked.memory)
    found = Search(job, twice, here).run().best
    what = f"twice the memory, {in_words(twice.memory)}"
    if found is None:
        return f"{what}: nothing fits either"
    same = best is not None and replace(found.configuration, memory=best.configuration.memory) == (
        best.configuration
    )
    if same:
        return f"{what}: nothing changes"
    return f"{what}: {_told(found)}{_instead(found, best)}"


def _cores(here: Here | None, best: Prediction, cores: int) -> str:
    times = at_most(best.epoch.work, best.epoch.depth, cores)
    more = "" if best.seconds is None else _HELPED.get(best.seconds.bound_by, "")
    line = f"twice the cores, {2 * cores}: {times:.2f} times as fast at most, by W/p + D"
    if here is not None and (gained := here.machine.alone.get(cores, 0.0)) and cores > 1:
        line += f" (here {cores} are {gained:.2f} times as fast as one)"
    return f"{line}; {more}" if more else line


def _ranks(job: Job, asked: Asked, here: Here | None, best: Prediction) -> str:
    ranks = 2 * best.configuration.ranks
    twice = replace(asked, ranks=ranks, trainers=(best.configuration.trainer,))
    search = Search(job, twice, here)
    found = search.best(
        [one for one in search.run().predictions if one.configuration.ranks == ranks]
    )
    what = f"twice the ranks, {ranks}"
    if found is None:
        return f"{what}: nothing of it fits"
    sent = found.epoch.sent / max(1, found.epoch.steps)
    return f"{what}: {_told(found)}{_instead(found, best)}, {size(sent)} sent an update"


def _told(found: Prediction) -> str:
    return f"{way(found.configuration)} ({short(found.configuration)})"


def _instead(found: Prediction, best: Prediction | None) -> str:
    if found.seconds is None:
        return ""
    taken = f", {seconds(found.seconds.epoch)} an epoch"
    if best is None or best.seconds is None:
        return taken
    return f"{taken} instead of {seconds(best.seconds.epoch)}"

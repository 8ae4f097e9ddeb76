"""What asynchrony would buy, which gnnscale does not do, at the sizes of a plan.

Its steps are those of one device, and a killed run resumes to the same bits. What is given up for
that is the simulator's to say (`parallel.simulation.asynchrony`): a pipeline that never drains, its
weights T steps old, and parts of a graph on ranks that read remote rows of the step before in l
layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from gnnscale.costs.counted.amounts import total
from gnnscale.costs.counted.epochs import pipeline
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.seconds import stage_seconds
from gnnscale.parallel.schedules import make_schedule
from gnnscale.parallel.simulation.asynchrony import Staleness, stale_neighbours, stale_weights
from gnnscale.parallel.simulation.links import Link
from gnnscale.parallel.simulation.predicted import link_of
from gnnscale.planning.search import Here, in_clusters

_STEPS = (1, 2, 4)  # T


@dataclass(frozen=True)
class Asynchrony:
    """What bounded staleness would buy.

    Attributes:
        stages: of the pipeline; 1 where none was looked at.
        micro_batches: of a step.
        weights: of a pipeline, by T, how many steps old weights may be. Without a machine, bytes
            moved stand for seconds, and messages take none.
        ranks: that would have a part of the graph each.
        neighbours: of the whole graph on them, by l, the layers whose remote rows may be of the
            step before. Without a machine it is empty.
    """

    stages: int
    micro_batches: int
    weights: Mapping[int, Staleness]
    ranks: int
    neighbours: Mapping[int, Staleness]

    def words(self) -> list[str]:
        """It in lines."""
        lines = []
        if self.weights:
            lines.append(
                f"a pipeline of {self.stages} that never drains, {self.micro_batches} "
                "micro-batches a step, with weights T steps old, would be so many times as fast: "
                + _told("T", self.weights)
            )
        if self.neighbours:
            lines.append(
                f"{self.ranks} parts of the graph on {self.ranks} ranks, with remote rows 1 step "
                f"old in l layers, would be so many times as fast: {_told('l', self.neighbours)}"
            )
        if lines:
            lines.append("gnnscale does neither: a step is that of one device, whatever the ranks")
        return lines


def _told(name: str, found: Mapping[int, Staleness]) -> str:
    return ", ".join(f"{name} = {number}: {one.faster:.2f}" for number, one in found.items())


def asynchrony(
    job: Job, configuration: Configuration | None, here: Here | None, ranks: int
) -> Asynchrony:
    """Simulate what asynchrony would buy.

    Args:
        job: what is trained.
        configuration: a pipeline's, or None for the neighbours alone.
        here: where.
        ranks: parts of the graph that neighbours are exchanged between, 2 at least.
    """
    weights: Mapping[int, Staleness] = {}
    if configuration is not None:
        weights = _weights(job, configuration, here)
    return Asynchrony(
        1 if configuration is None else len(configuration.stages) + 1,
        1 if configuration is None else configuration.micro_batches,
        weights,
        ranks,
        {} if here is None or job.of_graphs else _neighbours(job, here, ranks),
    )


def _weights(job: Job, configuration: Configuration, here: Here | None) -> dict[int, Staleness]:
    costs, batch = job.costs(computed=configuration.computed), job.batches(configuration).mean
    stages = len(configuration.stages) + 1
    counted = pipeline(costs, [batch], configuration.stages).costs
    link: Link | None = None
    sent: Sequence[Sequence[float]] = [[0.0]] * (stages - 1)
    returned = sent
    if here is None:
        ends = [0, *configuration.stages, len(costs.blocks)]
        own = [costs.of_blocks(a, b) for a, b in pairwise(ends)]
        forward, backward = (
            [total(k.moved for k in one.kernels(backward=way)).of(batch) for one in own]
            for way in (False, True)
        )
    else:
        link, sent, returned = link_of(here.machine), counted.sent, counted.returned
        each = _by_stage(job, configuration, here)
        forward, backward = [f for f, _ in each], [b for _, b in each]
    return {
        steps: stale_weights(
            make_schedule("1f1b", stages, configuration.micro_batches),
            {"forward": [[one] for one in forward], "backward": [[one] for one in backward]},
            steps,
            sent=sent,
            returned=returned,
            link=link,
            ahead=1,
        )
        for steps in _STEPS
    }


def _neighbours(job: Job, here: Here, ranks: int) -> dict[int, Staleness]:
    """A step on the whole graph, a part of it on every rank; all of a part's rows are read once."""
    costs, machine = job.costs(), here.machine
    number = len(costs.blocks) - 1  # the head goes with the last
    parts = Configuration(parts=ranks, clusters=1, ranks=ranks)
    blocks = replace(parts, trainer="pipeline", stages=tuple(range(1, number)))
    computing = [sum(seconds) for seconds in _by_stage(job, blocks, here)]
    cut = job.batches(parts).dropped * job.trained.edges
    rows = min(cut, (ranks - 1) * job.trained.nodes) / ranks  # that a rank is sent, at most
    # Rows forward, and their gradients back.
    exchanging = [
        sum(
            2 * machine.message(costs.element * columns * rows)
            for columns in costs.of_blocks(block, block + 1).reads
        )
        for block in range(number)
    ]
    layers = range(1, number + 1)
    return {many: stale_neighbours(computing, exchanging, 1, many) for many in layers}


def _by_stage(job: Job, configuration: Configuration, here: Here) -> list[tuple[float, float]]:
    tried = here.in_clusters if in_clusters(configuration) else here.whole
    return list(stage_seconds(job, configuration, here.machine, tried))

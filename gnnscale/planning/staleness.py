"""What asynchrony would buy: pipelines and neighbours that wait for nothing newer than T updates.

gnnscale does not do it: its updates are those of one device, and a killed run resumes to the same
bits. What is given up for that is said here, from the simulator, at the sizes of a plan.

- A pipeline that never drains (PipeDream; Narayanan et al., SOSP 2019): the micro-batches of T + 1
  updates follow one another, and a gradient is of weights that are T updates old.
- Parts of a graph on ranks (PipeGCN; Wan et al., ICLR 2022, whose T is 1): the rows of remote
  neighbours are those of T updates before, in l layers; their exchange then runs beside what is
  computed.

Bounded staleness, T and l, is that of Besta & Hoefler (arXiv 2205.09702, section 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.model import ModelCosts
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.parallel.schedules import make_schedule
from gnnscale.parallel.simulation.simulator import simulate

UPDATES = (0, 1, 2, 4)  # T


@dataclass(frozen=True)
class Stale:
    """What an update takes where it may be of older values.

    Attributes:
        updates: T, how old they may be.
        layers: l, in how many layers.
        seconds: of an update; None where no machine is known.
        faster: how many times as fast as with T = 0.
    """

    updates: int
    layers: int
    seconds: float | None
    faster: float


@dataclass(frozen=True)
class Staleness:
    """What bounded staleness would buy.

    Attributes:
        stages: of the pipeline.
        micro_batches: of an update.
        pipeline: a pipeline's updates, by T.
        ranks: that would have a part of the graph each.
        neighbours: full-batch updates by l, the number of layers with remote rows of the update
            before.
    """

    stages: int
    micro_batches: int
    pipeline: tuple[Stale, ...]
    ranks: int
    neighbours: tuple[Stale, ...]

    def words(self) -> list[str]:
        """It in lines."""
        lines = []
        if self.pipeline:
            told = ", ".join(f"T = {one.updates}: {one.faster:.2f}" for one in self.pipeline[1:])
            lines.append(
                f"a pipeline of {self.stages} that never drains, {self.micro_batches} "
                f"micro-batches an update, with weights T updates old, would be so many times as "
                f"fast: {told}"
            )
        if self.neighbours:
            told = ", ".join(f"l = {one.layers}: {one.faster:.2f}" for one in self.neighbours[1:])
            lines.append(
                f"{self.ranks} parts of the graph on {self.ranks} ranks, with remote neighbours "
                f"1 update old in l layers, would be so many times as fast: {told}"
            )
        if lines:
            lines.append(
                "gnnscale does neither: its updates are those of one device, whatever the ranks"
            )
        return lines


def staleness(
    job: Job, configuration: Configuration, machine: Machine | None, ranks: int
) -> Staleness:
    """Simulate what asynchrony would buy.

    Args:
        job: what is trained.
        configuration: a pipeline's; of another the neighbours alone are looked at.
        machine: where; None counts bytes moved instead of seconds.
        ranks: parts of the graph that neighbours are exchanged between, 2 at least.
    """
    cost = _cost(machine)
    stages = len(configuration.stages) + 1
    pipelined: tuple[Stale, ...] = ()
    if configuration.trainer == "pipeline":
        pipelined = _pipelined(job, configuration, machine, cost)
    return Staleness(
        stages,
        configuration.micro_batches,
        pipelined,
        ranks,
        _neighbours(job, machine, cost, ranks),
    )


_Cost = Callable[[ModelCosts, Sizes, bool], float]


def _cost(machine: Machine | None) -> _Cost:
    """What a pass of some blocks takes: seconds, or bytes moved."""

    def of(costs: ModelCosts, sizes: Sizes, backward: bool) -> float:
        kernels = costs.kernels(backward=backward)
        if machine is None:
            return sum(kernel.moved.of(sizes) for kernel in kernels)
        return sum(machine.seconds(kernel, sizes) for kernel in kernels)

    return of


def _pipelined(
    job: Job, configuration: Configuration, machine: Machine | None, cost: _Cost
) -> tuple[Stale, ...]:
    costs, batch = job.costs(computed=configuration.computed), job.batches(configuration).mean
    ends = [0, *configuration.stages, len(costs.blocks)]
    stages = [costs.of_blocks(a, b) for a, b in pairwise(ends)]
    crossed = [costs.crossings[cut - 1] for cut in configuration.stages]
    forward, backward = ([[cost(stage, batch, way)] for stage in stages] for way in (False, True))
    sent = returned = [[0.0]] * len(crossed)
    latency, bandwidth = 0.0, math.inf
    if machine is not None:
        latency, bandwidth = machine.message(0), _bandwidth(machine)
        sent = [[one.forward * batch.nodes] for one in crossed]
        returned = [[one.backward * batch.nodes] for one in crossed]
    number = configuration.micro_batches
    taken = []
    for updates in UPDATES:
        schedule = make_schedule("1f1b", len(stages), number * (updates + 1))
        timeline = simulate(
            schedule,
            {"forward": forward, "backward": backward},
            sent=sent,
            returned=returned,
            latency=latency,
            bandwidth=bandwidth,
        )
        taken.append(timeline.makespan / (updates + 1))
    return tuple(
        Stale(updates, len(costs.blocks), None if machine is None else one, taken[0] / one)
        for updates, one in zip(UPDATES, taken, strict=True)
    )


def _bandwidth(machine: Machine) -> float:
    """Bytes a second between two ranks, of a long message."""
    long = 1 << 24
    return long / max(machine.message(long) - machine.message(0), 1e-12)


def _neighbours(job: Job, machine: Machine | None, cost: _Cost, ranks: int) -> tuple[Stale, ...]:
    """A full-batch update on parts of the graph; only where messages have a time."""
    if machine is None or ranks < 2 or job.of_graphs:
        return ()
    costs = job.costs()
    part = job.trained.share(1 / ranks)
    computed = cost(costs, part, False) + cost(costs, part, True)
    parts = Configuration(parts=ranks, clusters=1)
    cut = job.batches(parts).dropped * job.trained.edges
    rows = min(cut, (ranks - 1) * job.trained.nodes) / ranks  # that a rank is sent, at most
    # Forward rows, backward their gradients, which come back the same way.
    exchanges = [2 * machine.message(costs.element * width * rows) for width in costs.reads]
    return tuple(
        Stale(1 if layers else 0, layers, taken, _update(computed, exchanges, 0) / taken)
        for layers in range(len(exchanges) + 1)
        for taken in [_update(computed, exchanges, layers)]
    )


def _update(computed: float, exchanges: Sequence[float], stale: int) -> float:
    """Seconds of an update whose last layers' exchanges wait for nobody.

    They run beside what is computed, on one link, and are done before the update after.
    """
    waited = sum(exchanges[: len(exchanges) - stale])
    return max(computed + waited, sum(exchanges))

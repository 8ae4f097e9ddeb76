"""How long an epoch and an exact evaluation take, on a machine that has been measured.

A step is the forward kernels of every phase, those of its gradients, the loss, the update of the
weights, and what the loop and the loader add. The machine's tables give each by its sizes. Where
the model has been tried on pieces of its graph (`trial`), its passes are put right by that: most of
all those of users' layers, whose kernels no table has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from gnnscale import comm
from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.epochs import averaged
from gnnscale.costs.counted.model import ModelCosts, Placed
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.trial import Tried
from gnnscale.costs.sizes import INFERENCE_COST, TRAINING
from gnnscale.storage.memory import available_memory

Bound = Literal["compute", "memory", "disk", "network", "overhead"]


class Parts(defaultdict[str, float]):
    """Seconds by what takes them."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        super().__init__(float, {} if seconds is None else seconds)

    def __add__(self, other: Mapping[str, float]) -> Parts:
        """Both, one after the other."""
        found = Parts(self)
        for name, seconds in other.items():
            found[name] += seconds
        return found

    def times(self, factor: float) -> Parts:
        """So often."""
        return Parts({name: factor * seconds for name, seconds in self.items()})

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.values())


_KEPT, _RETURNED = (
    256 << 20,
    128 << 10,
)  # bytes above which a buffer is new each time: see allocator
_TRUSTED = 8.0  # a trial that differs by more from the tables was disturbed, or they were
_FEWEST = 1e-3  # edges a node
_BOUNDS: dict[str, Bound] = {
    "dense": "compute",
    "sparse": "memory",
    "features": "memory",
    "rows": "memory",
    "fresh": "memory",
    "loading": "memory",
    "read": "disk",
    "network": "network",
    "overhead": "overhead",
    "update": "overhead",
    "waiting": "overhead",
}


@dataclass(frozen=True)
class RunSeconds:
    """Seconds of a run.

    Attributes:
        epoch: of an epoch; of one of every layer, where each is trained by itself.
        evaluation: of an exact evaluation of the whole graph.
        setup: of what is computed once before training; partitioning is not in it.
        parts: of an epoch, by what takes them: "dense" products, "sparse" ones of the graph and of
            "features", passes over "rows", "fresh" memory, "loading" of batches and what is "read"
            from files for them, as far as steps wait for it, "network", "overhead" of phases and
            the loop, "update" of the weights, and "waiting" of a pipeline's stages.
    """

    epoch: float
    evaluation: float
    setup: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def bound_by(self) -> Bound:
        """What takes most of an epoch."""
        sums: dict[Bound, float] = defaultdict(float)
        for name, seconds in self.parts.items():
            sums[_BOUNDS.get(name, "overhead")] += seconds
        return max(sums, key=lambda bound: sums[bound]) if sums else "overhead"


def run_seconds(
    job: Job,
    configuration: Configuration,
    machine: Machine,
    tried: Sequence[Tried] = (),
    *,
    waiting: float | None = None,
) -> RunSeconds | None:
    """Seconds of an epoch and of an exact evaluation.

    None where ranks would talk, and what messages take is not known.

    Args:
        job: what is planned for.
        configuration: how it is trained.
        machine: as it was measured.
        tried: what `trial.try_steps` found of the model; without it, tables alone are gone by.
        waiting: of a step of a pipeline over ranks, what it takes beyond the computations of its
            slowest stage, as a simulator says; None: the filling, and a message a micro-batch.
    """
    if configuration.ranks > 1 and not machine.knows_messages:
        return None
    rates = _Rates(job, configuration, machine, tried)
    if configuration.trainer == "layerwise":
        parts, setup = rates.layers()
    elif configuration.trainer == "pipeline":
        parts, setup = rates.pipeline(waiting), rates.ahead()
    else:
        parts, setup = rates.batches(), rates.ahead()
    return RunSeconds(parts.total, rates.evaluation(), setup, dict(parts))


def stage_seconds(
    job: Job, configuration: Configuration, machine: Machine, tried: Sequence[Tried] = ()
) -> list[tuple[float, float]]:
    """Seconds of the forward and the backward pass of every stage, of a micro-batch in the mean.

    Args:
        job: what is planned for.
        configuration: of a pipeline.
        machine: as it was measured.
        tried: see `run_seconds`.
    """
    rates = _Rates(job, configuration, machine, tried)
    return [(forward.total, backward.total) for forward, backward in rates.stages()]


def from_epoch(job: Job, configuration: Configuration, epoch: float) -> RunSeconds:
    """The same by the seconds of a run's own epoch, where no machine has been measured.

    Args:
        job: what is trained.
        configuration: how.
        epoch: seconds of an epoch; of one of every layer, where each is trained by itself.
    """
    batches, evaluated = job.batches(configuration), job.costs(training=False)
    learnt, work = job.costs(computed=configuration.computed).step, evaluated.forward.of(job.sizes)
    trained = batches.number * learnt.of(batches.mean)
    if not work or not trained:  # costs that are not known
        work, trained = job.sizes.nodes, TRAINING * batches.number * batches.mean.nodes
    pace = epoch * configuration.ranks / max(trained, 1.0)  # of one rank
    return RunSeconds(epoch, INFERENCE_COST * pace * work)


class _Rates:
    """A job under a configuration on a machine."""

    def __init__(
        self, job: Job, configuration: Configuration, machine: Machine, tried: Sequence[Tried]
    ) -> None:
        self._job, self._chosen, self._machine = job, configuration, machine
        self._arrays = sum(1 for p in job.model.parameters() if p.requires_grad)
        self._kept = _KEPT if configuration.memory is None else _RETURNED
        self._ratios = {
            way: [self._ratio(own, way) for own in tried if own.forward or way == "evaluated"]
            for way in ("forward", "backward", "evaluated")
        }
        # Planned from one process, ranks share its host and its threads; where they are there, a
        # machine's threads are those of each, and only some of them may be on this host.
        there, ranks = comm.world_size(), configuration.ranks
        own = machine.threads if there > 1 else max(1, machine.threads // ranks)
        here = math.ceil(ranks * comm.ranks_here() / there) if there > 1 else ranks
        self._computing = own * here  # threads on a host
        busy = min(here, max(1, job.batches(configuration).number))
        self._slower = machine.slower(own, busy)
        self._room = available_memory()

    # --- what is trained ------------------------------------------------------------------------

    def batches(self) -> Parts:
        """An epoch of batches: clusters, graphs, or the whole graph."""
        chosen, batches = self._chosen, self._job.batches(self._chosen)
        costs = self._job.costs(computed=chosen.computed)
        step = self.passes(costs, batches.mean)
        step["overhead"] += self._machine.fixed["loop"]
        per_rank = math.ceil(batches.number / chosen.ranks)
        updates = math.ceil(per_rank / chosen.accumulate)
        found = step.times(per_rank)
        found["update"] += updates * self.update(costs)
        found += self.exchange(costs, chosen.ranks).times(updates)
        found += self.loading(costs, batches.mean, step.total).times(per_rank)
        return found

    def layers(self) -> tuple[Parts, float]:
        """An epoch of every layer, and what is computed once before each."""
        chosen, job = self._chosen, self._job
        costs, batches = job.costs(computed="each"), job.batches(chosen)
        found, setup = Parts(), 0.0
        steps = math.ceil(batches.number / chosen.ranks)
        for number in range(len(costs.blocks)):
            block = costs.of_blocks(number, number + 1)
            if not block.placed:
                continue
            step = self.passes(block, batches.mean)
            step["overhead"] += self._machine.fixed["loop"]
            found += step.times(steps)
            found += self.drawing(block, batches.mean).times(steps)
            found["update"] += steps * self.update(block)
            found += self.exchange(block, chosen.ranks).times(steps)
            for kernel in (*block.once, *block.kernels()):
                setup += self._machine.seconds(
                    kernel, job.sizes, working=block.peak(job.sizes), wide=self._wide(block)
                )
        return found, setup * self._slower

    def pipeline(self, waiting: float | None) -> Parts:
        """An epoch of a pipeline's steps: the slowest stage's turn after turn, and the filling."""
        chosen, batches = self._chosen, self._job.batches(self._chosen)
        costs, machine = self._job.costs(computed=chosen.computed), self._machine
        stages = [forward + backward for forward, backward in self.stages()]
        totals = [stage.total for stage in stages]
        beside = max(1, chosen.ranks // len(stages))  # pipelines that share the batches of a step
        steps = max(1, math.ceil(batches.number / beside / chosen.micro_batches))
        each = batches.number / beside / steps
        found = Parts()
        if chosen.ranks == 1:  # stages take turns in one process
            for stage in stages:
                found += stage.times(each)
        else:
            found += stages[totals.index(max(totals))].times(each)
            found["waiting"] += sum(totals) - max(totals) if waiting is None else waiting
        if chosen.ranks > 1 and waiting is None:
            sent = sum(
                machine.message(crossing.forward * batches.mean.nodes)
                + machine.message(crossing.backward * batches.mean.nodes)
                for crossing in (costs.crossings[cut - 1] for cut in chosen.stages)
            )
            found["network"] += sent * (1 + (each - 1) / len(stages))
        found["overhead"] += each * machine.fixed["loop"]
        found["update"] += self.update(costs)
        # Every stage with its likes, all at once.
        exchanged = [self.exchange(own, beside) for own in self.blocks(costs)]
        found += max(exchanged, key=lambda parts: sum(parts.values()))
        found += self.loading(costs, batches.mean, max(totals)).times(each)
        return found.times(steps)

    def stages(self) -> list[tuple[Parts, Parts]]:
        """The passes of every stage of a pipeline over a micro-batch; the last has the loss."""
        chosen, sizes = self._chosen, self._job.batches(self._chosen).mean
        costs = self._job.costs(computed=chosen.computed)
        found = [self.ways(own, sizes) for own in self.blocks(costs)]
        forward, backward = found[-1]
        return [*found[:-1], (forward, backward + self.loss(costs, sizes))]

    def blocks(self, costs: ModelCosts) -> list[ModelCosts]:
        """Those of every stage of a pipeline."""
        ends = [0, *self._chosen.stages, len(costs.blocks)]
        return [costs.of_blocks(a, b) for a, b in pairwise(ends)]

    # --- its parts ------------------------------------------------------------------------------

    def passes(self, costs: ModelCosts, sizes: Sizes) -> Parts:
        """The forward and the backward pass of a step, and the loss between them."""
        forward, backward = self.ways(costs, sizes)
        return forward + backward + self.loss(costs, sizes)

    def ways(self, costs: ModelCosts, sizes: Sizes) -> tuple[Parts, Parts]:
        """The forward pass of some blocks, and the backward one with what it computes again."""
        forward = self._pass(costs, sizes, back=False).times(self._put_right("forward", sizes))
        backward = self._pass(costs, sizes, back=True).times(self._put_right("backward", sizes))
        if self._chosen.checkpoint:
            backward += forward
        return forward.times(self._slower), backward.times(self._slower)

    def loss(self, costs: ModelCosts, sizes: Sizes) -> Parts:
        """The loss of a step."""
        classes = costs.values[-1].width if costs.values else 1
        nodes = sizes.segments if self._job.of_graphs else sizes.nodes
        seconds = {"overhead": self._machine.fixed["step"]}
        seconds["rows"] = self._machine.over(24 * classes * nodes)
        return Parts(seconds).times(self._slower)

    def evaluation(self) -> float:
        """An exact forward pass over the whole graph, chunk by chunk.

        Rows of a chunk stay in the caches; what products gather comes from the whole graph, and an
        opaque convolution runs on all that is within its reach about a chunk.
        """
        costs, whole, chunks = self._job.costs(training=False), self._job.sizes, self._job.chunks
        working, every = costs.peak(chunks.sizes), costs.peak(whole)
        wide, seconds = self._wide(costs), 0.0
        for own in costs.placed:
            if own.facts.lists_edges:
                around = self._phase(own, chunks.around, costs.peak(chunks.around), wide, False)
                seconds += chunks.number * around.total
                continue
            of_chunk = self._phase(own, chunks.sizes, working, wide, False)
            gathered = self._phase(own, whole, every, wide, False)["sparse"]
            seconds += chunks.number * (of_chunk.total - of_chunk["sparse"]) + gathered
        seconds *= self._put_right("evaluated", chunks.around)
        classes = costs.values[-1].width if costs.values else 1
        written = sum(own.facts.width for own in costs.placed if own.facts.reads)
        rows = 8 * whole.nodes * (written + 2 * classes)
        # What steps have freed has gone back to the system: an evaluation's memory is new, of
        # every layer what is written, and what it is put together from.
        new = 2 * costs.peak(whole._replace(edges=0, loops=0), backward=False)
        seconds += rows * self._machine.copied + new * self._machine.fresh
        seconds *= self._slower
        if self._chosen.storage == "files":  # features once, edges for every hop
            hops, files = (
                sum(len(own.facts.reads) for own in costs.placed),
                self.stored(costs, whole),
            )
            seconds += self.from_files(files + 4 * whole.edges * max(0, hops - 1), files)
        return seconds

    def update(self, costs: ModelCosts) -> float:
        """Of the weights."""
        arrays = self._arrays * sum(costs.parameters) / max(1, self._learnt)
        fixed = self._machine.fixed
        numbers = fixed["number"] * sum(costs.parameters)
        return fixed["optimizer"] + fixed["parameter"] * arrays + numbers

    def exchange(self, costs: ModelCosts, ranks: int) -> Parts:
        """Of gradients among some ranks, and of what they agree on in a step."""
        if ranks == 1:
            return Parts()
        sent, rounds = averaged(costs.element * sum(costs.parameters), ranks)
        agreed = self._machine.message(0, 2)
        return Parts({"network": self._machine.message(sent / ranks, rounds) + agreed})

    def loading(self, costs: ModelCosts, sizes: Sizes, computing: float) -> Parts:
        """What a step waits for its batch: all of it, or as far as it is not prepared beside."""
        of, x = self._machine.batch, costs.values[0]
        rows = ((0 if x.sparse else x.row) + costs.element * costs.ahead) * sizes.nodes
        seconds = self._machine.fixed["batch"] + sum(
            of[name] * size
            for name, size in (
                ("node", sizes.nodes),
                ("edge", sizes.edges),
                ("entry", sizes.entries),
                ("byte", rows),
            )
        )
        read = 0.0
        if self._chosen.storage == "files":
            read = self.from_files(self.stored(costs, sizes), self.stored(costs, self._job.trained))
            read += sizes.segments * self._machine.fixed["batch"]  # each cluster by itself
        # Where every processor has a thread of the step, what prepares batches takes one from it.
        spare = self._machine.processors > self._computing
        if self._chosen.prefetch and spare and not self._chosen.is_full_batch:
            beside = max(0.0, seconds + read - computing) / max(seconds + read, 1e-12)
            seconds, read = beside * seconds, beside * read
        return Parts({"loading": seconds, "read": read})

    def drawing(self, costs: ModelCosts, sizes: Sizes) -> Parts:
        """Of the rows of a batch, from all over those that a layer is trained on."""
        machine, rows = self._machine, costs.element * max(1, costs.ahead) * sizes.nodes
        # They are taken, put into a block and shuffled; from files they are read before.
        seconds = machine.fixed["batch"] + 3 * machine.batch["byte"] * rows
        in_files = self._chosen.storage == "files"
        every = rows / max(sizes.nodes, 1.0) * self._job.trained.nodes
        read = self.from_files(rows, every) if in_files else 0.0
        return Parts({"loading": seconds, "read": read})

    def stored(self, costs: ModelCosts, sizes: Sizes) -> float:
        """Bytes of files: features, what was computed ahead, and edges."""
        x = costs.values[0]
        row = (0 if x.sparse else x.row) + costs.element * costs.ahead
        return row * sizes.nodes + 4 * sizes.edges + 8 * sizes.entries

    def from_files(self, size: float, every: float) -> float:
        """Of reading so many bytes of files, from the disk what memory does not hold of all."""
        copied, read = self._machine.copied, self._machine.read
        beyond = max(0.0, 1 - self._room / max(every, 1.0))
        return size * (copied + beyond * max(0.0, read - copied))

    def ahead(self) -> float:
        """The first hop, where it is computed before training."""
        if self._chosen.computed != "first":
            return 0.0
        costs, sizes = self._job.costs(computed="first"), self._job.trained
        kernels = (k for own in costs.placed for k in own.facts.once)
        return sum(self._machine.seconds(k, sizes, wide=self._wide(costs)) for k in kernels)

    # --- kernels --------------------------------------------------------------------------------

    def _pass(self, costs: ModelCosts, sizes: Sizes, *, back: bool) -> Parts:
        found = Parts()
        working = costs.peak(sizes)
        for own in costs.placed:
            found += self._phase(own, sizes, working, self._wide(costs), back)
        turned = back and any(k.kind == "sparse" for k in costs.kernels(backward=True))
        if turned and sizes.transposed:
            found["sparse"] += self._machine.batch["transposed"] * sizes.transposed
        return found

    def _phase(self, own: Placed, sizes: Sizes, working: float, wide: int, back: bool) -> Parts:
        machine, facts = self._machine, own.facts
        kernels = facts.backward if back else facts.forward
        found = Parts()
        if facts.passes is not None or not kernels:
            return found
        for kernel in kernels:
            if facts.name == "Dropout" and kernel.kind == "rows":
                name = "dropout gradient" if back else "dropout"
                found["rows"] += machine.over(kernel.moved.of(sizes), working, name)
            else:
                found[kernel.kind] += machine.seconds(kernel, sizes, working=working, wide=wide)
        found["overhead"] += machine.fixed["gradient" if back else "phase"]
        made = [4 * facts.width * sizes.nodes]
        if wide and 0 in own.takes and not any(k.kind == "features" for k in kernels) and not back:
            made.append(4 * wide * sizes.nodes)  # sparse features are made dense for it
        found["fresh"] += machine.fresh * sum(size for size in made if size > self._kept)
        return found

    @staticmethod
    def _wide(costs: ModelCosts) -> int:
        return costs.values[0].width if costs.values[0].sparse else 0

    @property
    def _learnt(self) -> int:
        return sum(self._job.costs().parameters)

    # --- what was tried -------------------------------------------------------------------------

    def _ratio(self, own: Tried, way: str) -> _Point:
        """What was measured of a piece over what the tables say."""
        costs = self._job.costs(training=way != "evaluated")
        said = self._pass(costs, own.sizes, back=way == "backward").total
        ratio = float(getattr(own, way)) / said if said > 0 else 1.0
        degree = max(own.sizes.edges / max(own.sizes.nodes, 1), _FEWEST)
        within = min(max(ratio, 1 / _TRUSTED), _TRUSTED)
        nodes = math.log(max(own.sizes.nodes, 1))
        return _Point(nodes, math.log(degree), math.log(within), few=not own.forward)

    def _put_right(self, way: str, sizes: Sizes) -> float:
        """The factor of a pass: between the pieces that were tried, else that of the nearest.

        An evaluation has been tried with all edges and with few: between these by edges a node.
        """
        points = self._ratios[way]
        if not points:
            return 1.0
        at = math.log(max(sizes.nodes, 1))
        whole = [point for point in points if not point.few]
        few = [point for point in points if point.few]
        if not few or not whole:
            return math.exp(_between(points, at))
        degree = math.log(max(sizes.edges / max(sizes.nodes, 1), _FEWEST))
        most, least = whole[-1].degree, few[-1].degree
        share = min(max((most - degree) / max(most - least, 1e-9), 0.0), 1.0)
        return math.exp((1 - share) * _between(whole, at) + share * _between(few, at))


class _Point(NamedTuple):
    """Of a piece: logarithms of nodes, edges a node and the ratio; whether it has few edges."""

    nodes: float
    degree: float
    ratio: float
    few: bool


def _between(points: Sequence[_Point], at: float) -> float:
    """The ratio at so many nodes."""
    for before, after in pairwise(points):
        if before.nodes <= at <= after.nodes:
            share = (at - before.nodes) / max(after.nodes - before.nodes, 1e-9)
            return before.ratio + share * (after.ratio - before.ratio)
    return points[0].ratio if at < points[0].nodes else points[-1].ratio

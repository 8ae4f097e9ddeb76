"""Which configurations are compared: around the sizes that trainers choose, by powers of two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from gnnscale.costs.counted.amounts import total
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.sizes import Seen, choose_sizes, row_bytes
from gnnscale.parallel.simulation.profile import best_cuts

_FEWEST = 64  # nodes of a batch
_DRAWN = (1, 4, 16)  # clusters a batch
_ROWS = (256, 1024, 4096, 16384)  # a step of a layer by itself
_MICRO_BATCHES = (2, 4, 8, 16)
_SCHEDULES: tuple[Literal["gpipe", "1f1b"], ...] = ("gpipe", "1f1b")
_MOST_STAGES = 8
# Where there are fewer ranks: what others would bring, of data parallelism and of two pipelines.
_SHOWN_RANKS = {"pipeline": 4}


class Usual(NamedTuple):
    """What trainers choose by themselves.

    Attributes:
        parts: clusters.
        clusters: of a batch.
        rows: nodes an update; of graphs, how many graphs.
    """

    parts: int
    clusters: int
    rows: float


def usual_sizes(job: Job) -> Usual:
    """The sizes that `ClusterTrainer` chooses, or `GraphTrainer`."""
    whole = job.trained
    if job.of_graphs:
        graphs = max(1, int(whole.segments))
        return Usual(1, 1, min(Configuration.graphs, graphs))
    nodes = max(1, int(whole.nodes))
    seen = Seen(nodes, int(whole.edges), int(whole.segments))
    given = None if job.clustered is None else filled(job)
    parts, clusters = choose_sizes(seen, row_bytes(job.model, job.graph), given, None)
    return Usual(parts, clusters, nodes * clusters / parts)


def filled(job: Job) -> int:
    """Clusters of a clustered graph that have nodes to train on."""
    assert job.clustered is not None
    view = job.clustered.view("train") if job.inductive else job.clustered
    return max(1, int(view.sizes.count_nonzero()))


def candidates(
    job: Job, usual: Usual, trainers: Sequence[str], ranks: int, devices: int, memory: int | None
) -> list[Configuration]:
    """All that is compared at first: see `thriftier` for what follows where these do not fit.

    Args:
        job: what is trained.
        usual: what its trainer chooses by itself.
        trainers: names of those that may be taken.
        ranks: processes that there may be.
        devices: of this process.
        memory: the bound, or None.
    """
    found: list[Configuration] = []
    for trainer in trainers:
        for number in _ranks(max(ranks, _SHOWN_RANKS.get(trainer, 2))):
            if trainer == "pipeline":
                found += _pipelines(job, usual, number, devices)
            elif trainer == "layerwise":
                found += _layers(job, usual, number)
            elif trainer == "graph":
                found += _graphs(job, number)
            else:
                found += _clusters(job, usual, number)
    # A rank without a batch would do nothing.
    several = (one for one in dict.fromkeys(found) if job.batches(one).number >= _beside(one))
    return [replace(one, memory=memory) for one in several]


def _beside(configuration: Configuration) -> int:
    """Batches that are taken at a time, or under way."""
    if configuration.trainer == "pipeline":
        lines = configuration.ranks // (len(configuration.stages) + 1)
        return configuration.micro_batches * max(1, lines)
    return configuration.ranks


def thriftier(configuration: Configuration) -> Iterator[Configuration]:
    """The same by means that need less memory and more time, one added to another.

    Clusters in files, no batch prepared ahead, and activations computed again.
    """
    if configuration.trainer in ("cluster", "pipeline", "layerwise"):
        yield (configuration := replace(configuration, storage="files"))
    if configuration.prefetch:
        yield (configuration := replace(configuration, prefetch=0))
    if configuration.trainer != "layerwise":
        yield replace(configuration, checkpoint=True)


def _ranks(most: int) -> list[int]:
    """Powers of two up to as many as there may be, and all of them."""
    return sorted({*_powers(1, most), most})


def _powers(least: int, most: float) -> Iterator[int]:
    while least <= most:
        yield least
        least *= 2


def _clusters(job: Job, usual: Usual, ranks: int) -> Iterator[Configuration]:
    whole = job.trained
    nodes, graphs = max(1, int(whole.nodes)), int(whole.segments)
    yield Configuration(parts=usual.parts, clusters=usual.clusters, ranks=ranks)
    if job.clustered is not None:
        for drawn in {*_powers(1, usual.parts), usual.parts}:
            yield Configuration(parts=usual.parts, clusters=drawn, ranks=ranks)
        return
    if graphs <= 1:
        yield Configuration(ranks=ranks)  # the full batch
    for batches in _powers(2, max(2, nodes / _FEWEST)):
        for drawn in _DRAWN:
            parts = batches * drawn
            if graphs <= parts <= nodes:
                yield Configuration(parts=parts, clusters=drawn, ranks=ranks)
    if graphs > 1:  # each is a part at least
        parts = min(max(graphs, 1), nodes)
        for drawn in {*_powers(1, parts), parts}:
            yield Configuration(parts=parts, clusters=drawn, ranks=ranks)


def _layers(job: Job, usual: Usual, ranks: int) -> Iterator[Configuration]:
    most = max(1, job.train_rows // ranks)
    for rows in {min(rows, most) for rows in _ROWS}:
        yield Configuration(
            trainer="layerwise",
            parts=usual.parts,
            clusters=usual.clusters,
            batch_rows=rows,
            ranks=ranks,
            epochs=80,
        )


def _graphs(job: Job, ranks: int) -> Iterator[Configuration]:
    graphs = max(1, int(job.trained.segments))
    for number in {*_powers(1, graphs), min(Configuration.graphs, graphs), graphs}:
        yield Configuration(trainer="graph", graphs=number, ranks=ranks)


def _pipelines(job: Job, usual: Usual, ranks: int, devices: int) -> Iterator[Configuration]:
    """Pipelines of all ranks, or several of fewer stages beside each other; or of the devices."""
    blocks = len(job.costs().blocks) - 1  # the head goes with the last
    lengths = {devices} if devices > 1 and ranks == 1 else set(_powers(2, ranks))
    for stages in sorted(lengths):
        if stages > min(blocks, _MOST_STAGES) or (ranks > 1 and ranks % stages):
            continue
        cuts = tuple(_cuts(job, stages))
        for micro_batches in _MICRO_BATCHES:
            for parts, clusters in _micro_batches(job, usual, micro_batches):
                for schedule in _SCHEDULES:
                    yield Configuration(
                        trainer="pipeline",
                        parts=parts,
                        clusters=clusters,
                        ranks=ranks,
                        stages=cuts,
                        schedule=schedule,
                        micro_batches=micro_batches,
                    )


def _micro_batches(job: Job, usual: Usual, number: int) -> Iterable[tuple[int, int]]:
    """Parts and clusters of a micro-batch: as large as a batch, and such that all are a batch."""
    found = {(usual.parts, usual.clusters)}
    if usual.clusters >= number:
        found.add((usual.parts, usual.clusters // number))
    elif job.clustered is None and usual.parts * number <= job.trained.nodes:
        found.add((usual.parts * number, usual.clusters))
    return sorted(each for each in found if each[0] // each[1] >= number)


def _cuts(job: Job, stages: int) -> list[int]:
    """The cuts whose slowest stage moves fewest bytes."""
    costs, whole = job.costs(), job.trained
    number = len(costs.blocks) - 1  # the head goes with the last
    moved = []
    for block in range(number):
        own = costs.of_blocks(block, block + 1 if block + 1 < number else len(costs.blocks))
        both = [*own.kernels(), *own.kernels(backward=True)]
        moved.append(total(kernel.moved for kernel in both).of(whole))
    return best_cuts(moved, np.zeros(number - 1), stages)

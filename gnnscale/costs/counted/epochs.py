"""What an epoch costs under each way to train: sums over its steps. Numbers alone, no torch.

Depth follows Besta & Hoefler (arXiv 2205.09702): steps wait for one another; batches of a step do
not, but for a tree of sums over their gradients. Work divided by depth, W/D, is how many processors
an epoch could use in the mean; on p of them it takes W/p operations in a row at least, and D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from gnnscale.costs.counted.amounts import Sizes, levels, total
from gnnscale.costs.counted.memory import Memory, rows_of, step_memory, structure_of
from gnnscale.costs.counted.model import ModelCosts, longest


class Epoch(NamedTuple):
    """What an epoch costs.

    Attributes:
        steps: updates of the weights, one after the other.
        work: multiply-adds, on all ranks together.
        depth: operations in a row.
        moved: bytes read and written, on all ranks together.
        memory: of a step.
        sent: bytes that ranks send, all together.
        rounds: of messages, each of which waits for the one before.
        dropped: share of the edges that no step sees.
    """

    steps: int
    work: float
    depth: float
    moved: float
    memory: Memory
    sent: float = 0
    rounds: int = 0
    dropped: float = 0

    @property
    def parallelism(self) -> float:
        """Average parallelism W/D."""
        return self.work / max(self.depth, 1)


def full_batch(costs: ModelCosts, sizes: Sizes, *, states: int = 2) -> Epoch:
    """One step on the whole graph.

    Args:
        costs: of the model, in training.
        sizes: of the graph.
        states: arrays of the size of the parameters that the optimizer keeps: Adam's 2.
    """
    depth = costs.depth(sizes) + costs.depth_backward(sizes)
    memory = step_memory(costs, sizes, states=states)
    return Epoch(1, costs.step.of(sizes), depth, costs.moved.of(sizes), memory)


def evaluation(costs: ModelCosts, sizes: Sizes) -> Epoch:
    """One forward pass over the whole graph, none of whose values is kept.

    Args:
        costs: of the model, evaluated (`training=False`).
        sizes: of the graph.
    """
    memory = step_memory(costs, sizes, states=0)._replace(gradients=0, kept=0)
    work, moved = costs.forward.of(sizes), costs.moved.of(sizes)
    return Epoch(0, work, costs.depth(sizes), moved, memory)


def clusters(
    costs: ModelCosts,
    whole: Sizes,
    parts: int,
    drawn: int,
    cut: float,
    *,
    largest: Sizes | None = None,
    ranks: int = 1,
    accumulate: int = 1,
    states: int = 2,
) -> Epoch:
    """Batches of some clusters each, on one rank or beside each other on several.

    Args:
        costs: of the model, in training.
        whole: of what is trained on.
        parts: how many clusters there are.
        drawn: clusters of a batch.
        cut: share of the edges that go from one cluster to another.
        largest: the largest batch, where it is known, for the memory; else it is as large as in the
            mean.
        ranks: how many take a batch each in a step; they average their gradients.
        accumulate: batches of a rank in a step.
        states: see `full_batch`.
    """
    batches = math.ceil(parts / drawn)
    few, more = divmod(parts, batches)  # batches differ by one cluster at most
    dealt = [(batches - more, drawn_sizes(whole, parts, few, cut))]
    dealt += [(more, drawn_sizes(whole, parts, few + 1, cut))] if more else []
    batch = dealt[-1][1]
    steps = math.ceil(batches / (ranks * accumulate))
    depth = costs.depth(batch) + costs.depth_backward(batch) + levels(ranks * accumulate)
    sent, rounds = averaged(costs.element * sum(costs.parameters), ranks)
    kept = sum(number * sizes.edges for number, sizes in dealt) / whole.edges if whole.edges else 1
    return Epoch(
        steps,
        sum(number * costs.step.of(sizes) for number, sizes in dealt),
        steps * depth,
        sum(number * costs.moved.of(sizes) for number, sizes in dealt),
        step_memory(costs, largest or batch, states=states),
        steps * sent,
        steps * rounds,
        1 - kept,
    )


def drawn_sizes(whole: Sizes, parts: int, drawn: float, cut: float) -> Sizes:
    """A batch of some clusters, drawn without replacement: sizes in the mean.

    It has the edges within its clusters, and of those between clusters the share that joins two of
    its own.
    """
    between = (drawn - 1) / (parts - 1) if parts > 1 else 1.0
    of, kept = whole.share(drawn / parts), 1 - cut + cut * between
    return of._replace(edges=kept * of.edges, transposed=kept * of.transposed, segments=drawn)


def averaged(size: float, ranks: int) -> tuple[float, int]:
    """Bytes that all ranks send to average an array, in a ring, and the rounds that takes."""
    return 2 * (ranks - 1) * size, 2 * (ranks - 1)


class Layerwise(NamedTuple):
    """What a layer costs that is trained by itself.

    Attributes:
        ahead: once: the propagation of what it reads, and the layer's output at the end; its memory
            is that of a forward pass in training, at most.
        epoch: an epoch over the rows that are trained on.
    """

    ahead: Epoch
    epoch: Epoch


def layerwise(
    costs: ModelCosts, whole: Sizes, rows: float, batch_rows: int, *, states: int = 2
) -> list[Layerwise]:
    """Layer after layer, each as a map of rows once its propagation is computed; the head is last.

    The classifier that a layer is trained under is not in it.

    Args:
        costs: of the model, in training, `computed="each"`.
        whole: of the graph.
        rows: that are trained on.
        batch_rows: of a batch.
        states: see `full_batch`.
    """
    found = []
    steps = max(1, math.ceil(rows / batch_rows))
    nodes = max(whole.nodes, 1)
    mean, batch = whole.share(rows / steps / nodes), whole.share(min(1.0, batch_rows / nodes))
    for number in range(len(costs.blocks)):
        block = costs.of_blocks(number, number + 1)
        output = (*block.once, *block.kernels())
        ahead = Epoch(
            0,
            total(kernel.work for kernel in output).of(whole),
            longest(output, whole),
            total(kernel.moved for kernel in output).of(whole),
            Memory(
                parameters=block.element * sum(block.parameters),
                features=rows_of(block, whole),
                adjacency=structure_of(block, whole),
                workspace=block.peak(whole, backward=False),
            ),
        )
        depth = block.depth(batch) + block.depth_backward(batch)
        memory = step_memory(block, batch, states=states)
        if not block.reads:  # rows alone
            memory = memory._replace(adjacency=0)
        work, moved = steps * block.step.of(mean), steps * block.moved.of(mean)
        epoch = Epoch(steps, work, steps * depth, moved, memory)
        found.append(Layerwise(ahead, epoch))
    return found


class StageCosts(NamedTuple):
    """What a step costs stage by stage, `[stages][micro_batches]`: what a simulator is given.

    Attributes:
        forward: multiply-adds, or seconds.
        backward: likewise.
        sent: bytes of activations over each boundary, `[stages − 1][micro_batches]`.
        returned: bytes of gradients that come back.
    """

    forward: list[list[float]]
    backward: list[list[float]]
    sent: list[list[float]]
    returned: list[list[float]]


@dataclass(frozen=True)
class Stages:
    """What a step costs stage by stage.

    Attributes:
        costs: multiply-adds, and bytes over the boundaries.
        kept: bytes that a stage keeps from a forward to the end of its gradients: what entered and
            left it, too; `[stages][micro_batches]`.
        memory: of every stage's step.
        depth: operations in a row: of the micro-batch that takes most, through all stages.
        moved: bytes read and written.
    """

    costs: StageCosts
    kept: list[list[float]]
    memory: list[Memory]
    depth: int
    moved: float

    @property
    def epoch(self) -> Epoch:
        """A step as an epoch: how long stages wait for one another is the simulator's to say."""
        forward, backward, *bytes_over = self.costs
        work = _all(forward) + _all(backward)
        worst = max(self.memory, key=lambda memory: memory.total)
        sent = sum(map(_all, bytes_over))
        return Epoch(1, work, self.depth, self.moved, worst, sent, 2 * len(self.costs.sent))


def pipeline(
    costs: ModelCosts,
    batches: Sequence[Sizes],
    cuts: Sequence[int],
    *,
    schedule: Literal["gpipe", "1f1b"] = "1f1b",
    states: int = 2,
) -> Stages:
    """One step of micro-batches through a model in stages.

    Args:
        costs: of the model, in training.
        batches: sizes of the micro-batches.
        cuts: the blocks with which a new stage begins; the head goes with the last.
        schedule: "gpipe" keeps all micro-batches, "1f1b" as many as there are stages from it on.
        states: see `full_batch`.
    """
    ends = [0, *cuts, len(costs.blocks)]
    stages = [costs.of_blocks(a, b) for a, b in pairwise(ends)]
    crossed = [costs.crossings[cut - 1] for cut in cuts]
    memory, kept, chains = [], [], []
    for number, stage in enumerate(stages):
        ends_here = crossed[max(0, number - 1) : number + 1]
        crossing = (value for own in ends_here for value in own.values)
        keeps = stage.keeps_with(frozenset(v for v in crossing if costs.values[v].learns))
        under_way = len(batches) if schedule == "gpipe" else len(stages) - number
        largest = sorted(batches, key=keeps.of)[-under_way:]
        memory.append(
            step_memory(stage, largest[-1], states=states)._replace(
                features=sum(rows_of(stage, batch) for batch in batches),
                adjacency=sum(structure_of(stage, batch) for batch in batches),
                kept=sum(map(keeps.of, largest)),
                workspace=max(0.0, stage.peak(largest[-1]) - keeps.of(largest[-1])),
            )
        )
        kept.append([keeps.of(batch) for batch in batches])
        chains.append([stage.depth(b) + stage.depth_backward(b) for b in batches])
    depth = max(map(sum, zip(*chains, strict=True))) + levels(len(batches))
    return Stages(
        StageCosts(
            [[stage.forward.of(batch) for batch in batches] for stage in stages],
            [[stage.backward.of(batch) for batch in batches] for stage in stages],
            [[crossing.forward * batch.nodes for batch in batches] for crossing in crossed],
            [[crossing.backward * batch.nodes for batch in batches] for crossing in crossed],
        ),
        kept,
        memory,
        depth,
        sum(map(costs.moved.of, batches)),
    )


def propagated(costs: ModelCosts, halo: int) -> tuple[float, int]:
    """Bytes that parts of a graph send one another in a forward pass, and the rounds of it.

    Every hop of every layer needs the rows of neighbours elsewhere, of an opaque one those that it
    takes; the paper's O(mk) a layer sends
    a row for every edge that is cut instead of once to each part.

    Args:
        costs: of the model.
        halo: rows that parts need of one another: pairs of a node and a part that an edge goes to,
            other than its own; or the edges that are cut.
    """
    return float(costs.element * sum(costs.reads) * halo), len(costs.reads)


def _all(rows: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, rows))

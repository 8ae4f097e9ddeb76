"""What bounded staleness would buy: steps that do not wait for all that came before them.

gnnscale does not train so: every step sees the weights that the one before has made. The taxonomy
is that of Besta & Hoefler (arXiv 2205.09702): asynchronous pipelines, whose weights are up to T
iterations old (PipeDream, SOSP 2019), and neighbours' rows that are, of l layers (PipeGCN, ICLR
2022: T = 1, all of them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import Action, Kind, Schedule
from gnnscale.parallel.simulation.links import Link
from gnnscale.parallel.simulation.simulator import simulate


class Staleness(NamedTuple):
    """Seconds of a step, one after the other and with bounded staleness."""

    synchronous: float
    stale: float

    @property
    def faster(self) -> float:
        """How many times as fast."""
        return self.synchronous / self.stale if self.stale else 1.0


def stale_weights(
    schedule: Schedule,
    seconds: Mapping[Kind, ArrayLike],
    iterations: int,
    *,
    sent: ArrayLike = 0,
    returned: ArrayLike | None = None,
    link: Link | None = None,
    ahead: float = math.inf,
    steps: int = 10,
) -> Staleness:
    """Seconds of a pipeline's step, where stages may compute with weights of some steps before.

    A pipeline that waits drains at the end of every step and fills anew. One that accepts weights
    which lack up to T updates goes on with the next step's micro-batches, in the order of 1F1B:
    stage s has at most P − s of them under way, as within a step, so it keeps no more activations.

    Args:
        schedule: of a step, with one stage a device.
        seconds: of "forward" and "backward", `[stages, micro_batches]` or what broadcasts to it.
        iterations: T, the updates that weights may lack.
        sent: bytes over each boundary, `[stages − 1, micro_batches]` or what broadcasts to it.
        returned: of the gradients that come back; None: as many.
        link: what messages take.
        ahead: see `simulate`.
        steps: how many follow one another; the mean of these is taken.

    Raises:
        InputError: a number out of range, several stages a device, or costs as in `simulate`.
    """
    faults = [] if schedule.stages == schedule.devices else ["a stage a device is needed"]
    faults += [f"iterations={iterations}: at least 0"] if iterations < 0 else []
    faults += [f"steps={steps}: at least 1"] if steps < 1 else []
    if faults:
        raise InputError(faults)
    costs = (Link() if link is None else link)._asdict()

    def spans(run: Schedule, times: int) -> float:
        def repeated(values: ArrayLike, rows: int) -> NDArray[np.float64]:
            shape = (rows, schedule.micro_batches)
            return np.tile(np.broadcast_to(np.asarray(values, float), shape), times)

        between = schedule.stages - 1
        back = sent if returned is None else returned
        of_all = {kind: repeated(values, schedule.stages) for kind, values in seconds.items()}
        return simulate(
            run, of_all, sent=repeated(sent, between), returned=repeated(back, between),
            ahead=ahead, **costs,
        ).makespan / times  # fmt: skip

    synchronous = spans(schedule, 1)
    # What less staleness allows, more does; more than fill the pipeline change nothing.
    filling = -(-(schedule.stages - 1) // schedule.micro_batches)
    tried = range(1, min(iterations, filling) + 1)
    return Staleness(
        synchronous,
        min([synchronous, *(spans(_undrained(schedule, t, steps), steps) for t in tried)]),
    )


def _undrained(schedule: Schedule, iterations: int, steps: int) -> Schedule:
    """1F1B over the micro-batches of many steps, as far as weights may be old."""
    total = steps * schedule.micro_batches
    rows = (tuple(_row(schedule, stage, iterations, total)) for stage in range(schedule.stages))
    table = sorted(zip(schedule.placement, rows, strict=True))
    return replace(schedule, name="1f1b", micro_batches=total, table=tuple(row for _, row in table))


def _row(schedule: Schedule, stage: int, iterations: int, total: int) -> Iterator[Action]:
    gradients = count()
    done = 0
    for number in range(total):
        step = number // schedule.micro_batches
        room = number - (schedule.stages - stage) + 1
        updated = (step - iterations) * schedule.micro_batches
        while done < max(room, updated):
            yield Action("backward", stage, next(gradients))
            done += 1
        yield Action("forward", stage, number)
    for micro_batch in range(done, total):
        yield Action("backward", stage, micro_batch)


def stale_neighbours(
    computing: Sequence[float], exchanging: Sequence[float], iterations: int, layers: int
) -> Staleness:
    """Seconds of a step of parts of a graph, where neighbours' rows may be of steps before.

    Parts that wait compute a layer once they have its neighbours' rows. Where rows may be T ≥ 1
    steps old, what some layers need travels while others are computed: a step takes no less than
    the network carries, nor than what is computed and waited for.

    Args:
        computing: seconds of every layer, forward and backward, of the slowest part.
        exchanging: seconds of the messages before each.
        iterations: T, the steps that rows may be old.
        layers: l, how many may be read so: those whose messages take longest.

    Raises:
        InputError: a number out of range, or not as many of both.
    """
    faults = []
    if len(computing) != len(exchanging):
        faults.append(f"{len(computing)} layers compute and {len(exchanging)} exchange")
    if min([*computing, *exchanging], default=0.0) < 0:
        faults.append("seconds must be at least 0")
    if iterations < 0 or not 0 <= layers <= len(computing):
        faults.append(
            f"iterations={iterations} and layers={layers}: at least 0, of {len(computing)} layers"
        )
    if faults:
        raise InputError(faults)
    work, carried = sum(computing), sum(exchanging)
    hidden = sum(sorted(exchanging, reverse=True)[:layers]) if iterations else 0.0
    return Staleness(work + carried, max(work + carried - hidden, carried))

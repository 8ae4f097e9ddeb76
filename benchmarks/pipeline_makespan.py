"""What one pipeline does step by step, beside what the simulator says; for pipeline.py.

Runs on every rank. Costs and makespans are of the same run but not of the same steps: the simulator
is given the seconds of every (stage, micro-batch) of every other step, and says for each how long
that step takes; the median of these is the prediction. Measured is the median over the steps
between them. Messages have the costs of the link, measured beforehand (`measure_link`). Beside it
stands what the simulator makes of the same steps, which leaves out that steps differ.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh

import gnnscale as gs
from gnnscale import comm
from gnnscale.loader import Batch
from gnnscale.nn import Context
from gnnscale.nn.blocks.context import run_phases
from gnnscale.parallel import Event, Timeline, make_schedule, simulate
from gnnscale.parallel.engine.distributed import TorchEngine
from gnnscale.parallel.engine.passes import Computation
from gnnscale.parallel.schedules import Kind, Schedule
from gnnscale.parallel.simulation.links import measure_link
from gnnscale.parallel.simulation.profile import Profile, profile
from gnnscale.parallel.stages import cut
from gnnscale.train.steps.batch_step import training_context
from gnnscale.train.task import NodeTask

_WARM_UP = 2  # steps: memory is allocated, kernels are compiled, connections made


def makespans(
    graph: str,
    model: dict[str, Any],
    clusters_per_batch: int,
    shape: str,
    schedules: Sequence[str],
    micro_batches: Sequence[int],
    steps: int,
    computing: str,
    device: str,
    picture: str | None,
) -> dict[str, Any]:
    """Every schedule with every number of micro-batches.

    Args:
        graph: the folder of a clustered graph.
        model: arguments of `gs.nn.GCN`.
        clusters_per_batch: clusters a micro-batch.
        shape: "uniform", cut where a profile says, or "skewed", a block in all stages but the last.
        schedules: their names.
        micro_batches: of a step.
        steps: that count, half of them for the costs.
        computing: "real", or "waits": as long as the profile says, where ranks outnumber cores.
        device: "cpu", or "cuda": that of the local rank.
        picture: a file, for the first schedule, eight micro-batches.
    """
    place = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else None
    place = place or torch.device("cpu")
    mesh = init_device_mesh(place.type, (1, comm.world_size()), mesh_dim_names=("dp", "pp"))
    clustered = gs.open_graph(graph)
    torch.manual_seed(0)
    classes = clustered.graph.num_classes
    network = gs.nn.GCN(clustered.graph.num_features, out_channels=classes, **model)
    network.to(place).train()
    loader = gs.ClusterLoader(clustered, clusters_per_batch, seed=0, prefetch=0)
    batches = [batch.to(place) for batch in loader if batch is not None][: max(micro_batches)]
    loss = NodeTask().loss

    def profiled() -> Profile:
        return profile(network, clustered, clusters_per_batch, loss=loss)

    # Where ranks compute beside each other, they are measured so: they share memory and caches.
    known = _mean(profiled()) if computing == "real" else comm.from_main(profiled)
    waiting = run_phases if computing == "real" else _waiting(network, known, batches, classes)
    found = []
    for name in schedules:
        whole = make_schedule(name, comm.world_size(), max(micro_batches))
        stages = whole.stages
        cuts = known.cut(stages) if shape == "uniform" else list(range(1, stages))
        computation = Computation(_context(waiting), loss, lambda loss: loss / 1000)
        engine = TorchEngine(
            cut(network, cuts), whole, mesh, place, batches[0], computation, record=True
        )
        engine.place()
        for number in micro_batches:
            schedule = make_schedule(name, comm.world_size(), number, stages)
            crossing = known.costs(cuts, [(b.num_nodes, b.adj.num_edges) for b in batches[:number]])
            link = measure_link(place, compute=None if computing == "real" else _asleep)
            timelines, sent = _run(engine, schedule, batches[:number], computation, steps)
            measured = timelines[1::2]
            middle = _middle(measured)
            between: dict[str, Any] = {
                "sent": crossing.sent, "returned": crossing.returned,
                **link._asdict(), "ahead": 1 if device == "cpu" else 0,  # as the engine asks
            }  # fmt: skip
            simulated = [simulate(schedule, _seconds(s, schedule), **between) for s in timelines]
            predicted = _middle(simulated[::2])
            same = [
                ours.makespan / s.makespan for ours, s in zip(simulated, timelines, strict=True)
            ]
            modelled = {"forward": crossing.forward, "backward": crossing.backward}
            if picture and number == 8 and name == schedules[0] and comm.is_main():
                predicted.plot(picture, measured=middle)
            found.append(
                {
                    "schedule": name,
                    "micro_batches": number,
                    "cuts": cuts,
                    "measured": [timeline.makespan for timeline in measured],
                    "predicted": predicted.makespan,
                    "same_step": statistics.median(same),
                    "profiled": simulate(schedule, modelled, **between).makespan,
                    "measured_bubble": statistics.median(t.bubble for t in measured),
                    "predicted_bubble": predicted.bubble,
                    "measured_bytes": sent,
                    "predicted_bytes": int(predicted.bytes_sent.sum()),
                    "activations": predicted.peak_activations,
                    "link": {k: v if math.isfinite(v) else None for k, v in link._asdict().items()},
                }
            )
    return {
        "cases": found,
        "nodes": [batch.num_nodes for batch in batches],
        "edges": [batch.adj.num_edges for batch in batches],
        "profile_error": known.error,
    }


def _run(
    engine: TorchEngine,
    schedule: Schedule,
    batches: Sequence[Batch],
    computation: Computation,
    steps: int,
) -> tuple[list[Timeline], int]:
    """The timelines of some steps, and the bytes that all ranks sent in each."""
    counted: list[int] = []
    isend = distributed.isend

    def counting(tensor: Tensor, *arguments: Any, **keywords: Any) -> Any:
        counted.append(tensor.numel() * tensor.element_size())
        return isend(tensor, *arguments, **keywords)

    events = []
    with patch.object(distributed, "isend", counting):
        for _ in range(_WARM_UP + steps):
            for stage in engine.own:
                stage.zero_grad()
            comm.barrier()
            counted.clear()
            engine.run(schedule, batches, computation)
            events.append(engine.events)
    every = comm.gather_objects(events[_WARM_UP:])
    timelines = [
        Timeline.from_events(event for of_rank in step for event in of_rank)
        for step in zip(*every, strict=True)
    ]
    return timelines, int(comm.sum_numbers(sum(counted))[0])


def _middle(timelines: Sequence[Timeline]) -> Timeline:
    """The one of median makespan."""
    return sorted(timelines, key=lambda timeline: timeline.makespan)[len(timelines) // 2]


def _seconds(timeline: Timeline, schedule: Schedule) -> dict[Kind, NDArray[np.float64]]:
    """What a step's computations took, by kind, `[stages, micro_batches]`."""
    kinds: set[Kind] = {action.kind for row in schedule.table for action in row}
    found = {kind: np.empty((schedule.stages, schedule.micro_batches)) for kind in kinds}
    event: Event
    for event in timeline.events:
        found[event.kind][event.stage, event.micro_batch] = event.end - event.start
    return found


def _mean(known: Profile) -> Profile:
    """The mean of all ranks' profiles."""
    every = comm.gather_objects((known.forward, known.backward))
    forward, backward = (np.mean(of_ranks, axis=0) for of_ranks in zip(*every, strict=True))
    return replace(known, forward=forward, backward=backward)


def _context(runner: Callable[..., Any]) -> Callable[[Batch], Context]:
    def make(batch: Batch) -> Context:
        return training_context(batch, seed=0, runner=runner)

    return make


def _waiting(
    network: gs.nn.LayeredGNN, known: Profile, batches: Sequence[Batch], classes: int
) -> Callable[..., Any]:
    """A runner that takes the profile's time for a block, and gives rows of its width."""
    sizes = np.array([(b.num_nodes, b.adj.num_edges, 1) for b in batches], float)
    forward, backward = known.forward @ sizes.T, known.backward @ sizes.T
    numbers = {id(block): number for number, block in enumerate(network.blocks)}
    widths = [boundary.widths[0][1] for boundary in known.boundaries]
    widths.append(classes)
    places = {batch.step: place for place, batch in enumerate(batches)}

    def run(block: Any, phases: Sequence[Any], x: Any, context: Context) -> Any:
        if block is None:
            return run_phases(block, phases, x, context)
        number, micro_batch = numbers[id(block)], places[context.step // comm.world_size()]
        weight = next(block.parameters())
        return _Wait.apply(
            x, weight, widths[number], forward[number, micro_batch], backward[number, micro_batch]
        )

    return run


def _asleep(device: torch.device) -> None:
    time.sleep(2e-3)


class _Wait(torch.autograd.Function):
    """Takes time, and makes rows of zeros; the weight is there so that a gradient is wanted."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, width: int, before: float, after: float
    ) -> Tensor:
        time.sleep(before)
        ctx.shape, ctx.after = x.shape, after
        return weight.new_zeros(x.size(0), width)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        time.sleep(ctx.after)
        return gradient.new_zeros(ctx.shape), None, None, None, None

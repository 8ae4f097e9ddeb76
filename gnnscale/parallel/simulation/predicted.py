"""A pipeline's step on a machine that has been measured, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gnnscale.costs.counted.epochs import pipeline
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.seconds import RunSeconds, run_seconds, stage_seconds
from gnnscale.costs.predicted.trial import Tried
from gnnscale.parallel.schedules import CHUNKS, Kind, make_schedule
from gnnscale.parallel.simulation.links import Link
from gnnscale.parallel.simulation.simulator import simulate
from gnnscale.parallel.simulation.timeline import Timeline


def predicted_timeline(
    job: Job, configuration: Configuration, machine: Machine, tried: Sequence[Tried] = ()
) -> Timeline:
    """One step of a pipeline, of micro-batches of mean size; nothing runs.

    Args:
        job: what is planned for.
        configuration: of the trainer "pipeline".
        machine: as it was measured.
        tried: see `run_seconds`.
    """
    stages = len(configuration.stages) + 1
    devices = max(1, stages // CHUNKS[configuration.schedule])
    schedule = make_schedule(configuration.schedule, devices, configuration.micro_batches, stages)
    batch = job.batches(configuration).mean
    counted = pipeline(
        job.costs(computed=configuration.computed),
        [batch] * configuration.micro_batches,
        configuration.stages,
        schedule="gpipe" if configuration.schedule == "gpipe" else "1f1b",
    )
    forward, backward = zip(*stage_seconds(job, configuration, machine, tried), strict=True)
    of_each: Mapping[Kind, Sequence[list[float]]] = {
        "forward": [[seconds] for seconds in forward],
        "backward": [[seconds] for seconds in backward],
        # Each half goes back through the stage: no less than half, no more than all of it.
        "input_grad": [[seconds] for seconds in backward],
        "weight_grad": [[seconds] for seconds in backward],
    }
    return simulate(
        schedule, of_each, sent=counted.costs.sent, returned=counted.costs.returned,
        **link_of(machine)._asdict(), ahead=1, activations=counted.kept,
    )  # fmt: skip


def link_of(machine: Machine) -> Link:
    """What a message takes between two ranks on a machine: its bytes hold who sends them."""
    return Link(latency=machine.message(0), copying=machine.message(1) - machine.message(0))


def pipeline_seconds(
    job: Job, configuration: Configuration, machine: Machine, tried: Sequence[Tried] = ()
) -> RunSeconds | None:
    """Seconds of a run of a pipeline over ranks: what stages wait is the simulator's to say.

    None where what messages take is not known.

    Args:
        job: what is planned for.
        configuration: of the trainer "pipeline".
        machine: as it was measured.
        tried: see `run_seconds`.
    """
    if configuration.ranks == 1:  # stages take turns in one process
        return run_seconds(job, configuration, machine, tried)
    if not machine.knows_messages:
        return None
    timeline = predicted_timeline(job, configuration, machine, tried)
    slowest = max(map(sum, stage_seconds(job, configuration, machine, tried)))
    waiting = timeline.makespan - configuration.micro_batches * slowest
    return run_seconds(job, configuration, machine, tried, waiting=waiting)

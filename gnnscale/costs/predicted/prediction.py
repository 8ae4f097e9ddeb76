"""A configuration with all that is known of it before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gnnscale.costs.counted.amounts import total
from gnnscale.costs.counted.epochs import (
    Epoch,
    averaged,
    clusters,
    evaluation,
    layerwise,
    pipeline,
)
from gnnscale.costs.counted.memory import Memory
from gnnscale.costs.counted.model import ModelCosts, Placed, longest
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.predicted.configuration import Configuration
from gnnscale.costs.predicted.job import Job
from gnnscale.costs.predicted.memory import RunMemory, run_memory
from gnnscale.costs.predicted.seconds import RunSeconds, run_seconds
from gnnscale.costs.predicted.trial import Tried


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a way to train will take.

    Attributes:
        configuration: the way.
        ahead: what is computed once, before the first step: propagations.
        epoch: of training; of layers that are trained one by one, an epoch of each.
        evaluation: of the whole graph.
        memory: what `fit` adds to the process.
        seconds: None where no machine is known.
    """

    configuration: Configuration
    ahead: Epoch
    epoch: Epoch
    evaluation: Epoch
    memory: RunMemory
    seconds: RunSeconds | None = None

    @cached_property
    def bytes(self) -> float:
        """The most that `fit` adds to the process."""
        return self.memory.total


def predict(
    job: Job,
    configuration: Configuration,
    machine: Machine | None = None,
    tried: Sequence[Tried] = (),
) -> Prediction:
    """Say what a way to train will take.

    Args:
        job: what is trained.
        configuration: the way.
        machine: where; None leaves seconds out.
        tried: what a trial of the model found there (`trial.try_steps`).

    Raises:
        InputError: the model's costs cannot be known.
    """
    ahead, epoch = _epoch(job, configuration)
    return Prediction(
        configuration,
        ahead,
        epoch,
        evaluation(job.costs(training=False), job.sizes),
        run_memory(job, configuration),
        None if machine is None else run_seconds(job, configuration, machine, tried),
    )


def _epoch(job: Job, configuration: Configuration) -> tuple[Epoch, Epoch]:
    """What is computed ahead, and an epoch."""
    costs, whole = job.costs(computed=configuration.computed), job.trained
    ranks, states = configuration.ranks, job.optimizer_states
    if configuration.checkpoint:
        costs = _again(costs)
    if configuration.trainer == "layerwise":
        rows = configuration.batch_rows * ranks
        layers = layerwise(costs, whole, job.train_rows, rows, states=states)
        epochs = [_averaged(job, n, layer.epoch, ranks) for n, layer in enumerate(layers)]
        return _sum(layer.ahead for layer in layers), _sum(epochs)
    once = costs.once
    ahead = Epoch(
        0,
        total(kernel.work for kernel in once).of(whole),
        longest(once, whole),
        total(kernel.moved for kernel in once).of(whole),
        Memory(),
    )
    if configuration.trainer == "pipeline":
        return ahead, _pipelined(job, costs, configuration)
    parts, drawn = configuration.parts, min(configuration.clusters, configuration.parts)
    if configuration.trainer == "graph":
        parts = max(1, int(whole.segments))
        drawn = min(configuration.graphs, parts)
    batches = job.batches(configuration)
    epoch = clusters(
        costs,
        whole,
        parts,
        drawn,
        cut_of(batches.dropped, parts, drawn),
        largest=batches.largest,
        ranks=ranks,
        accumulate=configuration.accumulate,
        states=states,
    )
    return ahead, epoch


def _again(costs: ModelCosts) -> ModelCosts:
    """The same where forward passes are computed again on the way back."""

    def of(placed: Placed) -> Placed:
        facts = placed.facts
        return placed._replace(facts=replace(facts, backward=(*facts.forward, *facts.backward)))

    return replace(costs, blocks=tuple(tuple(map(of, block)) for block in costs.blocks))


def _averaged(job: Job, block: int, epoch: Epoch, ranks: int) -> Epoch:
    """An epoch of a layer by itself, on several ranks that average its gradients."""
    costs = job.costs(computed="each")
    sent, rounds = averaged(costs.element * costs.parameters[block], ranks)
    return epoch._replace(sent=epoch.steps * sent, rounds=epoch.steps * rounds)


def cut_of(dropped: float, parts: int, drawn: int) -> float:
    """Share of the edges between clusters, where batches of so many drop that share of all."""
    return dropped * (parts - 1) / (parts - drawn) if drawn < parts else 0.0


def _pipelined(job: Job, costs: ModelCosts, configuration: Configuration) -> Epoch:
    """An epoch of steps of micro-batches, of one pipeline or of several beside each other."""
    batches, number = job.batches(configuration), configuration.micro_batches
    stages = pipeline(
        costs,
        [batches.mean] * number,
        configuration.stages,
        schedule="gpipe" if configuration.schedule == "gpipe" else "1f1b",
        states=job.optimizer_states,
    )
    step = stages.epoch
    beside = max(1, configuration.ranks // (len(configuration.stages) + 1))
    every = configuration.parts / (configuration.clusters * number)  # steps of one pipeline alone
    steps = -(-batches.number // (number * beside))
    # In a ring, every stage with its likes.
    sent, rounds = averaged(costs.element * sum(costs.parameters), beside)
    return Epoch(
        steps,
        every * step.work,
        steps * step.depth,
        every * step.moved,
        step.memory,
        every * step.sent + steps * sent,
        steps * (step.rounds + rounds),
        batches.dropped,
    )


def _sum(epochs: Iterable[Epoch]) -> Epoch:
    """One after the other."""
    every = list(epochs)
    return Epoch(
        sum(epoch.steps for epoch in every),
        sum(epoch.work for epoch in every),
        sum(epoch.depth for epoch in every),
        sum(epoch.moved for epoch in every),
        max((epoch.memory for epoch in every), key=lambda memory: memory.total),
        sum(epoch.sent for epoch in every),
        sum(epoch.rounds for epoch in every),
    )

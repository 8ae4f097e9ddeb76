"""The local executor adds up what one process does that accumulates the same batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from gnnscale.nn.blocks.checkpointing import checkpointed
from gnnscale.parallel import Timeline, make_schedule
from gnnscale.parallel.engine.local import LocalExecutor
from gnnscale.parallel.stages import cut
from tests.parallel.steps import (
    LAYOUTS,
    NORMS,
    accumulated,
    assert_same_step,
    computation,
    context,
    micro_batches,
    model,
)

CPU = torch.device("cpu")


def run(of, name, threads, batches=None, record=False, **options):
    devices, cuts = LAYOUTS[name]
    whole = make_schedule(name, devices, 4, len(cuts) + 1)
    executor = LocalExecutor(cut(of, cuts), whole, [CPU] * (devices if threads else 1), record)
    batches = micro_batches() if batches is None else batches
    schedule = whole.first(len(batches))
    return executor, executor.run(schedule, batches, computation(**options))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("norm", NORMS)
def test_every_schedule_learns_what_accumulation_does(norm, dropout):
    expected = model(norm, dropout)
    losses = accumulated(expected, micro_batches())
    for name in LAYOUTS:
        for threads in (False, True) if norm == "batch_norm" and dropout else (True,):
            mine = model(norm, dropout)
            _, found = run(mine, name, threads)
            assert [float(loss) for loss in found] == losses, name
            assert_same_step(mine, expected)


def test_opaque_convolutions_draw_alike_on_threads():
    expected = model(dropout=0.5, kind="GAT")
    accumulated(expected, micro_batches())
    for name in LAYOUTS:
        mine = model(dropout=0.5, kind="GAT")
        before = torch.get_rng_state()
        run(mine, name, threads=True)
        assert torch.equal(torch.get_rng_state(), before)
        assert_same_step(mine, expected)


@pytest.mark.parametrize("name", ["gpipe", "1f1b", "interleaved"])
def test_checkpointed_activations_change_nothing(name):
    expected = model("batch_norm", 0.4)
    accumulated(expected, micro_batches())
    mine = model("batch_norm", 0.4)
    runner = checkpointed()

    def context_of(batch):
        found = context(batch)
        found.runner = runner
        return found

    devices, cuts = LAYOUTS[name]
    schedule = make_schedule(name, devices, 4, len(cuts) + 1)
    asked = replace(computation(redraws=True), context=context_of)
    LocalExecutor(cut(mine, cuts), schedule, [CPU] * devices).run(schedule, micro_batches(), asked)
    assert_same_step(mine, expected)


def test_an_epochs_last_step_may_have_fewer_micro_batches():
    for number in (1, 3):
        expected = model("batch_norm", 0.4)
        accumulated(expected, micro_batches()[:number])
        for name in LAYOUTS:
            mine = model("batch_norm", 0.4)
            run(mine, name, threads=True, batches=micro_batches()[:number])
            assert_same_step(mine, expected)


@pytest.mark.parametrize("threads", [False, True])
def test_what_ran_when_is_recorded(threads):
    for name, (devices, cuts) in LAYOUTS.items():
        executor, _ = run(model(), name, threads, record=True)
        schedule = make_schedule(name, devices, 4, len(cuts) + 1)
        for device, row in enumerate(schedule.table):
            mine = [event[1:4] for event in executor.events if event.device == device]
            assert mine == [tuple(action) for action in row]
        timeline = Timeline.from_events(executor.events)
        assert timeline.placement == schedule.placement


class Failing(nn.Module):
    """Fails on its third batch."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 3:
            raise ArithmeticError("no")
        return x


@pytest.mark.parametrize(("name", "place"), [("1f1b", 0), ("gpipe", 3), ("interleaved", 2)])
def test_an_error_in_a_stage_ends_all_threads(name, place):
    broken = model(norm=None)
    broken.blocks[place].act = Failing()
    with pytest.raises(ArithmeticError, match="no"):
        run(broken, name, threads=True)

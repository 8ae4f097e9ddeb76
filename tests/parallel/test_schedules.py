"""Schedules: complete, ordered, free of deadlock, and in the order of torch's runtime."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError
from gnnscale.parallel.schedules import ROWS, Action, Schedule, make_schedule

sizes = {"devices": st.integers(1, 6), "micro_batches": st.integers(1, 14)}


def written(schedule: Schedule) -> list[list[str]]:
    return [[str(action) for action in row] for row in schedule.table]


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(sorted(ROWS)), chunks=st.integers(1, 4), **sizes)
def test_tables_run_to_their_end(name, chunks, devices, micro_batches):
    if name == "interleaved":
        rounds = max(1, micro_batches // devices)
        micro_batches -= micro_batches % rounds  # still as many rounds
        schedule = make_schedule(name, devices, micro_batches, chunks * devices)
    else:
        schedule = make_schedule(name, devices, micro_batches)
    kinds = 3 if schedule.splits_backward else 2
    order = list(schedule.in_order())
    assert len(order) == len(set(order)) == kinds * schedule.stages * micro_batches
    ran: set[Action] = set()
    for action in order:
        assert ran.issuperset(schedule.needs(action))
        ran.add(action)
        reader = schedule.reader_of(action)
        assert reader is None or schedule.source_of(reader) == action


@settings(deadline=None, max_examples=30)
@given(**sizes)
def test_interleaved_with_one_chunk_is_1f1b(devices, micro_batches):
    one = make_schedule("interleaved", devices, micro_batches, devices)
    assert one.table == make_schedule("1f1b", devices, micro_batches).table


class RecordingStage(SimpleNamespace):
    """A stage of `torch.distributed.pipelining` that only notes what it is told to run."""

    def __init__(self, stage: int, stages: int) -> None:
        super().__init__(
            stage_index=stage, num_stages=stages, group_size=stages, group_rank=stage, group=None,
            is_first=stage == 0, is_last=stage == stages - 1, has_backward=True, ran=[],
        )  # fmt: skip
        for name in ("get_fwd_recv_ops", "get_fwd_send_ops", "get_bwd_recv_ops"):
            setattr(self, name, lambda index: [])
        self.get_bwd_send_ops = lambda index: []

    def forward_one_chunk(self, index, *_, **__):
        self.ran.append(f"{self.stage_index}F{index}")

    def backward_one_chunk(self, index, **_):
        self.ran.append(f"{self.stage_index}B{index}")

    def perform_reduce_grad(self, *_):
        pass


@pytest.mark.parametrize(("name", "theirs"), [("gpipe", "ScheduleGPipe"), ("1f1b", "Schedule1F1B")])
@pytest.mark.parametrize(("devices", "micro_batches"), [(1, 3), (2, 2), (3, 7), (4, 4), (5, 6)])
def test_single_stages_run_as_torch_runs_them(name, theirs, devices, micro_batches, monkeypatch):
    from torch.distributed.pipelining import schedules

    rows = []
    for stage in range(devices):
        recorder = RecordingStage(stage, devices)
        runtime = getattr(schedules, theirs)(recorder, micro_batches)
        monkeypatch.setattr(runtime, "_initialize_stage", lambda *_: None)
        runtime._step_microbatches()
        rows.append(recorder.ran)
    assert written(make_schedule(name, devices, micro_batches)) == rows


@pytest.mark.parametrize(
    ("devices", "micro_batches", "chunks"),
    [(1, 2, 2), (2, 1, 2), (2, 4, 3), (3, 3, 2), (3, 8, 2), (4, 3, 2), (4, 10, 3), (4, 16, 2)],
)
def test_interleaved_is_torchs(devices, micro_batches, chunks):
    from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B

    theirs = object.__new__(ScheduleInterleaved1F1B)  # its constructor wants processes
    theirs.pp_group_size, theirs._n_microbatches = devices, micro_batches
    theirs.n_local_stages = chunks
    theirs.microbatches_per_round = micro_batches // max(1, micro_batches // devices)
    ours = make_schedule("interleaved", devices, micro_batches, chunks * devices)
    assert written(ours) == operations(theirs, devices)


@pytest.mark.parametrize("devices", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batches", [1, 2, 5, 7, 12])
def test_zbv_is_torchs(devices, micro_batches):
    from torch.distributed.pipelining.schedules import ScheduleZBVZeroBubble

    theirs = object.__new__(ScheduleZBVZeroBubble)
    theirs.pp_group_size, theirs._n_microbatches = devices, micro_batches
    theirs.num_stages = 2 * devices
    assert written(make_schedule("zbv", devices, micro_batches)) == operations(theirs, devices)


def operations(theirs, devices: int) -> list[list[str]]:
    rows = (theirs._calculate_single_rank_operations(rank) for rank in range(devices))
    return [[str(action) for action in row if action is not None] for row in rows]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_torch_takes_our_tables(name):
    from torch.distributed.pipelining.schedules import _Action, _add_send_recv, _validate_schedule

    schedule = make_schedule(name, 3, 6)
    actions = {
        rank: [_Action.from_str(action) for action in row]
        for rank, row in enumerate(written(schedule))
    }
    placement = _validate_schedule(actions, 3, schedule.stages, 6)
    assert [placement[stage] for stage in range(schedule.stages)] == list(schedule.placement)
    _add_send_recv(actions, placement.__getitem__, schedule.stages)


def changed(schedule: Schedule, *rows: str) -> Schedule:
    kinds = {"F": "forward", "B": "backward", "I": "input_grad", "W": "weight_grad"}
    table = (
        tuple(Action(kinds[text[1]], int(text[0]), int(text[2])) for text in row.split())
        for row in rows
    )
    return replace(schedule, table=tuple(table))


@pytest.mark.parametrize(
    ("rows", "faults"),
    [
        (("0F0 0F1 0B0", "1F0 1F1 1B0 1B1"), ["0B1 is missing"]),
        (("0F0 0F1 0B0 0B1 0B1", "1F0 1F1 1B0 1B1"), ["0B1 runs 2 times"]),
        (("0F0 0F1 0B0 0B1", "1F0 1F1 1F2 1B0 1B1"), ["1F2 does not belong"]),
        (("0F0 0F1 0B0 0B1", "1F0 1F1 1B0 1I1 1W1"), ["input_grad", "missing"]),
        (("0F0 0F1 0B0 0B1 1F0", "1F1 1B0 1B1"), ["stage 1 runs on device 0, not 1"]),
        (("0F0 0F1 0B0 0B1",), ["1 rows for 2 devices"]),
        (("0F1 0F0 0B1 0B0", "1F1 1F0 1B1 1B0"), ["0F1 runs before 0F0", "1B1 runs before 1B0"]),
        (("0F0 0B0 0F1 0B1", "1F0 1F1 1B0 1B1"), ["deadlock: device 0 at 0B0, device 1 at 1F1"]),
    ],
)
def test_tables_that_cannot_run_are_refused(rows, faults):
    schedule = changed(make_schedule("gpipe", 2, 2), *rows)
    with pytest.raises(InputError) as error:
        schedule.check()
    for fault in faults:
        assert fault in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dualpipe", 2, 2), "must be one of gpipe, 1f1b, interleaved, zbv, not 'dualpipe'"),
        (("gpipe", 0, 2), "at least 1 device and 1 micro-batch, not 0 and 2"),
        (("1f1b", 2, 0), "at least 1 device and 1 micro-batch, not 2 and 0"),
        (("1f1b", 2, 4, 4), "2 stages for 2 devices, not 4; schedule 'interleaved'"),
        (("zbv", 2, 4, 6), "4 stages for 2 devices, not 6"),
        (("interleaved", 2, 4, 5), "multiple of 2 devices as stages, not 5; take 4"),
        (("interleaved", 4, 9, 8), "2 equal rounds over 4 devices; take 8 or 10 micro-batches"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(arguments, message):
    with pytest.raises(InputError, match=message):
        make_schedule(*arguments)


@pytest.mark.parametrize(
    ("name", "together", "apart"), [("gpipe", 8, 2), ("1f1b", 3, 1), ("zbv", 4, 1)]
)
def test_micro_batches_that_are_kept_at_a_time(name, together, apart):
    schedule = make_schedule(name, 4, 8)
    assert schedule.batches_kept(in_one_process=True) == together
    assert schedule.batches_kept(in_one_process=False) == apart

"""The simulator: theory where it has formulas, longest paths where it has none."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.parallel.schedules import ROWS, Schedule, make_schedule
from gnnscale.parallel.simulation.simulator import simulate
from gnnscale.parallel.simulation.timeline import Timeline

EQUAL = {"forward": 1.0, "backward": 2.0}


@st.composite
def schedules(draw) -> Schedule:
    name = draw(st.sampled_from(sorted(ROWS)))
    devices, rounds = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return make_schedule(name, devices, devices * rounds)


def random_costs(schedule: Schedule, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    kinds = ("forward", "backward", "input_grad", "weight_grad")
    shape = (schedule.stages, schedule.micro_batches)
    return {kind: rng.uniform(0.1, 1, shape) for kind in kinds}


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["gpipe", "1f1b", "interleaved"]),
    devices=st.integers(1, 5),
    rounds=st.integers(1, 3),
    chunks=st.integers(1, 3),
)
def test_bubble_of_equal_micro_batches(name, devices, rounds, chunks):
    chunks = chunks if name == "interleaved" else 1
    micro_batches = devices * rounds
    schedule = make_schedule(name, devices, micro_batches, chunks * devices)
    timeline = simulate(schedule, EQUAL)
    steps = chunks * micro_batches + devices - 1
    assert timeline.makespan == pytest.approx(3 * steps)
    assert timeline.bubble == pytest.approx((devices - 1) / steps)
    if name == "gpipe":
        assert timeline.peak_activations == [micro_batches] * devices
    elif chunks == 1:
        assert timeline.peak_activations == list(range(devices, 0, -1))


@pytest.mark.parametrize(("devices", "micro_batches"), [(1, 1), (2, 3), (3, 5), (4, 7), (4, 12)])
def test_zbv_leaves_no_gap_between_a_devices_first_and_last_action(devices, micro_batches):
    schedule = make_schedule("zbv", devices, micro_batches)
    timeline = simulate(schedule, {"forward": 1, "input_grad": 1, "weight_grad": 1})
    for device in range(devices):
        own = [event for event in timeline.events if event.device == device]
        assert own[-1].end - own[0].start == 6 * micro_batches


@settings(deadline=None, max_examples=30)
@given(schedule=schedules(), seed=st.integers(0, 99), latency=st.sampled_from([0.0, 0.3]))
def test_makespan_is_the_longest_path(schedule, seed, latency):
    seconds = random_costs(schedule, seed)
    paths = networkx.DiGraph()
    paths.add_node("start")
    for row in schedule.table:
        for before, action in zip(("start", *row), row, strict=False):
            paths.add_edge(before, action, wait=0.0)
    for row in schedule.table:
        for action in row:
            for need in schedule.needs(action):
                apart = schedule.placement[need.stage] != schedule.placement[action.stage]
                paths.add_edge(need, action, wait=latency if apart else 0.0)
    for _, after, edge in paths.edges(data=True):
        kind, stage, micro_batch = after
        edge["weight"] = edge["wait"] + seconds[kind][stage, micro_batch]
    timeline = simulate(schedule, seconds, latency=latency)
    assert timeline.makespan == pytest.approx(networkx.dag_longest_path_length(paths))
    assert timeline.busy.sum() == pytest.approx(sum(e.end - e.start for e in timeline.events))


@settings(deadline=None, max_examples=30)
@given(schedule=schedules(), seed=st.integers(0, 99))
def test_waiting_for_messages_never_saves_time(schedule, seed):
    seconds = random_costs(schedule, seed)
    rng = np.random.default_rng(seed)
    sent = rng.integers(1, 100, (schedule.stages - 1, schedule.micro_batches))
    messages = {"sent": sent, "latency": 0.01, "bandwidth": 100.0}
    overlapped = simulate(schedule, seconds, **messages).makespan
    assert simulate(schedule, seconds).makespan <= overlapped + 1e-9
    for sends in ("block", "rendezvous"):
        waiting = simulate(schedule, seconds, sends=sends, **messages)
        assert overlapped <= waiting.makespan + 1e-9
        assert waiting.bytes_sent.sum() == 2 * sum(
            t.num_bytes for t in waiting.transfers if t.forward
        )


@settings(deadline=None, max_examples=20)
@given(schedule=schedules(), width=st.integers(1, 64), seed=st.integers(0, 99))
def test_bytes_are_those_of_rows_times_width_both_ways(schedule, width, seed):
    nodes = np.random.default_rng(seed).integers(1, 1000, schedule.micro_batches)
    timeline = simulate(schedule, random_costs(schedule, seed), sent=4 * width * nodes)
    place = schedule.placement
    crossings = sum(place[s] != place[s + 1] for s in range(schedule.stages - 1))
    assert timeline.bytes_sent.sum() == 2 * 4 * width * crossings * nodes.sum()
    assert (timeline.bytes_sent[:, 0] == timeline.bytes_sent[:, 1]).all()


def test_messages_of_a_link_have_its_bandwidth_one_after_another():
    schedule = make_schedule("gpipe", 2, 3)
    timeline = simulate(
        schedule, {"forward": [[1.0], [0.0]], "backward": 0.0},
        sent=10, returned=0, latency=0.5, bandwidth=5.0,
    )  # fmt: skip
    forward = [t for t in timeline.transfers if t.forward]
    assert [t.end for t in forward] == [1 + 2.5, 1 + 2 + 2.5, 1 + 4 + 2.5]


@pytest.mark.parametrize(
    ("sends", "makespan"),
    # The first device's two forwards, then the second's, each of one second; 0.5 s a message.
    [("overlap", 3.5), ("block", 4.0), ("rendezvous", 4.0)],
)
def test_what_waits_for_a_message(sends, makespan):
    schedule = make_schedule("gpipe", 2, 2)
    seconds = {"forward": 1.0, "backward": 0.0}
    timeline = simulate(schedule, seconds, sent=1, returned=0, bandwidth=2.0, sends=sends)
    assert timeline.makespan == makespan


def test_a_table_that_cannot_run_is_refused():
    schedule = make_schedule("gpipe", 2, 2)
    with pytest.raises(InputError, match="0F1 runs before 0F0"):
        simulate(replace(schedule, table=(schedule.table[0][::-1], schedule.table[1])), EQUAL)


def test_faults_are_named_together():
    with pytest.raises(InputError) as error:
        simulate(
            make_schedule("zbv", 2, 2), {"forward": [[-1.0]], "backward": 1.0},
            sent=np.ones((4, 2)), bandwidth=0.0, latency=np.nan, sends="later",
        )  # fmt: skip
    assert len(error.value.faults) == 6
    for part in (
        "runs input_grad, weight_grad", "seconds['forward'] has -1.0", "shape [4, 2], not [3, 2]",
        "not 0.0", "latency has nan", "not 'later'",
    ):  # fmt: skip
        assert part in str(error.value)


@settings(deadline=None, max_examples=20)
@given(schedule=schedules(), seed=st.integers(0, 99), shift=st.integers(-9, 9))
def test_recorded_events_make_the_same_timeline(schedule, seed, shift):
    activations = np.random.default_rng(seed).integers(1, 9, (schedule.stages, 1))
    predicted = simulate(schedule, random_costs(schedule, seed), activations=activations)
    events = [(*e[:4], e.start + shift, e.end + shift) for e in predicted.events]
    random.Random(seed).shuffle(events)
    measured = Timeline.from_events(events)
    assert measured.placement == predicted.placement
    assert measured.makespan == pytest.approx(predicted.makespan)
    assert measured.bubble == pytest.approx(predicted.bubble)
    assert measured.peak_activations == predicted.peak_activations
    assert measured.peak_stage_bytes is None
    expected = [
        n * int(a) for n, a in zip(predicted.peak_activations, activations[:, 0], strict=True)
    ]
    assert predicted.peak_stage_bytes == expected
    for device, peak in enumerate(predicted.peak_device_bytes):
        own = [expected[stage] for stage in predicted.stages_of(device)]
        assert max(own) <= peak <= sum(own)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "at least one event"),
        ([(0, "forward", 0, 0, 2.0, 1.0)], "ends before it starts"),
        ([(0, "forward", 0, 0, 0, 1), (1, "forward", 0, 1, 0, 1)], "device 1 and on another"),
        ([(0, "forward", 1, 0, 0, 1)], r"stages \[1\] only; gather"),
    ],
)
def test_records_that_make_no_timeline_are_refused(events, message):
    with pytest.raises(InputError, match=message):
        Timeline.from_events(events)


def test_pictures_traces_and_tables(tmp_path):
    schedule = make_schedule("interleaved", 2, 4)
    predicted = simulate(schedule, EQUAL, sent=4096, latency=0.1, activations=10**6)
    measured = Timeline.from_events(predicted.events)

    for picture in (
        predicted.plot(tmp_path / "a.png"),
        predicted.plot(tmp_path / "b.png", measured),
    ):
        assert picture.read_bytes().startswith(b"\x89PNG")

    trace = json.loads(predicted.save_trace(tmp_path / "trace.json", measured).read_text())
    bars = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(bars) == 2 * len(predicted.events) + len(predicted.transfers)
    computed = sum(bar["dur"] for bar in bars if bar["pid"] == 1)
    assert computed == pytest.approx(1e6 * measured.busy.sum())
    names = {e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert {"predicted", "measured", "device 1", "link 0 → 1"} <= names

    table = predicted.table()
    assert table.row_count == 4
    assert f"{predicted.makespan * 1e3:.3f} ms" in str(table.title)
    with pytest.raises(StoreError):
        predicted.plot("/proc/none.png")

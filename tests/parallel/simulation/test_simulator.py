"""The simulator: theory where it has formulas, longest paths where it has none."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import InputError, StoreError
from gnnscale.parallel.schedules import ROWS, Action, Schedule, make_schedule
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


def paths_of(schedule, seconds, sent, returned, cost, ahead) -> networkx.DiGraph:
    """What waits for what, written without the simulator: starts and ends, asking and arriving.

    Edges have what passes between the two; the longest path is the makespan.
    """
    paths = networkx.DiGraph()
    add = paths.add_edge
    place, position = schedule.placement, {}
    on_link = defaultdict(list)
    for device, row in enumerate(schedule.table):
        before = "start"
        for number, action in enumerate(row):
            position[action] = number
            kind, stage, micro_batch = action
            add(before, ("come", action), weight=0.0)
            add(("come", action), ("begin", action), weight=0.0)
            add(("begin", action), ("end", action), weight=seconds[kind][stage, micro_batch])
            before = "end", action
            reader = schedule.reader_of(action)
            if reader is not None and place[reader.stage] != device:
                on_link[device, place[reader.stage]].append((action, reader))
                size = size_of(action, reader, sent, returned)
                held = cost["sending"] + size * cost["copying"]
                add(before, ("handed", action), weight=held)
                before = "handed", action
            for need in schedule.needs(action):
                if place[need.stage] == device:
                    add(("end", need), ("begin", action), weight=0.0)
    for messages in on_link.values():
        taken = sorted((reader for _, reader in messages), key=position.get)
        earlier = None
        for action, reader in messages:
            size = size_of(action, reader, sent, returned)
            travels = size / cost["bandwidth"]
            add(("handed", action), ("leaves", reader), weight=0.0)
            if earlier is not None:
                add(("sent", earlier), ("leaves", reader), weight=0.0)
            add(("leaves", reader), ("sent", reader), weight=travels)
            add(("sent", reader), ("there", reader), weight=cost["latency"])
            add(("come", reader), ("there", reader), weight=0.0)
            add(("there", reader), ("begin", reader), weight=cost["receiving"])
            earlier = reader
        # By coming to a message a device asks for all up to it; by taking one, for one more.
        asked = min(ahead, len(messages))
        for reader in taken:
            number = [r for _, r in messages].index(reader)
            for later in messages[asked : number + 1]:
                add(("come", reader), ("leaves", later[1]), weight=0.0)
            asked = max(asked, number + 1)
            if ahead:
                for later in messages[asked : asked + 1]:
                    add(("there", reader), ("leaves", later[1]), weight=0.0)
                asked += 1
    return paths


def size_of(action, reader, sent, returned):
    boundary = min(action.stage, reader.stage)
    forward = reader.stage > action.stage
    return (sent if forward else returned)[boundary, action.micro_batch]


def messages_of(schedule: Schedule, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    crossing = (schedule.stages - 1, schedule.micro_batches)
    costs = {name: rng.uniform(0, 0.3) for name in ("latency", "sending", "receiving")}
    costs |= {"copying": rng.uniform(0, 0.01), "bandwidth": rng.uniform(50, 500)}
    return {
        "sent": rng.integers(1, 99, crossing),
        "returned": rng.integers(1, 99, crossing),
    } | costs


@settings(deadline=None, max_examples=60)
@given(schedule=schedules(), seed=st.integers(0, 99), ahead=st.sampled_from([0, 1, 2, math.inf]))
def test_makespan_is_the_longest_path(schedule, seed, ahead):
    seconds, messages = random_costs(schedule, seed), messages_of(schedule, seed)
    sent, returned = messages["sent"], messages["returned"]
    paths = paths_of(schedule, seconds, sent, returned, messages, ahead)
    timeline = simulate(schedule, seconds, ahead=ahead, **messages)
    begins = {}
    for node in networkx.topological_sort(paths):
        before = [begins[a] + w for a, _, w in paths.in_edges(node, data="weight")]
        begins[node] = max(before, default=0.0)
    for event in timeline.events:
        assert event.end == pytest.approx(begins["end", Action(*event[1:4])])
    ended = max(time for node, time in begins.items() if node[0] == "end")
    assert timeline.makespan == pytest.approx(ended)
    assert timeline.busy.sum() == pytest.approx(sum(e.end - e.start for e in timeline.events))


@settings(deadline=None, max_examples=30)
@given(schedule=schedules(), seed=st.integers(0, 99))
def test_waiting_for_messages_never_saves_time(schedule, seed):
    seconds, messages = random_costs(schedule, seed), messages_of(schedule, seed)
    asked = [math.inf, 3, 1, 0]
    found = [simulate(schedule, seconds, ahead=ahead, **messages) for ahead in asked]
    spans = [simulate(schedule, seconds).makespan, *(timeline.makespan for timeline in found)]
    assert all(few <= more + 1e-9 for few, more in pairwise(spans))
    assert all((t.bytes_sent == found[0].bytes_sent).all() for t in found)


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
    ("costs", "makespan"),
    # The first device's two forwards, then the second's, each of one second; 0.5 s a message.
    [
        ({"bandwidth": 2.0}, 3.5),
        ({"bandwidth": 2.0, "ahead": 1}, 3.5),
        ({"bandwidth": 2.0, "ahead": 0}, 4.0),
        ({"copying": 0.5}, 4.0),
        ({"receiving": 0.5}, 5.0),
    ],
)
def test_what_waits_for_a_message(costs, makespan):
    schedule = make_schedule("gpipe", 2, 2)
    seconds = {"forward": 1.0, "backward": 0.0}
    timeline = simulate(schedule, seconds, **{"sent": 1, "returned": 0, **costs})
    assert timeline.makespan == makespan


def test_a_table_that_cannot_run_is_refused():
    schedule = make_schedule("gpipe", 2, 2)
    with pytest.raises(InputError, match="0F1 runs before 0F0"):
        simulate(replace(schedule, table=(schedule.table[0][::-1], schedule.table[1])), EQUAL)


def test_faults_are_named_together():
    with pytest.raises(InputError) as error:
        simulate(
            make_schedule("zbv", 2, 2), {"forward": [[-1.0]], "backward": 1.0},
            sent=np.ones((4, 2)), bandwidth=0.0, latency=np.nan, ahead=-1,
        )  # fmt: skip
    assert len(error.value.faults) == 6
    for part in (
        "runs input_grad, weight_grad", "seconds['forward'] has -1.0", "shape [4, 2], not [3, 2]",
        "not 0.0", "latency has nan", "ahead=-1",
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

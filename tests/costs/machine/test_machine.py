"""A machine's rates: read between what was measured, and kept in a file."""

import json
import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.facts import dense, features, hop, over_rows, weight_gradient
from gnnscale.costs.machine import cached, measured
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.table import Table
from gnnscale.errors import InputError, StoreError

KERNELS = [
    dense(64, 32, 4),
    weight_gradient(dense(64, 32, 4)),
    hop(64, 4, diagonal=True),
    features(64, 4),
    over_rows(64, 4),
]
some = st.floats(1, 1e7)


@given(some, some, st.sampled_from(KERNELS), st.floats(0, 1e9))
def test_more_nodes_take_longer(machine, nodes, more, kernel, working):
    less = Sizes(nodes, 4 * nodes, entries=8 * nodes)
    larger = less._replace(nodes=nodes + more, edges=4 * (nodes + more), entries=8 * (nodes + more))
    first, second = (machine.seconds(kernel, s, working=working, wide=100) for s in (less, larger))
    assert 0 < first < second


@given(st.floats(0.5, 2e4), st.floats(0.5, 2e4))
def test_a_table_is_what_was_measured_and_lies_between(a, b):
    table = Table(("x", "y"), ((1, 100), (1, 10, 10_000)), (1, 2, 4, 8, 16, 32))
    assert table.at(1, 10) == pytest.approx(2)
    assert table.at(100, 10_000) == pytest.approx(32)
    assert table.at(10, 1) == pytest.approx((1 * 8) ** 0.5)
    found = table.at(a, b)
    assert 0.9999 <= found <= 32.0001
    assert found <= 1.0001 * table.at(2 * a, 2 * b)


@pytest.mark.parametrize(
    ("axes", "values"),
    [(((1, 2),), (1,)), (((2, 1),), (1, 1)), (((1, 2),), (1, 0)), (((0, 2),), (1, 1)), ((), ())],
)
def test_a_table_that_does_not_fit_is_refused(axes, values):
    with pytest.raises(InputError, match="a table over"):
        Table(("x",), axes, values)


def test_messages_add_up(machine):
    assert machine.message(2e6, 3) == pytest.approx(
        machine.message(1e6, 1) + machine.message(1e6, 2)
    )


def test_a_machine_goes_through_json(machine):
    assert Machine.from_json(json.loads(json.dumps(machine.to_json()))) == machine


@pytest.mark.parametrize("gone", ["tables", "fixed", "threads"])
def test_what_is_no_machine_is_refused(machine, gone):
    content = machine.to_json()
    del content[gone]
    with pytest.raises(StoreError, match="no rates of a machine"):
        Machine.from_json(content)


@pytest.fixture
def here(machine, monkeypatch, tmp_path):
    """The made-up machine, as if it were this one."""
    monkeypatch.setenv("GNNSCALE_CACHE", str(tmp_path))
    kind = cached.Kind.here()
    return type(machine)(**{**vars(machine), **vars(kind)})


def test_a_machine_is_known_once_it_was_remembered(here):
    assert cached.known() is None
    cached.remember(here)
    assert cached.known() == here


def test_other_threads_are_another_machine(here, monkeypatch):
    cached.remember(here)
    monkeypatch.setattr(torch, "get_num_threads", lambda: here.threads + 1)
    assert cached.known() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "gnnscale-machine"}'])
def test_a_damaged_file_is_said_and_left_out(here, content, caplog):
    path = cached.remember(here)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cached.known() is None
    assert "gnnscale machine --again" in caplog.text
    cached.remember(here)
    assert cached.known() == here


def test_seconds_that_are_too_few_are_refused():
    with pytest.raises(InputError, match="at least"):
        measured.measure(1)


@pytest.mark.slow
def test_this_machine_is_measured():
    found = measured.measure(6)
    assert found.threads == torch.get_num_threads()
    assert set(found.tables) >= {"dense", "sparse", "features", "rows", "dropout"}
    assert Machine.from_json(json.loads(json.dumps(found.to_json()))) == found

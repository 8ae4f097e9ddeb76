"""A machine's rates: read between what was measured, and kept in a file."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.costs.counted.amounts import Sizes
from gnnscale.costs.counted.facts import dense, features, hop, over_rows, weight_gradient
from gnnscale.costs.machine import cached, measured, ranks
from gnnscale.costs.machine.profile import Machine
from gnnscale.costs.machine.table import Table
from gnnscale.errors import InputError, StoreError
from tests.helpers.machines import made_up

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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "gnnscale-machine"}'])
def test_a_damaged_file_is_said_and_left_out(here, content, caplog):
    path = cached.remember(here)
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cached.known() is None
    assert "gnnscale machine --again" in caplog.text
    cached.remember(here)
    assert cached.known() == here


@given(st.floats(1, 1e6), st.floats(0.01, 100), st.sampled_from([8, 64]), st.booleans())
def test_a_sparse_product_takes_what_was_measured_of_its_rows_and_entries(nodes, degree, width, d):
    """Tables are of products with a diagonal, by the entries beside it."""
    axes = ((1.0, 1e6), (0.01, 1.0, 100.0), (8.0, 64.0), (4e6, 1e8))
    values = tuple(1e-10 * (1 + i) for i in range(2 * 3 * 2 * 2))
    table = Table(("rows", "entries a row", "columns", "bytes of the step"), axes, values)
    machine = replace(made_up(), tables={**made_up().tables, "sparse": table})
    sizes, working = Sizes(nodes, degree * nodes), 1e8
    moved = hop(width, 4, diagonal=d).moved.of(sizes)
    expected = nodes * (degree + 1) * width * table.at(nodes, degree, width, max(working, moved))
    found = machine.seconds(hop(width, 4, diagonal=d), sizes, working=working)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("processor\t: 0\nmodel name\t: A: B\n\nprocessor\t: 1\nmodel name\t: C\n", "A: B"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "aarch64 0x41 0xd0c"),
        ("", "aarch64"),
    ],
)
def test_processors_are_told_from_one_another(told, name, monkeypatch):
    monkeypatch.setattr(measured.Path, "read_text", lambda _: told)
    monkeypatch.setattr(measured.platform, "processor", lambda: "")
    monkeypatch.setattr(measured.platform, "machine", lambda: "aarch64")
    assert measured.processor_name() == name


@pytest.mark.parametrize("name", ["threads", "processors", "layer", "processor"])
def test_rates_are_of_what_they_were_measured_with(here, name, monkeypatch):
    """Another machine that shares the cache has rates of its own."""
    cached.remember(here)
    kind = cached.Kind.here()
    value = getattr(kind, name)
    other = replace(kind, **{name: value + 1 if isinstance(value, int) else value + "!"})
    monkeypatch.setattr(cached.Kind, "here", classmethod(lambda _: other))
    assert cached.known() is None


def test_processes_that_do_not_find_together_are_unknown_and_not_free(monkeypatch):
    monkeypatch.setattr(ranks, "__file__", "/nowhere/at/all.py")
    with ranks.two_processes() as pair:
        pair.wait()
        assert pair.message_seconds(1.0) == (None, None)
    silent = replace(made_up(), latency=None, sent=None)
    assert not silent.knows_messages
    assert Machine.from_json(json.loads(json.dumps(silent.to_json()))) == silent
    with pytest.raises(InputError, match="no message"):
        silent.message(1)


def test_seconds_that_are_too_few_are_refused():
    with pytest.raises(InputError, match="at least"):
        measured.measure(1)


@pytest.mark.slow
def test_this_machine_is_measured():
    found = measured.measure(6)
    assert found.threads == torch.get_num_threads()
    assert set(found.tables) >= {"dense", "sparse", "features", "rows", "dropout"}
    assert Machine.from_json(json.loads(json.dumps(found.to_json()))) == found

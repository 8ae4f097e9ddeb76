"""`gnnscale machine` measures once, shows what is kept, and measures anew where it is told to."""

from dataclasses import replace

import pytest

from gnnscale.costs.machine import cached, measured
from gnnscale.errors import StoreError
from tests.helpers.machines import made_up


@pytest.fixture
def times_measured(monkeypatch):
    """Measuring gives a made-up machine; the seconds that each took at most."""
    given = []
    here = replace(made_up(), **vars(cached.Kind.here()))

    def measure(seconds):
        given.append(seconds)
        return here

    monkeypatch.setattr(measured, "measure", measure)
    return given


def test_a_machine_is_measured_once_and_shown(gnnscale, times_measured):
    first = gnnscale("machine").stdout
    second = gnnscale("machine").stdout
    assert times_measured == [10.0]
    assert "measuring" in first
    assert "measuring" not in second
    for said in ("dense products", "100 billion", "10.0 GB/s", "1.60 times", "50 µs", "kept in"):
        assert said in second
    assert str(cached.Kind.here().path) in second


def test_it_is_measured_again_where_asked_for(gnnscale, times_measured):
    gnnscale("machine", "--seconds", "7")
    gnnscale("machine", "--again", "--seconds", "8")
    assert times_measured == [7.0, 8.0]


def test_tables_have_every_class_of_sizes(gnnscale, times_measured):
    told = gnnscale("machine", "--tables").stdout
    for name, table in made_up().tables.items():
        assert f"{name}, in units a nanosecond" in told
        assert all(axis in told for axis in table.names[:-1])


def test_seconds_that_are_too_few_are_a_mistake(gnnscale):
    assert "at least" in gnnscale("machine", "--seconds", "1", code=2).stderr


def test_a_disturbed_measurement_is_said(gnnscale, monkeypatch):
    here = replace(made_up(), **vars(cached.Kind.here()))
    cached.remember(here)
    assert "something else was running" not in gnnscale("machine").stdout
    cached.remember(replace(here, disturbed=0.4))
    assert "40% of the runs" in gnnscale("machine").stdout


def test_what_was_measured_is_shown_though_it_cannot_be_kept(gnnscale, times_measured, monkeypatch):
    def fails(machine):
        raise StoreError("could not write it")

    monkeypatch.setattr(cached, "remember", fails)
    told = gnnscale("machine").stdout
    assert "dense products" in told and "could not write it" in told and "kept in" not in told

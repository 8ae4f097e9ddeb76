"""A sample of `oracles.py`: nothing is wrong, nothing ends in another's error."""

import argparse
from pathlib import Path

import pytest
import torch
from rich.console import Console

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def oracles(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import oracles

    torch.set_default_dtype(torch.float64)
    yield oracles
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_layers_is_exact_or_refused_by_name(oracles):
    options = argparse.Namespace(only=[], quick=True, float32=False, show=False)
    found = oracles.run(options, Console(quiet=True))
    result = oracles.summary(found, 1e-9)
    tried = sum(result["subjects"].values())
    outcomes = [of for ways in result["counts"].values() for of in ways.values()]
    assert sum(sum(of.values()) for of in outcomes) == tried * len(oracles.KINDS) * 4
    assert tried == len(oracles.QUICK) and any("exact" in of for of in outcomes)
    told = [(name, of["not exact"]) for group in found.values() for name, of in group.items()]
    assert not oracles.faults(result), [of for of in told if set(of[1]) & set(oracles.FAULTS)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["full", "chunks", "clusters", "gradient"])
def test_what_is_off_by_a_thousandth_is_seen(oracles, monkeypatch, way):
    subject = next(s for s in oracles.GROUPS["users', local"] if s.name == "Own")
    assert oracles.try_cell(subject, "weighted", way, 1e-9).outcome == "exact"
    right = type(subject).oracle
    monkeypatch.setattr(type(subject), "oracle", lambda *given: 1.001 * right(*given))
    assert oracles.try_cell(subject, "weighted", way, 1e-9).outcome == "wrong"


def test_every_convolution_of_pyg_is_tried_or_excused(oracles):
    oracles.check_all_are_there()
    assert len(
        {subject.name for subjects in oracles.GROUPS.values() for subject in subjects}
    ) == sum(map(len, oracles.GROUPS.values()))

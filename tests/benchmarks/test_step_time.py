"""The step-time benchmark runs, its contestants train the same model, and its parts add up."""

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SOURCE = "synthetic:planted?nodes=600&communities=30&classes=4&features=12"


@pytest.fixture
def step_time(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import step_time

    # The paths are what is run here, not the figures.
    monkeypatch.setattr(step_time, "LEAD", 1)
    monkeypatch.setattr(step_time, "BURST", 2)
    return step_time


@pytest.mark.parametrize("model", ["gcn", "sage", "gin", "cluster_gcn", "gat"])
def test_contestants_train_the_same_model(step_time, model):
    from peers.contest import Case, Setup, clustered_graph

    case = Case("small", SOURCE, 30, 5, model, hidden=8)
    setup = Setup(case, clustered_graph(case.source, case.num_parts), torch.device("cpu"))
    result = step_time.contest(setup, steps=1)
    assert {"gnnscale", "PyG, edge_index", "PyG, EdgeIndex"} <= result["losses"].keys()
    assert result["contestants"].keys() == result["losses"].keys()
    assert (result["floor"] is None) == (model == "gat")


def test_a_contestant_of_another_model_is_found_out(step_time):
    from peers.contest import Case, Setup, clustered_graph
    from peers.ours import Gnnscale

    class Untrained(Gnnscale):
        name = "untrained"

        def train(self, batch):
            pass

    case = Case("small", SOURCE, 30, 5, hidden=8)
    setup = Setup(case, clustered_graph(case.source, case.num_parts), torch.device("cpu"))
    with pytest.raises(SystemExit, match=r"losses of step [1-9] differ"):
        step_time.compare_losses([Gnnscale(setup), Untrained(setup)])


def test_the_script_writes_figures_and_picture(step_time, monkeypatch, tmp_path):
    import step_profile

    monkeypatch.setattr(step_profile, "STEPS", 3)
    output = tmp_path / "step_time.json"
    arguments = f"--source {SOURCE} --scale 0.002 --cases gcn --steps 3 --profile --output {output}"
    monkeypatch.setattr(sys, "argv", ["step_time.py", *arguments.split()])
    step_time.main()
    (result,) = json.loads(output.read_text()).values()
    assert result["ratio"].keys() == {"over_fastest_peer", "over_edge_index", "over_floor"}
    assert "OMP_WAIT_POLICY" in result["environment"]
    profile = result["profile"]
    assert sum(profile["parts"].values()) == pytest.approx(profile["step"])
    assert (tmp_path / "step_profile_gcn.svg").stat().st_size > 0

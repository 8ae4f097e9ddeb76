"""`gnnscale plan`: the plan's table, its picture, and its mistakes."""

from __future__ import annotations

import pytest

from tests.cli.conftest import GRAPH

PLAN = ("plan", "--dataset", GRAPH, "--hidden-channels", "8", "--no-seconds")


def test_a_plan_is_told_and_drawn(gnnscale, elsewhere):
    done = gnnscale(*PLAN, "--memory", "1GB", "--plot", "plan.png", "--ranks", "2")
    assert "recommended" in done.output and "full batch" in done.output
    assert "ClusterTrainer(num_parts=" in done.output
    assert (elsewhere / "plan.png").exists()


def test_trainers_are_named_in_the_order_of_preference(gnnscale):
    done = gnnscale(*PLAN, "--trainer", "layerwise,cluster")
    assert "LayerwiseTrainer(batch_rows=" in done.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--memory", "1kB"), "the least is"),
        (("--trainer", "quick"), "there is no 'quick'"),
        (("--plot", "plan.svg"), "PNG"),
        (("--ranks", "0"), "ranks"),
    ],
)
def test_mistakes_are_a_line_and_code_2(gnnscale, given, said):
    assert said in gnnscale(*PLAN, *given, code=2).output


def test_a_preset_of_the_card_says_the_model(gnnscale):
    done = gnnscale("plan", "-d", "wordnet", "--memory", "2GB", "--no-seconds")
    assert "117,659 nodes" in done.output

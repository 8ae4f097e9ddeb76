"""What is evaluated, in how many passes, and who is told."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest

from gnnscale.errors import InputError, MissingDependency
from gnnscale.train.evaluators import full_graph as evaluation
from tests.helpers.small_runs import small_graph, small_trainer


def test_several_sets_are_evaluated_in_one_pass(monkeypatch):
    run = small_trainer(None)
    run.fit()
    alone = {name: run.evaluate(name) for name in ("val", "test")}
    passes, real = [], evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda *a, **o: passes.append(1) or real(*a, **o))
    assert run.evaluate(["val", "test"]) == alone
    assert run.evaluate(("test",)) == {"test": alone["test"]}
    assert len(passes) == 2


def test_sets_that_are_not_there_are_named():
    graph = small_graph()
    graph.val_mask.zero_()
    run = small_trainer(None, graph=graph)
    with pytest.raises(InputError, match="no val nodes"):
        run.evaluate(["test", "val"])
    for wrong in ("all", ["test", "all"], []):
        with pytest.raises(InputError, match="there are 'train', 'val' and 'test'"):
            run.evaluate(wrong)


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    return importlib.import_module("wandb_callback")


def test_the_wandb_example_logs_every_epoch(example, monkeypatch):
    rows, begun, summary = [], [], {}
    run = types.SimpleNamespace(
        log=lambda row, step: rows.append((step, dict(row))), summary=summary, finish=lambda: None
    )
    stub = types.ModuleType("wandb")
    stub.init = lambda **settings: begun.append(settings) or run
    monkeypatch.setitem(sys.modules, "wandb", stub)
    report = small_trainer(None, callbacks=[example.WandB("mine", group="g")]).fit()
    assert rows == [(row["epoch"], row) for row in report.rows]
    assert begun[0]["project"] == "mine" and begun[0]["group"] == "g"
    assert begun[0]["config"]["lr"] == 0.01
    assert summary["final_test_accuracy"] == report.final["test"]["accuracy"]


def test_the_wandb_example_names_what_is_missing(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingDependency, match="pip install wandb"):
        example.WandB("mine")

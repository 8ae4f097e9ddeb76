"""All layers fine-tuned together, after each by itself."""

from __future__ import annotations

import pytest

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.train import Callback, FixedEpochs
from gnnscale.train.steps.batch_step import WholeModel
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    same_course,
    small_graph,
    weights_of,
)
from tests.train.layerwise.opaque_cases import StepsUntil, clustered, gat, trainer_of

FINE_TUNE = {"epochs": 3, "num_parts": 4, "clusters_per_batch": 2, "method": "random"}


@pytest.mark.parametrize("model", [gat, lambda: gs.nn.GCN(IN, HIDDEN, 2, CLASSES)])
def test_fine_tuning_is_the_rest_of_the_report(model):
    told = []

    class Listen(Callback):
        def on_epoch_end(self, trainer, row):
            told.append((type(trainer).__name__, row["epoch"], row["layer"]))

    trainer = trainer_of(model, fine_tune={**FINE_TUNE, "keep": "last"}, callbacks=[Listen()])
    report = trainer.fit()
    assert [row["epoch"] for row in report.rows] == list(range(1, 8))
    assert [row["layer"] for row in report.rows] == [1, 1, 2, 2, *["fine-tuning"] * 3]
    name = type(trainer).__name__
    assert told == [(name, row["epoch"], row["layer"]) for row in report.rows]
    account = report.layers[-1]
    assert account["layer"] == "fine-tuning" and account["epochs"] == 3 and account["kept"]
    assert report.seconds["fine_tune"] >= account["seconds"] > 0
    assert report.seconds["total"] > report.seconds["fine_tune"]
    assert report.final["val"]["accuracy"] == account["val_accuracy"]


@pytest.mark.parametrize("lr", [0.01, 30.0])
@pytest.mark.parametrize("seed", range(2))
def test_fine_tuning_is_never_worse_on_validation(lr, seed):
    def model():
        return gs.nn.GCN(IN, HIDDEN, 2, CLASSES)

    options = {"controller": FixedEpochs(8), "seed": seed}
    greedy = trainer_of(model, **options)
    before = greedy.fit().final["val"]["accuracy"]
    tuned = trainer_of(model, **options, fine_tune={**FINE_TUNE, "lr": lr})
    report = tuned.fit()
    account = report.layers[-1]
    assert account["val_accuracy_before"] == before
    assert report.final["val"]["accuracy"] == max(before, account["val_accuracy"])
    assert account["kept"] == (account["val_accuracy"] > before)
    if not account["kept"]:
        assert_same(weights_of(tuned), weights_of(greedy))
        assert report.best_epoch == greedy.report.best_epoch


@pytest.mark.parametrize(
    ("model", "steps", "ctrl_c"),
    [
        (gat, 1, False),
        (gat, 3, True),
        (lambda: gs.nn.GCN(-1, HIDDEN, 2, CLASSES, dropout=0.3), 4, False),
    ],
)
def test_resumed_inside_fine_tuning_is_uninterrupted(model, steps, ctrl_c, tmp_path):
    fine_tune = {**FINE_TUNE, "keep": "last", "checkpoint_every": 2}
    expected = trainer_of(model, fine_tune=fine_tune)
    report = expected.fit()
    path = tmp_path
    trainer = trainer_of(model, run_dir=path, fine_tune=fine_tune)
    with StepsUntil(WholeModel, steps, ctrl_c), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert not (path / "fine_tune" / "graph").exists()  # the run has it already
    trainer = trainer_of(model, run_dir=path, fine_tune=fine_tune)
    trainer.fit()
    assert_same(weights_of(trainer), weights_of(expected))
    same_course(trainer.report, report)
    assert len(trainer.report.layers) == 3


def test_a_run_that_is_replaced_leaves_no_fine_tuning(tmp_path):
    graph = clustered(small_graph())
    fine_tune = {"epochs": 2}
    first = trainer_of(gat, graph, tmp_path, fine_tune=fine_tune).fit()
    again = trainer_of(gat, graph, tmp_path, fine_tune=fine_tune)
    same_course(again.fit(resume=False), first)
    assert again.report.seconds["fine_tune"] != first.seconds["fine_tune"]
    trainer_of(gat, graph, tmp_path).fit(resume=False)
    assert not (tmp_path / "fine_tune").exists()


def test_fine_tuning_that_diverges_gives_the_layers_back():
    def model():
        return gs.nn.GCN(IN, HIDDEN, 2, CLASSES)

    greedy = trainer_of(model)
    greedy.fit()
    trainer = trainer_of(model, fine_tune={**FINE_TUNE, "lr": 1e38})
    with pytest.raises(GnnscaleError, match=r"fine-tuning failed.*epoch"):
        trainer.fit()
    assert_same(weights_of(trainer), weights_of(greedy))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epoch": 3, "seed": 1}, "no argument epoch, seed .*there are accumulate"),
        ({"epochs": 0, "lr": -1}, "fine_tune: epochs=0.*\n.*fine_tune: lr=-1"),
        ({"num_parts": 99}, "fine_tune: num_parts=99"),
        ([3], "fine_tune=.*a dict"),
    ],
)
def test_what_fine_tuning_cannot_be_given_is_refused_at_once(given, said):
    with pytest.raises(InputError, match=said):
        trainer_of(gat, fine_tune=given)

"""Going on: a further `fit`, or more `epochs`, is one longer run, bit for bit, or is refused."""

from __future__ import annotations

import json
import signal
import tempfile

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import GnnscaleError, RunMismatch
from gnnscale.train import Callback
from gnnscale.train.session import Session
from gnnscale.train.steps.batch_step import BatchStep
from tests.helpers.graph_runs import trainer as graph_trainer
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import (
    FUNCTIONS,
    MODELS,
    Interrupt,
    Once,
    assert_same,
    same_course,
    small_graph,
    small_trainer,
    weights_of,
)


def pipeline(folder, **options):
    torch.manual_seed(7)
    settings = {"num_parts": 6, "stages": [1], "micro_batches": 2, "method": "random", **options}
    return gs.PipelineTrainer(
        MODELS["gcn"](), small_graph(), run_dir=folder, progress=False, **settings
    )


@settings(max_examples=8)
@given(
    first=st.integers(1, 3),
    way=st.sampled_from(["fit again", "more epochs", "raised", "interrupted", "same trainer"]),
    model=st.sampled_from(sorted(MODELS)),
    optimizer=st.sampled_from(["adam", "momentum"]),
    scheduler=st.sampled_from([None, "step", "plateau", "plateau-max", "lambda"]),
    early_stopping=st.sampled_from([None, None, 1, 2]),
    keep=st.sampled_from(["best", "last"]),
    evaluate_every=st.sampled_from([1, 2, 3, "auto"]),
    accumulate=st.sampled_from([1, 2]),
)
def test_a_run_that_goes_on_is_one_longer_run(first, way, **options):
    if options["model"] == "noisy":
        assume(way not in ("fit again", "more epochs"))  # whose generator is the user's in between
    whole = small_trainer(None, epochs=4, **options)
    expected = whole.fit()
    with tempfile.TemporaryDirectory() as folder:
        if way in ("fit again", "more epochs"):
            trainer = small_trainer(None, epochs=first if way == "more epochs" else 2, **options)
            assume(trainer.fit().stopped == "epochs")
            report = trainer.fit(epochs=4) if way == "more epochs" else trainer.fit()
        else:
            trainer = small_trainer(folder, epochs=first, **options)
            trainer.fit()
            torch.rand(3)
            if way != "same trainer":
                stops = [Once(first + 1)] if way == "interrupted" else []
                trainer = small_trainer(folder, epochs=4, callbacks=stops, **options)
            try:
                report = trainer.fit(epochs=4)
            except KeyboardInterrupt:
                report = small_trainer(folder, epochs=4, **options).fit()
                trainer = gs.load_run(folder, **loadable(options)).trainer
    assert_same(weights_of(trainer), weights_of(whole))
    same_course(report, expected)


def loadable(options):
    """What a run's folder does not say of it."""
    found = {
        k: FUNCTIONS[options[k]] for k in ("optimizer", "scheduler") if options[k] in FUNCTIONS
    }
    return {**found, "model": MODELS[options["model"]]()}


@pytest.mark.parametrize("make", [graph_trainer, pipeline])
@pytest.mark.parametrize("in_folder", [False, True])
def test_every_trainer_goes_on(make, in_folder, tmp_path):
    options = {"evaluate_every": 3}
    if make is graph_trainer:
        made = lambda folder, **more: make(run_dir=folder, **options, **more)  # noqa: E731
    else:
        made = lambda folder, **more: make(folder, **options, **more)  # noqa: E731
    whole = made(None, epochs=4)
    expected = whole.fit()
    trainer = made(tmp_path / "run" if in_folder else None, epochs=2)
    assert len(trainer.fit().rows) == 2
    if in_folder:
        trainer = made(tmp_path / "run", epochs=4)
    same_course(trainer.fit(), expected)
    assert_same(weights_of(trainer), weights_of(whole))


RANKS = """
if "stages" in sys.argv[1]:
    small_runs.ClusterTrainer = gs.PipelineTrainer
options, folder = json.loads(sys.argv[1]), sys.argv[2]
whole = small_runs.small_trainer(None, **{**options, "epochs": 4})
expected = whole.fit()
for place in (None, folder):
    trainer = small_runs.small_trainer(place, **options)
    trainer.fit()
    small_runs.same_course(trainer.fit(epochs=4), expected)
    small_runs.assert_same(small_runs.weights_of(trainer), small_runs.weights_of(whole))
"""


@pytest.mark.parametrize(
    "more", [{}, pytest.param({"stages": [1], "micro_batches": 2}, marks=pytest.mark.slow)]
)
def test_ranks_go_on_together(more, forks, tmp_path):
    options = {"epochs": 2, "num_parts": 14, "clusters_per_batch": 1, "evaluate_every": 3, **more}
    Ranks(forks, RANKS, 2, json.dumps(options), str(tmp_path / "run")).finish()


class StopAfter(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        trainer.stop = row["epoch"] == self.epoch


def test_what_a_callback_or_impatience_ended_goes_on_when_it_is_asked_to(tmp_path, caplog):
    options = {"evaluate_every": 3}
    whole = small_trainer(None, epochs=5, **options)
    expected = whole.fit()
    for folder in (None, tmp_path / "callback"):
        trainer = small_trainer(folder, epochs=3, callbacks=[StopAfter(2)], **options)
        assert trainer.fit().stopped == "callback"
        same_course(trainer.fit(epochs=5), expected)
        assert_same(weights_of(trainer), weights_of(whole))
    assert len(small_trainer(tmp_path / "callback", epochs=5, **options).fit().rows) == 5

    impatient = {"early_stopping": 1, "lr": 1e-12, "keep": "last"}
    stopped = small_trainer(tmp_path / "early", epochs=4, **impatient)
    assert stopped.fit().stopped == "early stopping"
    again = small_trainer(tmp_path / "early", epochs=5, **impatient).fit()  # as one of 5 would
    assert again.stopped == "early stopping" and again.rows == stopped.report.rows
    assert "greater early_stopping" in caplog.text
    patient = small_trainer(tmp_path / "early", epochs=5, **{**impatient, "early_stopping": None})
    assert len(patient.fit().rows) == 5
    with pytest.raises(RunMismatch, match="early_stopping: None in the run, 1 now"):
        small_trainer(tmp_path / "early", epochs=6, **impatient).fit()
    alone = small_trainer(None, epochs=4, **impatient)
    first, second = len(alone.fit().rows), len(alone.fit().rows)
    assert first < second < 8


def test_other_weights_in_between_are_gone_on_from():
    """Rounds of federated learning: the weights are a mean over clients each time."""
    trainer = small_trainer(None, epochs=2)
    trainer.fit()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    optimizer = trainer.optimizer
    taken = int(next(iter(optimizer.state.values()))["step"])
    report = trainer.fit()
    assert [row["epoch"] for row in report.rows] == [3, 4]
    assert report.best_epoch in (3, 4)  # not the weights of a round before
    assert trainer.optimizer is optimizer
    assert int(next(iter(optimizer.state.values()))["step"]) == 2 * taken
    trainer.start()
    assert trainer.optimizer is not optimizer
    assert [row["epoch"] for row in trainer.fit().rows] == [3, 4, 5, 6]
    assert int(next(iter(trainer.optimizer.state.values()))["step"]) == taken
    assert trainer.fit(resume=False).rows[0]["epoch"] == 1


def test_rounds_draw_other_batches(monkeypatch):
    trainer, drawn = small_trainer(None, epochs=1), []
    step = BatchStep.__call__

    def noted(self, batch, *rest):
        drawn.append(batch.clusters.tolist())
        return step(self, batch, *rest)

    monkeypatch.setattr(BatchStep, "__call__", noted)
    for _ in range(3):
        trainer.fit()
    rounds = [drawn[i : i + 3] for i in (0, 3, 6)]
    assert rounds[0] != rounds[1] != rounds[2] != rounds[0]


def test_after_ctrl_c_a_further_fit_completes_the_run():
    whole = small_trainer(None)
    expected = whole.fit()
    trainer = small_trainer(None, callbacks=[Once(2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    same_course(trainer.fit(), expected)
    assert_same(weights_of(trainer), weights_of(whole))


@pytest.mark.parametrize("step", [2, 4, 5])
def test_other_weights_after_ctrl_c_are_gone_on_from(step, monkeypatch):
    """Whatever goes wrong then, these are the weights to come back to."""
    trainer = small_trainer(None)
    with Interrupt("signal", step), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.mul_(0.5)
    given = weights_of(trainer)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "is_finite", lambda self: False)
        with pytest.raises(GnnscaleError, match="no longer finite"):
            trainer.fit()
    assert_same(weights_of(trainer), given)
    assert trainer.fit().rows[-1]["epoch"] == 3


class CtrlC(Callback):
    """Presses Ctrl-C at the end of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("interrupt", [CtrlC, Once])
@pytest.mark.parametrize("epochs", [None, 3, 4])
def test_after_ctrl_c_in_the_last_epoch_a_further_fit_finishes_the_run(epochs, interrupt):
    whole = small_trainer(None)
    expected = whole.fit(epochs=epochs)
    trainer = small_trainer(None, callbacks=[interrupt(3)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    same_course(trainer.fit(epochs=epochs), expected)
    assert_same(weights_of(trainer), weights_of(whole))


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
def test_what_depends_on_the_total_is_refused_and_the_remedy_works(scheduler, tmp_path):
    trainer = small_trainer(tmp_path / "run", scheduler=scheduler)
    trainer.fit()
    with pytest.raises(RunMismatch, match=rf"one of 3: scheduler='{scheduler}'.*another run_dir"):
        small_trainer(tmp_path / "run", epochs=4, scheduler=scheduler).fit()
    model = gs.load_run(tmp_path / "run").model
    other = gs.ClusterTrainer(
        model, small_graph(), 6, scheduler=scheduler, epochs=1, run_dir=tmp_path / "other"
    )
    assert len(other.fit().rows) == 1

    trainer = small_trainer(None, scheduler=scheduler)
    trainer.fit()
    with pytest.raises(RunMismatch, match=r"start\(\) before fit"):
        trainer.fit()
    trainer.start()
    rows = trainer.fit(epochs=7).rows
    assert rows[-1]["epoch"] == 7 and rows[3]["lr"] != rows[2]["lr"]


def test_fewer_epochs_than_there_are_is_refused(tmp_path):
    trainer = small_trainer(tmp_path)
    trainer.fit()
    assert small_trainer(tmp_path, epochs=3).fit().stopped == "epochs"
    for again in (lambda: small_trainer(tmp_path, epochs=2).fit(), lambda: trainer.fit(epochs=2)):
        with pytest.raises(RunMismatch, match=r"epochs=2, but the run in .* has trained 3 already"):
            again()
    alone = small_trainer(None)
    alone.fit()
    with pytest.raises(RunMismatch, match="epochs=2, but this trainer has trained 3 already"):
        alone.fit(epochs=2)
    before = weights_of(alone)
    alone.fit(epochs=3)
    assert_same(weights_of(alone), before)
    with pytest.raises(ValueError, match="epochs=0"):
        alone.fit(epochs=0)


@pytest.mark.parametrize("make", [graph_trainer, small_trainer])
def test_a_run_that_was_opened_goes_on(make, tmp_path):
    whole = make(run_dir=None, epochs=4)
    expected = whole.fit()
    make(run_dir=tmp_path, epochs=2).fit()
    trainer = gs.load_run(tmp_path).trainer
    trainer.predict()
    same_course(trainer.fit(epochs=4), expected)
    assert_same(weights_of(trainer), weights_of(whole))
    assert gs.load_run(tmp_path).trainer.config.epochs == 4


def test_layers_are_trained_once(tmp_path):
    def layerwise(folder, epochs=3, stop=2, interrupted=0):
        torch.manual_seed(7)
        stops = [Once(interrupted)] if interrupted else []
        return gs.LayerwiseTrainer(
            *(MODELS["gcn"](), small_graph(), gs.FixedEpochs(stop), 8),
            **{"epochs": epochs, "run_dir": folder, "callbacks": stops, "checkpoint_every": 1},
        )

    trainer = layerwise(None)
    trainer.fit()
    with pytest.raises(RunMismatch, match=r"fit\(resume=False\) begins anew"):
        trainer.fit()
    assert len(trainer.fit(resume=False).rows) == 4
    layerwise(tmp_path / "stopped").fit()
    assert len(layerwise(tmp_path / "stopped", 5).fit().rows) == 4  # its controller ended it
    layerwise(tmp_path / "run", stop=4).fit()
    with pytest.raises(RunMismatch, match="layer 1 ended by them"):
        layerwise(tmp_path / "run", 5, stop=4).fit()
    with pytest.raises(KeyboardInterrupt):
        layerwise(tmp_path / "open", 3, stop=4, interrupted=2).fit()
    whole, longer = layerwise(None, 5, stop=4), layerwise(tmp_path / "open", 5, stop=4)
    expected = whole.fit()
    same_course(longer.fit(), expected)
    assert_same(weights_of(longer), weights_of(whole))

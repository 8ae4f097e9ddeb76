"""The loop: what it keeps, when it evaluates and stops, what it predicts and what it says."""

from __future__ import annotations

import io
import logging
import math

import numpy as np
import pytest
import torch

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.graph import Graph
from gnnscale.train import Callback, ClusterTrainer, Report, TensorBoard
from gnnscale.train.evaluators.full_graph import FullGraph
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    small_graph,
    small_trainer,
    weights_of,
)


class Recorder(Callback):
    """Weights and what was called."""

    def __init__(self, log=None, name="", stop_at=None):
        self.log = [] if log is None else log
        self.name, self.stop_at, self.weights = name, stop_at, []

    def on_fit_start(self, trainer):
        self.log.append(f"{self.name}start")

    def on_epoch_end(self, trainer, row):
        self.log.append(f"{self.name}{row['epoch']}")
        self.weights.append(weights_of(trainer))
        trainer.stop = trainer.stop or row["epoch"] == self.stop_at

    def on_fit_end(self, trainer, report):
        assert report is trainer.report
        self.log.append(f"{self.name}end")


@pytest.fixture
def scripted(monkeypatch):
    """Validation metrics in a given order, whatever the weights."""

    def script(values):
        real, calls = FullGraph.evaluate, iter(values)

        def evaluate(evaluator, sets, metrics=None):
            found = real(evaluator, sets, metrics)
            if "val" in found:
                headline = next(iter(found["val"]))
                found["val"][headline] = next(calls, 0.0)
            return found

        monkeypatch.setattr(FullGraph, "evaluate", evaluate)

    return script


# --- keep, early stopping, evaluation -------------------------------------------------------------


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_kept(keep, scripted):
    scripted([0.1, 0.5, 0.9, 0.9, 0.3])  # the first of equals is the best
    recorder = Recorder()
    trainer = small_trainer(None, epochs=5, keep=keep, callbacks=[recorder])
    report = trainer.fit()
    assert report.best_epoch == 3
    assert report.best == 0.9
    assert_same(weights_of(trainer), recorder.weights[2 if keep == "best" else 4])
    test = trainer.evaluate("test")
    assert report.final["test"] == test


def test_a_metric_that_falls_is_better_lower(scripted):
    y = torch.randn(48)
    graph = small_graph()
    masks = {f"{part}_mask": graph.split()[part] for part in ("train", "val", "test")}
    graph = Graph.from_arrays(graph.edge_index, graph.x, y, task="regression", **masks)
    scripted([3.0, 2.0, math.nan, 2.5])
    model = gs.nn.GraphSAGE(IN, HIDDEN, 2, 1)
    trainer = ClusterTrainer(model, graph, epochs=4, evaluate_every=1, progress=False)
    report = trainer.fit()
    assert report.headline == "mae"
    assert report.best_epoch == 2
    assert set(report.final["test"]) == {"mae", "mse"}


@pytest.mark.parametrize(
    ("values", "every", "patience", "last"),
    [
        ([0.1, 0.5, 0.4, 0.3, 0.2, 0.1], 1, 2, 4),
        ([0.1, 0.5, 0.5, 0.6, 0.5, 0.5], 1, 2, 6),
        ([0.5, 0.6, 0.4], 2, 1, 6),  # never stopped between evaluations: nothing is known there
        ([0.5, 0.4, 0.3], 2, 3, 6),
        ([math.nan] * 6, 1, 1, 6),
    ],
)
def test_early_stopping(values, every, patience, last, scripted):
    scripted(values)
    trainer = small_trainer(None, epochs=6, evaluate_every=every, early_stopping=patience)
    report = trainer.fit()
    assert len(report.rows) == last
    assert report.stopped == ("early stopping" if last < 6 else report.stopped)


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_evaluated_every_so_often_and_at_the_end(every, expected):
    report = small_trainer(None, epochs=5, evaluate_every=every).fit()
    assert [row["epoch"] for row in report.rows if "val_accuracy" in row] == expected


def test_auto_keeps_evaluation_under_a_tenth_of_the_work():
    """A transductive evaluation costs about half an epoch; an inductive epoch is cheaper."""
    intervals = {}
    for inductive in (False, True):
        trainer = small_trainer(None, inductive=inductive)
        trainer.prepare()
        intervals[inductive] = trainer._evaluator.interval()
    assert 3 <= intervals[False] <= 12
    assert intervals[True] > intervals[False]
    report = small_trainer(None, epochs=13, evaluate_every="auto").fit()
    evaluated = [row["epoch"] for row in report.rows if "val_accuracy" in row]
    assert evaluated == [*range(intervals[False], 13, intervals[False]), 13]


def test_without_validation_nodes_the_last_weights_are_kept():
    graph = small_graph()
    graph.val_mask.zero_()
    recorder = Recorder()
    trainer = small_trainer(None, graph=graph, callbacks=[recorder])
    report = trainer.fit()
    assert report.best_epoch is None
    assert set(report.final) == {"train", "test"}
    assert_same(weights_of(trainer), recorder.weights[-1])


# --- steps -------------------------------------------------------------------------------------


def test_steps_of_ones_own_are_those_of_fit():
    fitted = small_trainer(None, epochs=1, keep="last")
    fitted.fit()
    own = small_trainer(None, epochs=1, keep="last")
    own.start()
    own.model.train()
    for batch in own.loader:
        own.step(batch)
    assert_same(weights_of(own), weights_of(fitted))


def test_gradients_are_clipped():
    norms = []

    class Norms(Callback):
        def on_step_end(self, trainer, step):
            gradients = [p.grad.norm() for p in trainer.model.parameters()]
            norms.append(float(torch.stack(gradients).norm()))

    small_trainer(None, clip_norm=0.01, callbacks=[Norms()]).fit()
    assert len(norms) == 9
    assert max(norms) <= 0.01001


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "momentum"])
def test_parameter_groups_and_optimizers(optimizer):
    trainer = small_trainer(None, optimizer=optimizer, parameter_groups="two_groups")
    trainer.fit()
    groups = trainer.optimizer.param_groups
    assert [group["lr"] for group in groups] == [0.05 if optimizer == "momentum" else 0.01, 0.001]
    assert {p.dim() for p in groups[1]["params"]} == {1}


def test_frozen_parameters_stay():
    trainer = small_trainer(None, keep="last")
    frozen = next(trainer.model.parameters()).requires_grad_(False)
    before = frozen.clone()
    trainer.fit()
    assert torch.equal(frozen, before)


def test_schedules_by_name_advance_every_step():
    report = small_trainer(None, scheduler="cosine").fit()
    expected = [0.01 * (1 + math.cos(math.pi * done / 9)) / 2 for done in (3, 6, 9)]
    assert [row["lr"] for row in report.rows] == pytest.approx(expected, abs=1e-9)
    peak = max(row["lr"] for row in small_trainer(None, scheduler="onecycle").fit().rows)
    assert peak <= 0.01


def test_schedules_of_the_user_advance_every_epoch():
    report = small_trainer(None, epochs=5, scheduler="lambda").fit()
    assert [row["lr"] for row in report.rows] == [0.01, 0.01, 0.005, 0.005, 0.0025]


def test_a_plateau_is_of_one_figure(scripted):
    """Of the metric where the mode says so, on the epochs that have it; else of the loss."""
    scripted([0.5, 0.4, 0.3])
    rates = [r["lr"] for r in small_trainer(
        None, epochs=6, evaluate_every=2, scheduler="plateau-max").fit().rows]  # fmt: skip
    assert rates == [0.01, 0.01, 0.01, 0.01, 0.005, 0.005]
    scripted([0.5, 0.6, 0.7])  # grows: for mode "min" it would be a plateau
    falling = small_trainer(None, epochs=3, scheduler="plateau", lr=0.003, model="sage").fit().rows
    losses = [row["loss"] for row in falling]
    assert losses == sorted(losses, reverse=True), "the case needs a loss that falls"
    assert [row["lr"] for row in falling] == [0.003] * 3
    graph = small_graph()
    graph.val_mask.zero_()
    with pytest.raises(InputError, match="mode='max'"):
        small_trainer(None, graph=graph, scheduler="plateau-max").fit()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(GnnscaleError, match=r"loss is (nan|inf).*smaller lr"):
        small_trainer(tmp_path, optimizer="sgd", lr=1e30, epochs=5).fit()


# --- prediction --------------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [False, True])
def test_predictions_are_in_the_original_order(fitted, tmp_path):
    graph = small_graph(weighted=True)
    trainer = small_trainer(None, graph=graph)
    if fitted:
        trainer.fit()
        assert trainer.clustered.position is not None, "else this shows nothing"
    model = trainer.model.eval()
    with torch.no_grad():
        expected = model(graph.x, graph.adj)
    torch.testing.assert_close(trainer.predict(), expected)
    torch.testing.assert_close(trainer.predict([7, 0, 7]), expected[[7, 0, 7]])
    torch.testing.assert_close(trainer.predict(graph.test_mask), expected[graph.test_mask])
    streamed = trainer.predict(out=tmp_path / "out.npy")
    torch.testing.assert_close(streamed, expected)
    assert np.array_equal(np.load(tmp_path / "out.npy"), streamed.numpy())
    embedded = trainer.embed(out=tmp_path / "embedded.npy")
    assert embedded.shape == (48, HIDDEN)
    torch.testing.assert_close(trainer.embed([3]), embedded[[3]])
    for where in ("train", "val", "test"):
        rows = graph.split()[where]
        right = (expected[rows].argmax(1) == graph.y[rows]).float().mean()
        assert trainer.evaluate(where)["accuracy"] == pytest.approx(float(right))


def test_layers_may_lie_in_files(tmp_path):
    trainer = small_trainer(None, storage=tmp_path, chunk_rows=7)
    report = trainer.fit()
    assert report.final == small_trainer(None).fit().final
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_evaluated():
    graph = small_graph()
    graph.test_mask.zero_()
    trainer = small_trainer(None, graph=graph)
    with pytest.raises(InputError, match="no test nodes"):
        trainer.evaluate()
    with pytest.raises(InputError, match="'all'"):
        trainer.evaluate("all")
    with pytest.raises(InputError, match=r"nodes holds ids in \[48, 48\]"):
        trainer.predict([48])


# --- callbacks ---------------------------------------------------------------------------------


def test_callbacks_in_order():
    log = []
    small_trainer(None, callbacks=[Recorder(log, "a"), Recorder(log, "b")]).fit()
    assert log == ["astart", "bstart", "a1", "b1", "a2", "b2", "a3", "b3", "aend", "bend"]


def test_a_callback_can_stop(tmp_path):
    recorder = Recorder(stop_at=2)
    trainer = small_trainer(tmp_path, callbacks=[recorder])
    report = trainer.fit()
    assert report.stopped == "callback"
    assert recorder.log == ["start", "1", "2", "end"]
    assert small_trainer(tmp_path).fit() == report
    report = small_trainer(None, evaluate_every=9, callbacks=[Recorder(stop_at=2)]).fit()
    assert report.best_epoch == 2 and "val_accuracy" in report.rows[-1]  # as a last epoch is


def test_tensorboard_is_told_every_figure(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Stop(Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 2:
                raise KeyboardInterrupt

    board = tmp_path / "board"
    with pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path / "run", callbacks=[TensorBoard(board), Stop()]).fit()
    report = small_trainer(tmp_path / "run", callbacks=[TensorBoard(board)]).fit()
    events = EventAccumulator(str(board))
    events.Reload()
    for name in ("loss", "val_accuracy", "lr"):
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == pytest.approx({row["epoch"]: row[name] for row in report.rows}), name


# --- silence ------------------------------------------------------------------------------------


def test_nothing_is_written_where_there_is_no_terminal(capfd, tmp_path, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    small_trainer(tmp_path, progress=True).fit()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_the_bar_on_a_terminal(monkeypatch):
    import rich.console

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    real = rich.console.Console
    monkeypatch.setattr(
        rich.console,
        "Console",
        lambda **_: real(file=screen, force_terminal=True, width=120, color_system=None),
    )
    monkeypatch.setattr("gnnscale.train.run.report.Progress._REFRESH", 0.0)
    small_trainer(None, progress=True).fit()
    shown = screen.getvalue()
    for part in ("epoch", "3/3", "val accuracy 0.", "nodes/s"):
        assert part in shown, part
    silent = Terminal()
    screen = silent
    small_trainer(None, progress=False).fit()
    assert silent.getvalue() == ""


def test_every_epoch_is_logged(caplog):
    with caplog.at_level(logging.INFO, "gnnscale.train"):
        small_trainer(None).fit()
    assert sum(message.startswith("epoch ") for message in caplog.messages) == 3


def test_the_record_is_complete(metered):
    report = small_trainer(None, method="random").fit()
    assert isinstance(report, Report)
    assert {"partition", "prepare", "train", "evaluate", "total"} <= set(report.seconds)
    assert all(value >= 0 for value in report.seconds.values())
    assert report.memory["peak_rss"] > 10**6
    assert report.run["environment"]["threads"] == torch.get_num_threads()
    assert report.run["graph"]["nodes"] == 48
    assert report.run["title"] == "GCN on graph"
    for row in report.rows:
        assert row["nodes_per_second"] > 0
        for part in ("train", "val", "test"):
            assert 0 <= row[f"{part}_f1_macro"] <= 1


def test_classes_of_the_planted_graph_are_learnt():
    report = small_trainer(None, model="sage", epochs=40, lr=0.03, evaluate_every=5).fit()
    assert report.final["train"]["accuracy"] > 2 / CLASSES

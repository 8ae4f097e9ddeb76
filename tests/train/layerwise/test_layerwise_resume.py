"""A run layer by layer, stopped anywhere, goes on to the same weights; another run is refused."""

from __future__ import annotations

import dataclasses
import os
import signal
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gnnscale as gs
from gnnscale.errors import GnnscaleError, RunMismatch
from gnnscale.train.layerwise.sessions import LayerByLayer
from gnnscale.train.layerwise.training import SectionValidator
from gnnscale.train.run.checkpoint import load_tree
from gnnscale.train.run.training_run import TrainingRun
from gnnscale.train.steps.batch_step import BatchStep
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    MODELS,
    Once,
    assert_same,
    same_course,
    small_graph,
    weights_of,
)

CONTROLLERS = {
    "fixed": lambda: gs.FixedEpochs(3),
    "plateau": lambda: gs.Plateau(patience=1, min_delta=0.05),
    "plateau of metric": lambda: gs.Plateau(patience=2, min_delta=0.01, monitor="metric"),
}
SEPARABLE = sorted(set(MODELS) - {"gat", "together", "averaging", "unused"})  # of rank_runs


def layerwise(run_dir, model="gcn", controller="fixed", graph=None, **options):
    torch.manual_seed(7)
    given_controller = CONTROLLERS[controller]() if isinstance(controller, str) else controller
    settings = {"batch_rows": 8, "epochs": 4, "checkpoint_every": 1, "progress": False, **options}
    network = MODELS[model]() if isinstance(model, str) else model
    graph = small_graph() if graph is None else graph
    return gs.LayerwiseTrainer(network, graph, given_controller, run_dir=run_dir, **settings)


def same_layers(report, expected):
    """Layers stopped after the same epochs, for the same reason, at the same figures."""
    timed = ("seconds", "aggregate_seconds")
    mine, theirs = (
        [{k: v for k, v in layer.items() if k not in timed} for layer in one.layers]
        for one in (report, expected)
    )
    assert mine == theirs


def ended(how: str) -> None:
    """Stop as an exception does at once, or as Ctrl-C does when the step is done."""
    if how == "exception":
        raise KeyboardInterrupt
    os.kill(os.getpid(), signal.SIGINT)


class Interrupted:
    """Ends a method's n-th call: a step, an evaluation of a layer, aggregation, or a checkpoint."""

    METHODS = (
        (BatchStep, "__call__"),
        (SectionValidator, "validate"),
        (LayerByLayer, "opened"),
        (LayerByLayer, "close"),
        (TrainingRun, "checkpoint"),
    )

    def __init__(self, method: tuple[type, str], how: str, at: int) -> None:
        self.method, self.how, self.at, self.calls = method, how, at, 0

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        real = getattr(*self.method)

        def counted(part, *arguments):
            self.calls += 1
            if self.calls == self.at:
                ended(self.how)
            return real(part, *arguments)

        self.patch.setattr(*self.method, counted)
        return self

    def __exit__(self, *_):
        self.patch.undo()


@pytest.fixture(autouse=True)
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


in_memory = st.builds(
    Interrupted,
    st.sampled_from(Interrupted.METHODS[:4]),
    st.just("signal"),  # what is broken off by an exception begins anew
    st.integers(1, 16),
)


@settings(max_examples=6)
@given(
    model=st.sampled_from([*SEPARABLE, "gat"]),
    controller=st.sampled_from(sorted(CONTROLLERS)),
    optimizer=st.sampled_from(["adam", "sgd"]),
    keep=st.sampled_from(["best", "last"]),
    evaluate_every=st.sampled_from([1, 2, "auto"]),
    accumulate=st.sampled_from([1, 2]),
    batch_rows=st.sampled_from([5, 8, 100]),
    stops=st.lists(in_memory, min_size=1, max_size=3),
)
def test_interrupted_in_memory_it_goes_on(stops, **options):
    whole = layerwise(None, **options)
    expected = whole.fit()
    trainer = layerwise(None, **options)
    for stop in stops:
        with stop:
            try:
                trainer.fit()
                break
            except KeyboardInterrupt:
                assert trainer.report.stopped is None
    if trainer.report.stopped is None:
        trainer.fit()
    same_course(trainer.report, expected)
    same_layers(trainer.report, expected)
    assert_same(weights_of(trainer), weights_of(whole))
    with pytest.raises(RunMismatch, match="has trained its layers"):
        trainer.fit()


class StopIn(gs.Callback):
    def on_epoch_end(self, trainer, row):
        trainer.stop = row["layer"] == 1 and row["epoch"] == 2


def test_why_it_cannot_go_on_is_said():
    trainer = layerwise(None, callbacks=[StopIn()])
    assert trainer.fit().stopped == "callback"
    with pytest.raises(RunMismatch, match="was stopped by a callback in layer 1 of 2"):
        trainer.fit()
    trainer = layerwise(None, fine_tune={"epochs": 3, "num_parts": 4}, callbacks=[Once(7)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    with pytest.raises(RunMismatch, match="left in its fine-tuning"):
        trainer.fit()


interrupts = st.builds(
    Interrupted,
    st.sampled_from(Interrupted.METHODS),
    st.sampled_from(["signal", "exception"]),
    st.integers(1, 16),
)


@settings(max_examples=6)
@given(
    model=st.sampled_from(SEPARABLE),
    controller=st.sampled_from(sorted(CONTROLLERS)),
    optimizer=st.sampled_from(["adam", "sgd"]),
    keep=st.sampled_from(["best", "last"]),
    evaluate_every=st.sampled_from([1, 2, "auto"]),
    checkpoint_every=st.sampled_from([1, 2, 3, "auto"]),
    clip_norm=st.sampled_from([None, 0.5]),
    precision=st.sampled_from(["float32", "bf16"]),
    rows_dtype=st.sampled_from(["float32", "bfloat16"]),
    inductive=st.booleans(),
    batch_rows=st.sampled_from([5, 8, 100]),
    same_object=st.booleans(),
    stops=st.lists(interrupts, min_size=1, max_size=3),
)
def test_resumed_is_uninterrupted(stops, same_object, **options):
    with tempfile.TemporaryDirectory() as folder:
        whole = layerwise(None, **options)
        expected = whole.fit()
        trainer = layerwise(folder, **options)
        for stop in stops:
            with stop:
                try:
                    trainer.fit()
                except KeyboardInterrupt:
                    torch.rand(3)  # what another user of the generator does in between
            if not same_object:
                trainer = layerwise(folder, **options)
        report = trainer.fit()
        assert_same(weights_of(trainer), weights_of(whole))
        same_course(report, expected)
        same_layers(report, expected)


@pytest.mark.parametrize("every", [4])
def test_stopped_by_a_callback_after_any_epoch(every, tmp_path):
    whole = layerwise(None, "sage", "plateau")
    expected = whole.fit()
    epochs = len(expected.rows)
    assert {row["layer"] for row in expected.rows} == {1, 2}
    for epoch in range(1, epochs + 1):
        run_dir = tmp_path / str(epoch)
        trainer = layerwise(
            run_dir, "sage", "plateau", checkpoint_every=every, callbacks=[Once(epoch)]
        )
        with pytest.raises(KeyboardInterrupt):
            trainer.fit()
        trainer = layerwise(run_dir, "sage", "plateau", checkpoint_every=every)
        report = trainer.fit()
        assert_same(weights_of(trainer), weights_of(whole))
        same_course(report, expected)
        same_layers(report, expected)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    first = layerwise(tmp_path)
    expected = first.fit()

    def refuse(*_):
        raise AssertionError("it trains")

    monkeypatch.setattr(BatchStep, "__call__", refuse)
    again = layerwise(tmp_path)
    report = again.fit()
    assert_same(weights_of(again), weights_of(first))
    same_course(report, expected)
    same_layers(report, expected)
    assert first.fit().final == expected.final


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(KeyboardInterrupt):
        layerwise(folder, callbacks=[Once(2)]).fit()
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controller": "plateau"}, "controller"),
        ({"controller": gs.FixedEpochs(4)}, "controller.*'epochs': 3.*'epochs': 4"),
        ({"lr": 0.001}, "lr: 0.005 in the run, 0.001 now"),
        ({"batch_rows": 9}, "batch_rows: 8 in the run, 9 now"),
        ({"inductive": True}, "inductive: False in the run, True now"),
        ({"rows_dtype": "float16"}, "rows_dtype"),
        ({"seed": 1}, "seed"),
        ({"graph": small_graph(seed=3)}, "graph"),
        ({"model": "sage"}, "model"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_another_run_is_refused_by_what_differs(changes, said, stopped):
    saved = (stopped / "checkpoint.safetensors").read_bytes()
    with pytest.raises(RunMismatch, match=said):
        layerwise(stopped, **changes).fit()
    assert (stopped / "checkpoint.safetensors").read_bytes() == saved


@pytest.mark.parametrize("changes", [{"storage": "."}, {"checkpoint_every": 2}])
def test_where_rows_are_kept_may_change(changes, tmp_path):
    whole = layerwise(None)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        layerwise(tmp_path, callbacks=[Once(4)]).fit()
    resumed = layerwise(tmp_path, **changes)
    resumed.fit()
    assert_same(weights_of(resumed), weights_of(whole))


class Spoils(gs.Callback):
    """Gives a parameter of a layer in training a value that is not finite, after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        self.weights = weights_of(trainer)
        if row["epoch"] == self.epoch:
            with torch.no_grad():
                next(trainer.model.blocks[row["layer"] - 1].parameters()).fill_(float("nan"))


def test_a_loss_that_is_not_finite_leaves_good_weights_and_a_good_checkpoint(tmp_path):
    spoils = Spoils(4)  # the first of the second layer
    trainer = layerwise(tmp_path, callbacks=[spoils])
    with pytest.raises(GnnscaleError, match=r"loss is nan in epoch 2 of layer 2.*smaller lr"):
        trainer.fit()
    assert_same(weights_of(trainer), spoils.weights)
    with pytest.raises(RunMismatch, match=r"lr: 0\.005 in the run, 0\.001 now"):
        layerwise(tmp_path, lr=0.001).fit()
    whole = layerwise(None)
    whole.fit()
    resumed = layerwise(tmp_path)
    resumed.fit()
    assert_same(weights_of(resumed), weights_of(whole))
    anew = layerwise(tmp_path, lr=0.001)
    assert anew.fit(resume=False).final


@pytest.mark.parametrize("batch_rows", [8, 100])
def test_too_large_a_step_is_named(batch_rows, tmp_path):
    """In the first epoch of a layer, and where its last step alone overflows."""
    graph = small_graph()
    graph = dataclasses.replace(graph, x=1e4 * graph.x)
    options = {"graph": graph, "optimizer": "sgd", "lr": 3e38, "batch_rows": batch_rows}
    trainer = layerwise(tmp_path, gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES), **options)
    start = weights_of(trainer)
    with pytest.raises(GnnscaleError, match=r"epoch 1 of layer 1.*it is 3e\+38"):
        trainer.fit()
    assert_same(weights_of(trainer), start)
    kept = load_tree(tmp_path / "checkpoint.safetensors")["model"]
    assert all(bool(value.isfinite().all()) for value in kept.values())


def test_features_that_overflow_are_named():
    graph = small_graph()
    graph = dataclasses.replace(graph, x=graph.x * 1e38)
    trainer = layerwise(None, "sage", graph=graph)
    start = weights_of(trainer)
    with pytest.raises(GnnscaleError, match=r"epoch 1 of layer 1.*features"):
        trainer.fit()
    assert_same(weights_of(trainer), start)

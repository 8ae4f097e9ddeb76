"""What every trainer does alike, for there is one loop; and how trainers are put together."""

from __future__ import annotations

import ast
import inspect
import math
from pathlib import Path

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import GnnscaleError, InputError
from gnnscale.train import TRAINERS, Callback, Trainer
from gnnscale.train.layerwise.sessions import LayerByLayer
from gnnscale.train.steps.batch_step import BatchStep
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    same_course,
    small_graph,
    weights_of,
)

KINDS = ("cluster", "graph", "layerwise", "pipeline")


def data_of(kind):
    if kind != "graph":
        return small_graph()
    pointers = torch.arange(0, 49, 4)
    graph = small_graph()
    return gs.Graph.from_arrays(
        torch.stack([torch.arange(48), torch.arange(48).view(12, 4).roll(1, 1).flatten()]),
        graph.x,
        torch.arange(12) % CLASSES,
        node_ptr=pointers,
        y_level="graph",
        num_classes=CLASSES,
        train_mask=torch.arange(48) < 24,
        val_mask=(torch.arange(48) >= 24) & (torch.arange(48) < 36),
        test_mask=torch.arange(48) >= 36,
    )


def trainer_of(kind, run_dir=None, **options):
    torch.manual_seed(7)
    own = {
        "cluster": {"num_parts": 6, "clusters_per_batch": 2, "method": "random"},
        "graph": {"graphs_per_batch": 2},
        "layerwise": {"batch_rows": 8, "controller": gs.FixedEpochs(3)},
        "pipeline": {
            "num_parts": 6, "clusters_per_batch": 1, "method": "random", "stages": [1],
            "micro_batches": 2,
        },
    }[kind]  # fmt: skip
    model = gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES, dropout=0.3)
    options = {"epochs": 3, "evaluate_every": 1, "progress": False, **own, **options}
    return TRAINERS[kind](model, data_of(kind), run_dir=run_dir, **options)


class Overflow(torch.optim.SGD):
    """Steps to infinity from its n-th step on: a loss seldom shows it before the epoch ends."""

    def __init__(self, parameters, at=4):
        super().__init__(parameters, lr=0.01)
        self.at, self.steps = at, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                if self.steps == self.at and parameter.grad is not None:
                    parameter.fill_(math.inf)
        return super().step(closure)


class Weights(Callback):
    def __init__(self):
        self.after = []

    def on_epoch_end(self, trainer, row):
        self.after.append(weights_of(trainer))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [4, 6])  # inside the second epoch, and in its last step
def test_weights_that_are_no_longer_finite_are_reverted(kind, at):
    seen = Weights()
    trainer = trainer_of(kind, optimizer=lambda p: Overflow(p, at), callbacks=[seen])
    with pytest.raises(GnnscaleError, match="the model has those from before that epoch"):
        trainer.fit()
    assert all(bool(value.isfinite().all()) for value in weights_of(trainer).values())
    if kind != "layerwise":  # whose classifier is beside the model
        assert_same(weights_of(trainer), seen.after[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_is_not_checkpointed(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path, optimizer=lambda p: Overflow(p, 4), checkpoint_every=1)
    with pytest.raises(GnnscaleError):
        trainer.fit()
    known = gs.load_run(tmp_path, optimizer=torch.optim.SGD).model.state_dict()
    assert all(bool(value.isfinite().all()) for value in known.values())


class Steps(Callback):
    """Stops after some steps of an epoch."""

    def __init__(self, epoch=None, at=None):
        self.epoch, self.at, self.seen = epoch, at, []

    def on_step_end(self, trainer, step):
        self.seen.append((trainer.epochs_done + 1, step))
        if (trainer.epochs_done + 1, step) == (self.epoch, self.at):
            trainer.stop = True


@pytest.mark.parametrize("kind", KINDS)
def test_callbacks_hear_of_every_step(kind):
    steps = Steps()
    trainer = trainer_of(kind, callbacks=[steps])
    report = trainer.fit()
    epochs = len(report.rows)  # of three updates
    each = len(steps.seen) // epochs
    assert each > 1
    assert steps.seen == [(e + 1, s + 1) for e in range(epochs) for s in range(each)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_that_stops_within_an_epoch_is_honoured(kind):
    steps = Steps(2, 1 if kind != "pipeline" else 3)
    trainer = trainer_of(kind, callbacks=[steps])
    report = trainer.fit()
    assert report.stopped == "callback"
    assert [row["epoch"] for row in report.rows] == [1]
    assert steps.seen[-1] == (2, steps.at)
    assert "test" in report.final


@pytest.mark.parametrize("kind", ["cluster", "graph", "pipeline"])
@pytest.mark.parametrize("stored", [False, True])
def test_what_was_stopped_within_an_epoch_goes_on_to_the_same_weights(kind, stored, tmp_path):
    expected = trainer_of(kind, keep="last")
    whole = expected.fit()
    folder = tmp_path if stored else None
    trainer = trainer_of(kind, folder, keep="last", epochs=2, callbacks=[Steps(2, 2)])
    trainer.fit()
    if stored:
        trainer = trainer_of(kind, folder, keep="last")
    report = trainer.fit(epochs=3)
    assert_same(weights_of(trainer), weights_of(expected))
    same_course(report, whole)


def test_a_callback_without_steps_costs_nothing():
    from gnnscale.train.run.callbacks import hears_of_steps

    class Own:
        def on_epoch_end(self, trainer, row): ...

    assert not hears_of_steps(Callback()) and not hears_of_steps(Own())
    assert not hears_of_steps(Weights()) and hears_of_steps(Steps())


def test_batches_are_refused_before_there_are_clusters():
    trainer = trainer_of("cluster")
    for name in ("loader", "clustered"):
        with pytest.raises(InputError, match="prepare"):
            getattr(trainer, name)
    given = trainer.graph
    trainer.prepare()
    assert trainer.graph is given, "its order stays"
    assert trainer.position is None
    assert len(trainer.loader) == 3
    assert torch.equal(trainer.clustered.graph.x, given.x[trainer.clustered.node_id])


def test_steps_need_a_start():
    with pytest.raises(InputError, match="start"):
        trainer_of("cluster").step(None)
    with pytest.raises(InputError, match="start"):
        _ = trainer_of("layerwise").optimizer


# --- how trainers are put together ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_trainer_overrides_anything(kind):
    trainer = TRAINERS[kind]
    assert trainer.__mro__ == (trainer, Trainer, object)
    assert not {name for name in vars(trainer) if name in vars(Trainer)} - {
        "__init__", "__doc__", "__module__", "__annotations__", "__qualname__",
        "__firstlineno__", "__static_attributes__",
    }  # fmt: skip


def test_parts_inherit_from_no_class_of_ours():
    from gnnscale.parallel.pipeline_step import PipelineStep
    from gnnscale.train.all_layers import AllLayers
    from gnnscale.train.clusters import Clusters
    from gnnscale.train.evaluators.each_graph import EachGraph
    from gnnscale.train.evaluators.full_graph import FullGraph
    from gnnscale.train.graphs import ManyGraphs
    from gnnscale.train.loop import Loop
    from gnnscale.train.run.training_run import TrainingRun

    for part in (
        PipelineStep, BatchStep, AllLayers, LayerByLayer, Clusters, ManyGraphs, EachGraph,
        FullGraph, Loop, TrainingRun,
    ):  # fmt: skip
        assert part.__mro__ == (part, object)


def test_a_weight_that_nobody_sets_or_reads_does_not_matter(tmp_path):
    """PyG's RGATConv has one: it holds what the memory held."""

    class Unset(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unset = torch.nn.Parameter(torch.full((2,), math.nan))
            self.lin = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.lin(x)

    graph = gs.load("synthetic:planted?nodes=200&features=3&classes=2")
    weights = {}
    for epochs in ([3], [1, 3]):
        torch.manual_seed(0)
        model = gs.nn.LayeredGNN([gs.nn.Block(Unset())])
        trainer = gs.ClusterTrainer(model, graph, num_parts=4, epochs=3, progress=False)
        for until in epochs:
            report = trainer.fit(epochs=until)
        assert len(report.rows) == 3
        weights[len(epochs)] = model.state_dict()
    torch.testing.assert_close(weights[1], weights[2], rtol=0, atol=0, equal_nan=True)
    in_folder = gs.ClusterTrainer(
        model, graph, num_parts=4, epochs=1, progress=False, run_dir=tmp_path / "run"
    )
    in_folder.fit()
    assert (tmp_path / "run/checkpoint.safetensors").exists()


def test_nobody_reaches_into_a_trainer():
    """Benchmarks, cross-validation and the command line use public names alone."""
    root = Path(inspect.getfile(gs)).parent
    fine = ("_asdict", "_replace")  # of named tuples
    for room in ("benchmarking", "cli"):
        for path in (root / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                    of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                    public = node.attr.startswith("__") or node.attr in fine
                    assert of_self or public, f"{path.name}:{node.lineno} {node.attr}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_is_short_and_tells_something(kind, tmp_path):
    trainer = trainer_of(kind, tmp_path)
    name = "GraphModel" if kind == "graph" else "GraphSAGE"
    assert name in repr(trainer) and "48 nodes" in repr(trainer)
    report = trainer.fit()
    run = gs.load_run(tmp_path)
    for shown in (trainer, report, run):
        assert len(repr(shown).replace(str(tmp_path), "run")) < 300, repr(shown)
    assert "3 epochs" in repr(report) or "6 epochs" in repr(report)


ONE_STOPS = """
class Stop(gs.Callback):
    def on_step_end(self, trainer, step):
        if comm.rank() == 1 and step == 1:
            trainer.stop = True

folder = sys.argv[1]
options = {"num_parts": 12, "clusters_per_batch": 1, "keep": "last"}
trainer = small_runs.small_trainer(folder, **options, epochs=1, callbacks=[Stop()])
report = trainer.fit()
assert report.stopped == "callback" and not report.rows and trainer.loader.step == 2
whole = small_runs.small_trainer(None, **options, epochs=2)
expected = whole.fit()
again = small_runs.small_trainer(folder, **options, epochs=2)
small_runs.same_course(again.fit(), expected)
small_runs.assert_same(small_runs.weights_of(again), small_runs.weights_of(whole))
"""


def test_a_rank_that_stops_within_an_epoch_stops_all(forks, tmp_path):
    """After the next step, in which they agree on it; the rest of the epoch is gone on with."""
    Ranks(forks, ONE_STOPS, 2, str(tmp_path / "run")).finish()


class Freezes(Callback):
    """Freezes a weight in the middle of a run."""

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 2:
            next(trainer.model.parameters()).requires_grad_(False)


@pytest.mark.parametrize("kind", ["cluster", "graph"])
def test_how_often_to_evaluate_is_chosen_once_before_an_epoch_is_trained(
    kind, tmp_path, monkeypatch
):
    chosen = []
    plain = trainer_of(kind, evaluate_every="auto", epochs=6)
    own = type(plain._evaluator)
    interval = own.interval

    def counted(self):
        chosen.append(len(self._setup.report.rows))
        return interval(self)

    monkeypatch.setattr(own, "interval", counted)
    plain.fit()
    assert chosen == [0]
    plain.fit(epochs=8)
    assert chosen == [0]
    evaluated = []
    for callbacks in ([], [Freezes()]):
        trainer = trainer_of(kind, evaluate_every="auto", epochs=9, callbacks=callbacks)
        trainer.fit()
        rows = trainer.report.rows
        evaluated.append([row["epoch"] for row in rows if "val_accuracy" in row])
    trainer_of(kind, tmp_path, evaluate_every="auto", epochs=4, callbacks=[Freezes()]).fit()
    resumed = trainer_of(kind, tmp_path, evaluate_every="auto", epochs=9)
    rows = resumed.fit().rows
    evaluated.append([row["epoch"] for row in rows if "val_accuracy" in row])
    assert evaluated[0] == evaluated[1] == evaluated[2]


def test_a_fault_of_what_is_chosen_comes_before_an_epoch_is_trained(monkeypatch):
    trainer = trainer_of("cluster", evaluate_every="auto")

    def broken(self):
        raise InputError("no costs")

    monkeypatch.setattr(type(trainer._evaluator), "interval", broken)
    with pytest.raises(InputError, match="no costs"):
        trainer.fit()
    assert trainer.report.rows == []

"""PipelineTrainer: the run, whatever carries its steps out."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale.errors import InputError, RunMismatch, UnsupportedModel
from gnnscale.parallel import pipeline as pipelines
from gnnscale.parallel.micro_batches import BalancedLoader
from gnnscale.parallel.pipeline_step import PipelineStep
from gnnscale.parallel.schedules import make_schedule
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import (
    assert_same,
    same_course,
    small_graph,
    weights_of,
)

DEEP = {
    "num_parts": 9, "clusters_per_batch": 1, "epochs": 2, "method": "random", "evaluate_every": 1,
    "progress": False, "scheduler": "cosine", "clip_norm": 0.3,
}  # fmt: skip


def deep(norm="batch_norm"):
    torch.manual_seed(5)
    return gs.nn.GCN(5, 6, 4, 3, dropout=0.3, norm=norm, jk="max")


def pipeline(run_dir=None, model=None, **options):
    settings = {"stages": [2], "micro_batches": 4, **DEEP, **options}
    return gs.PipelineTrainer(model or deep(), small_graph(60), run_dir=run_dir, **settings)


def accumulated(number=4, **options):
    trainer = gs.ClusterTrainer(deep(), small_graph(60), accumulate=number, **DEEP, **options)
    return trainer, trainer.fit()


@pytest.mark.parametrize(
    "layout",
    [
        {"schedule": "gpipe", "stages": [1, 3]},
        {"schedule": "1f1b", "devices": ["cpu", "cpu"]},
        {"schedule": "interleaved", "stages": [1, 2, 3], "devices": ["cpu", "cpu"]},
        {"schedule": "zbv", "stages": [1, 2, 3], "devices": 2},
        {"stages": []},
    ],
)
def test_a_run_is_that_of_accumulation(layout):
    """To the last bit; nine batches make two updates of four, and one of one."""
    expected, report = accumulated()
    mine = pipeline(**layout)
    same_course(mine.fit(), report)
    assert_same(weights_of(mine), weights_of(expected))
    assert torch.equal(mine.predict(), expected.predict())


@pytest.mark.parametrize("options", [{"inductive": True}, {"checkpoint_activations": True}])
def test_what_a_cluster_trainer_can_a_pipeline_can(options):
    expected, report = accumulated(**options)
    mine = pipeline(devices=["cpu", "cpu"], **options)
    same_course(mine.fit(), report)
    assert_same(weights_of(mine), weights_of(expected))


def test_a_first_hop_computed_before_is_read_by_the_first_stage():
    settings = {**DEEP, "precompute": True}
    one = gs.ClusterTrainer(gs.nn.GCN(5, 6, 2, 3), small_graph(60), accumulate=4, **settings)
    two = gs.PipelineTrainer(
        gs.nn.GCN(5, 6, 2, 3), small_graph(60), stages=[1], micro_batches=4, **settings
    )
    two.model.load_state_dict(one.model.state_dict())
    same_course(two.fit(), one.fit())
    assert_same(weights_of(two), weights_of(one))


def test_micro_batches_in_order_of_size_learn_the_same_but_for_rounding():
    settings = {**DEEP, "optimizer": "sgd"}
    expected = gs.ClusterTrainer(deep(None), small_graph(60), accumulate=4, **settings)
    mine = pipeline(model=deep(None), order="size", optimizer="sgd")
    assert mine.fit().final == expected.fit().final
    for key, value in weights_of(mine).items():
        torch.testing.assert_close(value, weights_of(expected)[key], rtol=1e-5, atol=1e-6)


def test_balanced_micro_batches_are_trained_on():
    trainer = pipeline(order="balanced", clusters_per_batch=3, num_parts=14)
    trainer.prepare()
    assert isinstance(trainer.loader, BalancedLoader)
    assert math.isfinite(trainer.fit().rows[-1]["loss"])


def test_one_device_says_once_that_a_pipeline_brings_nothing(caplog):
    trainer = pipeline(scheduler=None)
    with caplog.at_level(logging.WARNING, "gnnscale"):
        trainer.fit()
        trainer.fit()
    assert [r.message for r in caplog.records].count(
        "there is one device, cpu, for 2 stages: a pipeline brings nothing here, and "
        "ClusterTrainer(accumulate=4) learns the same"
    ) == 1
    caplog.clear()
    pipeline(devices=["cpu", "cpu"]).start()
    pipeline(stages=1).start()
    assert not caplog.records


class Broken(Exception):
    pass


@pytest.mark.parametrize("steps", [6, 9])
def test_a_resumed_run_is_an_uninterrupted_one(tmp_path, steps, monkeypatch):
    """Written within an update, and at the end of an epoch."""
    whole = pipeline(tmp_path / "whole", checkpoint_every=1)
    report = whole.fit()
    broken, taken = pipeline(tmp_path / "broken", checkpoint_every=1), []
    step = PipelineStep.__call__

    def breaking(self, batch, done, of):
        if len(taken) == steps:
            raise Broken
        taken.append(batch)
        return step(self, batch, done, of)

    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(PipelineStep, "__call__", breaking)
        broken.fit()
    again = pipeline(tmp_path / "broken", checkpoint_every=1)
    same_course(again.fit(resume=True), report)
    assert_same(weights_of(again), weights_of(whole))


def test_cuts_found_by_a_profile_stay_those_of_the_run(tmp_path, monkeypatch):
    trainer = pipeline(tmp_path, stages=2)
    report = trainer.fit()
    cuts = json.loads((tmp_path / "stages.json").read_text())["cuts"]
    assert cuts == [stage.numbers[0] for stage in trainer.stages[1:]]
    assert trainer.profile is not None and (tmp_path / "profile.json").exists()

    def refuse(*_, **__):
        raise AssertionError("it was profiled again")

    monkeypatch.setattr(pipelines, "profile", refuse)
    monkeypatch.setattr(pipelines, "measure_link", refuse)
    again = pipeline(tmp_path, stages=2)
    again._data.resume()
    again.start()
    assert [stage.numbers for stage in again.stages] == [s.numbers for s in trainer.stages]
    opened = gs.load_run(tmp_path, graph=small_graph(60))
    assert type(opened.trainer) is gs.PipelineTrainer
    assert opened.trainer.evaluate("test") == report.final["test"]
    with pytest.raises(RunMismatch, match="stages: 2 in the run"):
        pipeline(tmp_path, stages=[2]).fit(resume=True)


def test_steps_are_recorded_where_asked():
    trainer = pipeline(devices=["cpu", "cpu"])
    trainer.record = True
    trainer.fit()
    timeline = trainer.timeline()
    assert timeline.placement == (0, 1) and timeline.makespan > 0


def test_all_faults_are_listed_at_once():
    with pytest.raises(InputError) as caught:
        pipeline(stages=9, schedule="2f2b", micro_batches=0, order="random", lr=-1.0)
    for text in ("stages=9", "'2f2b'", "micro_batches=0", "order='random'", "lr=-1.0"):
        assert text in str(caught.value)
    with pytest.raises(InputError, match="cannot divide 5 micro-batches"):
        pipeline(schedule="interleaved", stages=[1, 2, 3], micro_batches=5)
    with pytest.raises(InputError, match="3 stages for 3 devices, not 2"):
        pipeline(devices=["cpu"] * 3)
    with pytest.raises(InputError, match="zbv"):
        pipeline(schedule="zbv", stages=[1, 2, 3], checkpoint_activations=True)


def test_stages_that_share_weights_are_refused():
    blocks = [gs.nn.Block(nn.Linear(5, 5)) for _ in range(2)]
    blocks.append(blocks[0])
    with pytest.raises(UnsupportedModel, match="share"):
        pipeline(model=gs.nn.LayeredGNN(blocks, nn.Linear(5, 3)), stages=[1]).start()


LONG = {"model": "gcn", "num_parts": 14, "clusters_per_batch": 1, "epochs": 2, "stages": [1]}
LONG |= {"micro_batches": 4, "checkpoint_every": 3, "optimizer": "momentum", "clip_norm": 0.5}
KILLED = """
small_runs.ClusterTrainer = gs.PipelineTrainer
options, folder = json.loads(sys.argv[1]), sys.argv[2]
trainer = small_runs.small_trainer(folder, **options)
from gnnscale.parallel import pipeline_step as pipelines
context, taken = pipelines.training_context, []

def counted(batch, *rest):
    taken.append(batch)
    if len(taken) == 7 and comm.rank() == 1:
        os.kill(os.getpid(), 9)
    return context(batch, *rest)

pipelines.training_context = counted
trainer.fit()
"""
GONE_ON = """
small_runs.ClusterTrainer = gs.PipelineTrainer
options, folder = json.loads(sys.argv[1]), sys.argv[2]
whole = small_runs.small_trainer(None, **options)
expected = whole.fit()
again = small_runs.small_trainer(folder, **options)
small_runs.same_course(again.fit(resume=True), expected)
small_runs.assert_same(small_runs.weights_of(again), small_runs.weights_of(whole))
"""


def test_a_device_that_dies_is_named_and_the_run_goes_on(forks, tmp_path):
    """Rank 0 waits for gradients of the micro-batches that rank 1 was killed before."""
    arguments = (2, json.dumps(LONG), str(tmp_path / "run"))
    killed = Ranks(forks, KILLED, *arguments)
    assert killed.wait() == [1, -9]
    assert "rank 1 of 2 is gone" in killed.errors()[0]
    Ranks(forks, GONE_ON, *arguments).finish()


def test_micro_batches_that_are_kept_together_count_in_memory(monkeypatch):
    monkeypatch.setattr("gnnscale.train.session._CODE", 0)

    def trainer(**options):
        return gs.PipelineTrainer(
            gs.nn.GCN(5, 64, 4, 3), small_graph(600), stages=[2], num_parts=6, clusters_per_batch=2,
            method="random", progress=False, memory="4MB", **options,
        )  # fmt: skip

    trainer(schedule="gpipe", micro_batches=1).prepare()
    with pytest.raises(InputError, match="a step on 2 clusters takes up to"):
        trainer(schedule="gpipe", micro_batches=30).prepare()
    monkeypatch.setattr(pipelines.Pipeline, "messages_ahead", lambda _: 300)
    with pytest.raises(InputError, match="a step on 2 clusters takes up to"):
        trainer(schedule="gpipe", micro_batches=1).prepare()


@pytest.mark.parametrize(("devices", "ahead"), [(1, 0), (2, 1), (4, 2)])
def test_a_message_of_every_link_is_asked_for_ahead(devices, ahead):
    of_ranks = SimpleNamespace(
        _mesh=object(), _setup=SimpleNamespace(device=torch.device("cpu")),
        schedule=make_schedule("1f1b", devices, 3),
    )  # fmt: skip
    assert pipelines.Pipeline.messages_ahead(of_ranks) == ahead


SPOILT = """
from gnnscale.errors import GnnscaleError

class Stop(gs.Callback):
    def on_step_end(self, trainer, step):
        trainer.stop = trainer.epochs_done == 1 and step == 1

class Spoil(gs.Callback):
    @torch.no_grad()
    def on_step_end(self, trainer, step):
        for parameter in trainer.learnt.parameters():
            parameter.fill_(torch.nan)

def made(folder, epochs, *callbacks):
    torch.manual_seed(7)
    return gs.PipelineTrainer(
        small_runs.MODELS["gcn"](), small_runs.small_graph(), num_parts=6, clusters_per_batch=1,
        method="random", stages=[1], micro_batches=2, epochs=epochs, evaluate_every=5, keep="last",
        progress=False, run_dir=folder, callbacks=callbacks,
    )

one_epoch = made(None, 1)
one_epoch.fit()
report = made(sys.argv[1], 2, Stop()).fit()
assert report.stopped == "callback" and len(report.rows) == 1
trainer = made(sys.argv[1], 3, Spoil())
try:
    trainer.fit()
except GnnscaleError as error:
    assert "epoch 2; the model has those from before that epoch" in str(error)
else:
    raise AssertionError
trainer.evaluate()
small_runs.assert_same(small_runs.weights_of(trainer), small_runs.weights_of(one_epoch))
"""


def test_a_resumed_epoch_goes_back_to_the_weights_of_all_stages(forks, tmp_path):
    """A checkpoint within an epoch holds the weights from before it of all stages."""
    Ranks(forks, SPOILT, 2, str(tmp_path / "run")).finish()

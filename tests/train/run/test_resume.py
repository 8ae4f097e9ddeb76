"""Resumed = uninterrupted, bit for bit, whatever a run consists of and wherever it was stopped."""

from __future__ import annotations

import signal
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph import Partition, cluster
from gnnscale.train import Report
from gnnscale.train.run.training_run import TrainingRun
from tests.helpers.small_runs import (
    MODELS,
    Interrupt,
    Once,
    assert_same,
    same_course,
    small_graph,
    small_trainer,
    weights_of,
)

SCHEDULES = [
    None, "cosine", "onecycle", "lambda", "step", "milestones", "plateau", "plateau-max", "warmup"
]  # fmt: skip


@pytest.fixture(autouse=True)
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


interrupts = st.tuples(st.sampled_from(["signal", "exception", "evaluation"]), st.integers(1, 9))


@settings(max_examples=10)
@given(
    model=st.sampled_from(sorted(MODELS)),
    optimizer=st.sampled_from(["adam", "adamw", "sgd", "momentum", "momentum-partial"]),
    scheduler=st.sampled_from(SCHEDULES),
    parameter_groups=st.sampled_from([None, "two_groups"]),
    early_stopping=st.sampled_from([None, 1, 2]),
    keep=st.sampled_from(["best", "last"]),
    evaluate_every=st.sampled_from([1, 2, "auto"]),
    checkpoint_every=st.sampled_from([1, 2, 3, 4, "auto"]),
    clip_norm=st.sampled_from([None, 0.5]),
    accumulate=st.sampled_from([1, 2]),
    precision=st.sampled_from(["float32", "bf16"]),
    checkpoint_activations=st.booleans(),
    class_weight=st.sampled_from([None, "balanced"]),
    inductive=st.booleans(),
    prefetch=st.sampled_from([0, 2]),
    same_object=st.booleans(),
    stops=st.lists(interrupts, min_size=1, max_size=3),
)
def test_resumed_is_uninterrupted(stops, same_object, **options):
    with tempfile.TemporaryDirectory() as folder:
        whole = small_trainer(None, epochs=4, **options)
        expected = whole.fit()
        trainer = small_trainer(folder, epochs=4, **options)
        for kind, at in stops:
            with Interrupt(kind, at):
                try:
                    trainer.fit()
                except KeyboardInterrupt:
                    torch.rand(3)  # what another user of the generator does in between
            if not same_object:
                trainer = small_trainer(folder, epochs=4, **options)
        report = trainer.fit()
        assert_same(weights_of(trainer), weights_of(whole))
        same_course(report, expected)


@pytest.mark.parametrize("scheduler", ["step", "plateau"])
def test_stopped_between_the_last_step_of_an_epoch_and_its_end(scheduler, tmp_path):
    """The schedule's first step then precedes the optimizer's, of which torch would warn."""
    whole = small_trainer(None, scheduler=scheduler)
    whole.fit()
    with Interrupt("evaluation", 1), pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path, scheduler=scheduler).fit()
    resumed = small_trainer(tmp_path, scheduler=scheduler)
    resumed.fit()
    assert_same(weights_of(resumed), weights_of(whole))


@pytest.mark.parametrize(("epoch", "every"), [(1, 3), (1, "auto"), (3, 1), (3, 5)])
def test_stopped_at_the_end_of_an_epoch(epoch, every, tmp_path):
    whole = small_trainer(None)
    expected = whole.fit()
    trainer = small_trainer(tmp_path, checkpoint_every=every, callbacks=[Once(epoch)])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    same_course(trainer.fit(), expected)
    assert_same(weights_of(trainer), weights_of(whole))


def test_ctrl_c_saves_the_step_it_came_in(tmp_path):
    """Without it, only the checkpoint before the first step would be there."""
    trainer = small_trainer(tmp_path, checkpoint_every="auto")
    with Interrupt("signal", 5), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with Interrupt("none", -1) as counter:
        trainer.fit()
    assert counter.calls == 9 - 5


def test_ctrl_c_leaves_a_handler_of_the_users_alone():
    got = []
    signal.signal(signal.SIGINT, lambda *_: got.append("mine"))
    with Interrupt("signal", 2):
        small_trainer(None).fit()
    assert got == ["mine"]


def test_another_thread_trains_alike(tmp_path):
    whole = small_trainer(None)
    whole.fit()
    trainer = small_trainer(tmp_path)
    thread = threading.Thread(target=trainer.fit)
    thread.start()
    thread.join(60)
    assert trainer.report.stopped == "epochs"
    assert_same(weights_of(trainer), weights_of(whole))


# --- what counts as the same run ----------------------------------------------------------------


def test_a_finished_run_trains_nothing(tmp_path):
    first = small_trainer(tmp_path)
    report = first.fit()
    for trainer in (first, small_trainer(tmp_path), small_trainer(tmp_path, prefetch=0)):
        with Interrupt("none", -1) as counter:
            again = trainer.fit()
        assert counter.calls == 0
        assert again == report
        assert_same(weights_of(trainer), weights_of(first))
        assert trainer.evaluate("test") == report.final["test"]


def test_resume_true_insists_on_a_run(tmp_path):
    with pytest.raises(RunMismatch, match="no run"):
        small_trainer(tmp_path / "none").fit(resume=True)
    with pytest.raises(RunMismatch, match="run_dir"):
        small_trainer(None).fit(resume=True)
    with pytest.raises(ValueError, match="resume='yes'"):
        small_trainer(None).fit(resume="yes")
    assert not (tmp_path / "none").exists()


def test_resume_false_replaces(tmp_path):
    small_trainer(tmp_path, seed=1, model="gat").fit()
    whole = small_trainer(None)
    whole.fit()
    trainer = small_trainer(tmp_path)
    trainer.fit(resume=False)
    assert_same(weights_of(trainer), weights_of(whole))
    assert Partition.load(tmp_path / "partition.npz").seed == 0


def test_the_kept_partition_is_that_of_the_run_not_of_an_older_one(tmp_path):
    """Also where the data was prepared before `fit` (the clusters looked at, say)."""
    small_trainer(tmp_path, seed=1, epochs=1).fit()
    trainer = small_trainer(tmp_path)
    trainer.prepare()
    assigned = trainer.clustered.partition.assignment
    trainer.fit(resume=False)
    kept = Partition.load(tmp_path / "partition.npz")
    assert torch.equal(kept.assignment, assigned)
    whole = small_trainer(None)
    whole.fit()
    assert_same(weights_of(trainer), weights_of(whole))


def test_a_run_keeps_its_partition_whatever_the_method_gives_later(tmp_path):
    calls = []

    def drifting(graph, num_parts, seed):
        calls.append(1)
        return (torch.arange(graph.num_nodes) * 7 + len(calls)) % num_parts

    whole = small_trainer(None, method=drifting)
    whole.fit()
    calls.clear()
    trainer = small_trainer(tmp_path, method=drifting)
    with Interrupt("exception", 4), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    resumed = small_trainer(tmp_path, method=drifting)
    resumed.prepare()  # before: made by another call of the method
    resumed.fit()
    assert_same(weights_of(resumed), weights_of(whole))


def test_without_its_partition_a_run_does_not_go_on(tmp_path):
    trainer = small_trainer(tmp_path)
    with Interrupt("exception", 4), pytest.raises(KeyboardInterrupt):
        trainer.fit()
    (tmp_path / "partition.npz").unlink()
    with pytest.raises(StoreError, match=r"partition\.npz"):
        small_trainer(tmp_path).fit()


def interrupted(folder: Path, **options) -> None:
    with Interrupt("exception", 4), pytest.raises(KeyboardInterrupt):
        small_trainer(folder, **options).fit()


@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_refused_and_every_difference_named(finished, tmp_path):
    small_trainer(tmp_path).fit() if finished else interrupted(tmp_path)
    other = small_trainer(
        tmp_path,
        graph=small_graph(seed=5),
        model="sage",
        lr=0.5,
        epochs=9,
        scheduler="lambda",
        optimizer="momentum-partial",
        parameter_groups="two_groups",
        class_weight=[1, 2, 3],
        metric="f1_macro",
    )
    with pytest.raises(RunMismatch) as caught:
        other.fit()
    for named in (
        "lr: 0.01 in the run, 0.5 now",
        "scheduler: None in the run, 'lambda_schedule()' now",
        "optimizer: 'adam' in the run, 'momentum(lr=0.02)' now",
        "parameter_groups: None in the run, 'two_groups()' now",
        "task class_weight: None in the run, [1.0, 2.0, 3.0] now",
        "task headline: accuracy in the run, f1_macro now",
        "graph: graph (",
        "model: convs.0.lin_l.weight: absent in the run",
        "resume=False",
    ):
        assert named in str(caught.value)


def test_a_model_of_equal_shapes_is_another_one_still(tmp_path, monkeypatch):
    import gnnscale as gs

    interrupted(tmp_path / "named")
    monkeypatch.setitem(MODELS, "gcn", lambda: gs.nn.GCN(5, 6, 2, 3, 0.7, norm="batch_norm"))
    with pytest.raises(RunMismatch, match=r"dropout: 0\.3 in the run, 0\.7 now"):
        small_trainer(tmp_path / "named").fit()

    from torch_geometric.nn import GAT

    for heads, p in ((1, 0.1), (1, 0.2)):
        monkeypatch.setitem(MODELS, "gat", lambda h=heads, p=p: GAT(5, 6, 2, 3, p, heads=h))
        if p == 0.1:
            interrupted(tmp_path / "pyg", model="gat")
    with pytest.raises(RunMismatch, match=r"p=0\.1.* in the run, .*p=0\.2.* now"):
        small_trainer(tmp_path / "pyg", model="gat").fit()


def test_other_words_for_where_and_how_fast_may_differ(tmp_path):
    whole = small_trainer(None)
    whole.fit()
    interrupted(tmp_path)
    free = {"prefetch": 0, "progress": True, "checkpoint_every": 7, "chunk_rows": 7}
    trainer = small_trainer(tmp_path, **free, storage=tmp_path, device="cpu")
    trainer.fit()
    assert_same(weights_of(trainer), weights_of(whole))


def test_a_fault_found_late_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    """The user corrects the model and calls `fit` again: no trace of the failed one is left."""
    import gnnscale as gs

    folder = tmp_path / "run"
    monkeypatch.setitem(MODELS, "wrong", lambda: gs.nn.GCN(5, 6, 2, 2))
    with pytest.raises(ValueError, match="2 outputs"):
        small_trainer(folder, model="wrong").fit()
    assert not folder.exists()
    report = small_trainer(folder, epochs=1).fit()
    with pytest.raises(ValueError, match="2 outputs"):
        small_trainer(folder, model="wrong").fit(resume=False)
    assert small_trainer(folder, epochs=1).fit(resume=True) == report


def test_a_run_killed_before_its_first_checkpoint_is_no_run_to_compare_with(tmp_path, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "checkpoint", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small_trainer(tmp_path, lr=0.5).fit()
    small_trainer(tmp_path, epochs=1).fit()


def test_an_environment_that_changed_is_warned_of(tmp_path, caplog, monkeypatch):
    interrupted(tmp_path)
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    with caplog.at_level("WARNING", "gnnscale"):
        small_trainer(tmp_path).fit()
    assert "threads" in caplog.text
    assert "not bit for bit" in caplog.text


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_clustered_graph_resumes_too(on_disk, tmp_path):
    graph = small_graph(weighted=True)
    assignment = torch.arange(graph.num_nodes) % 5
    path = tmp_path / "store" if on_disk else None

    def trainer(folder):
        clustered = cluster(graph, Partition(assignment, 5), path)
        return small_trainer(folder, graph=clustered)

    whole = trainer(None)
    expected = whole.fit()
    with Interrupt("signal", 4), pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "run").fit()
    resumed = trainer(tmp_path / "run")
    same_course(resumed.fit(resume=True), expected)
    assert_same(weights_of(resumed), weights_of(whole))


def test_report_of_a_resumed_run_counts_all_sittings(tmp_path):
    interrupted(tmp_path)
    before = Report.load(tmp_path / "report.json")
    report = small_trainer(tmp_path).fit()
    assert report.seconds["prepare"] > before.seconds["prepare"]
    assert report.seconds["total"] == pytest.approx(
        sum(v for k, v in report.seconds.items() if k != "total")
    )

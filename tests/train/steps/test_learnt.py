"""What a task has to train is trained, kept, restored and shared as the model is, everywhere."""

from __future__ import annotations

import json
from collections import deque

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale.errors import InputError, RunMismatch, UnsupportedModel
from gnnscale.train.steps.learnt import Learnt
from gnnscale.train.steps.updates import Updates
from tests.helpers.own_tasks import RUNS, TASKS, Head, OfNodes, Plain, learnt, run_of, task_of
from tests.helpers.rank_runs import Ranks
from tests.helpers.small_runs import CLASSES, IN, assert_same, small_graph, two_groups


def stop_early(trainer):
    """Between the two batches of an update where there are steps to count, else after an epoch."""
    taken = []
    trains_in_steps = not isinstance(trainer, gs.LayerwiseTrainer)

    def interrupt(*_):
        taken.append(True)
        if len(taken) == (5 if trains_in_steps else 2):
            raise KeyboardInterrupt

    callback = gs.Callback()
    setattr(callback, "on_step_end" if trains_in_steps else "on_epoch_end", interrupt)
    trainer.callbacks.append(callback)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, "head") for kind in RUNS] + [("cluster", "plain"), ("graph", "plain")]
)
def test_what_goes_on_ends_the_same(kind, name, tmp_path, bare_runs):
    """Every parameter and buffer moves; bits are equal after a break, and in `load_run`."""
    task = task_of("noisy head" if name == "head" else name)
    whole = run_of(kind, task)
    before = learnt(whole)
    torch.manual_seed(11)
    whole.fit()
    after = learnt(whole)
    moved = [k for k in after if k.startswith("task:") and not torch.equal(before[k], after[k])]
    assert len(moved) == sum(k.startswith("task:") for k in after) >= 3
    broken = run_of(kind, task_of("noisy head" if name == "head" else name), tmp_path / "run")
    stop_early(broken)
    torch.manual_seed(11)
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    again = run_of(kind, task_of("noisy head" if name == "head" else name), tmp_path / "run")
    torch.manual_seed(99)
    again.fit(resume=True)
    assert_same(learnt(again), after)
    torch.manual_seed(5)
    fresh = TASKS[name]()
    opened = gs.load_run(tmp_path / "run", task=fresh)
    assert_same(learnt(opened.trainer), after)
    third = run_of(kind, TASKS[name](), tmp_path / "run")
    third.fit()  # nothing is left to train
    assert_same(learnt(third), after)


def test_the_best_weights_are_the_tasks_too(tmp_path, bare_runs):
    kept = {}

    class Keeps(gs.Callback):
        def on_epoch_end(self, trainer, row):
            kept[row["epoch"]] = learnt(trainer)

    trainer = run_of("cluster", task_of("head"), epochs=6, lr=0.3, callbacks=[Keeps()])
    report = trainer.fit()
    assert report.best_epoch is not None and report.best_epoch < 6
    assert_same(learnt(trainer), kept[report.best_epoch])


def test_another_tasks_shapes_are_refused_by_name(tmp_path, bare_runs):
    run_of("cluster", Head(), tmp_path, epochs=1).fit()
    with pytest.raises(RunMismatch, match=r"task: inner.weight: \[\[4, 3\]"):
        run_of("cluster", Head(width=5), tmp_path, epochs=1).fit()
    with pytest.raises(RunMismatch, match=r"task: scale: absent"):
        run_of("cluster", Plain(), tmp_path, epochs=1).fit()
    other = Head()
    other.additive = False
    with pytest.raises(RunMismatch, match=r"task additive: absent in the run, False now"):
        run_of("cluster", other, tmp_path, epochs=1).fit()


@pytest.mark.parametrize(
    "groups",
    [
        None,
        two_groups,
        lambda model: model.parameters(),
        lambda model: model.named_parameters(),
        lambda model: [{"params": model.named_parameters(), "lr": 0.1}],
        lambda model: [{"params": p} for p in model.parameters()],
        "with the task's",
        "with one of the task's",
    ],
)
def test_every_parameter_is_in_one_group(groups):
    task = task_of("plain")
    own = list(Learnt(nn.Module(), task).task.parameters())
    if isinstance(groups, str):
        mine = own[:1] if "one" in groups else own
        groups = lambda model: [{"params": [*model.parameters(), *mine], "lr": 0.2}]  # noqa: E731
    trainer = run_of("cluster", task, parameter_groups=groups)
    trainer.start()
    found = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert len(set(found)) == len(found)
    assert set(found) == {id(p) for p in (*trainer.model.parameters(), *own)}


def test_clipping_is_over_all_of_it(monkeypatch):
    norms = []
    clip = Updates._clip

    def spy(self, greatest):
        clip(self, greatest)
        norms.append(float(nn.utils.get_total_norm([p.grad for p in self._parameters])))

    monkeypatch.setattr(Updates, "_clip", spy)
    task = task_of("head")
    trainer = run_of("cluster", task, clip_norm=1e-3, epochs=1)
    trainer.fit()
    assert norms == pytest.approx([1e-3] * len(norms), rel=1e-3) and norms
    assert all(p.grad is not None for p in task.parameters())


def test_modes_are_the_models():
    seen = []

    class Watches(Head):
        def loss(self, out, batch):
            seen.append((self.training, self.norm.training, torch.is_grad_enabled()))
            return super().loss(out, batch)

    trainer = run_of("cluster", Watches(), epochs=1)
    trainer.prepare()
    assert {mode for mode, _, _ in seen} == {False}
    seen.clear()
    trainer.fit()
    assert set(seen) == {(True, True, True)}
    assert int(trainer.task.calls) == len(seen)


class Holding(OfNodes):
    """Runs the model a second time, as deep graph infomax does."""

    def __init__(self, model):
        super().__init__()
        self.model, self.weight = model, nn.Parameter(torch.ones(()))

    def loss(self, out, batch):
        turned = self.model(batch.x.flip(0), batch.adj)
        return (out - self.weight * turned).square().sum()


class Inside(Holding, nn.Module):
    """The model is a module of the task."""


def test_a_task_that_holds_the_model_does_not_train_it_twice():
    model = gs.nn.GCN(IN, 4, 2, CLASSES)
    options = {"num_parts": 4, "progress": False, "method": "random", "epochs": 1}
    trainer = gs.ClusterTrainer(model, small_graph(), task=Holding(model), **options)
    assert list(dict(trainer.learnt.task.named_parameters())) == ["weight"]
    trainer.fit()
    assert trainer.task.weight.item() != 1
    inside = Inside(model)
    with pytest.raises(UnsupportedModel, match="stages cannot share weights"):
        gs.PipelineTrainer(model, small_graph(), stages=[1], task=inside, **options).fit()
    with pytest.raises(UnsupportedModel, match="parameters of the model"):
        gs.LayerwiseTrainer(model, small_graph(), task=inside, progress=False).fit()


def test_what_would_not_be_trained_is_refused_by_name():
    task = Plain()
    task.loose = [torch.zeros(3, requires_grad=True)]
    task.optimizer = torch.optim.SGD([task.scale], lr=0.1)
    with pytest.raises(InputError) as caught:
        run_of("cluster", task)
    assert "Plain.loose/0 is a tensor" in str(caught.value)
    assert "Plain.optimizer is an optimizer" in str(caught.value)


def test_a_task_holds_parameters_in_slots_its_class_and_its_parts():
    class Part:
        __slots__ = ("deep", "never")

        def __init__(self):
            self.deep = {"a.b": deque([nn.Linear(2, 2)])}

    class Holds(Plain):
        shared = nn.Parameter(torch.ones(1))

        def __init__(self):
            self.part, self.loop, self.data = Part(), self, [0.0] * 100_000

    names = dict(Learnt(nn.Module(), Holds()).task.named_parameters())
    assert set(names) == {"part/deep/a/b/0.weight", "part/deep/a/b/0.bias", "shared"}


def test_parameters_that_a_loss_makes_are_refused_by_name():
    class Late(Head):
        def loss(self, out, batch):
            if not hasattr(self, "late"):
                self.late = nn.Parameter(torch.zeros(()))
            return super().loss(out, batch) + self.late * batch.train_index.numel()

    with pytest.raises(InputError, match=r"Late.loss makes the parameters late.*__init__"):
        run_of("cluster", Late()).fit()


def test_the_headline_comes_first():
    task = Head()
    task.headline = "f1_macro"
    with pytest.raises(
        InputError, match=r"Head.headline='f1_macro', and metrics\(\) gives accuracy"
    ):
        run_of("cluster", task)


def test_state_that_no_run_can_keep_is_refused_by_name():
    class Counting(Head):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            pass

    with pytest.raises(InputError, match=r"Counting: _extra_state of its state is of dict"):
        run_of("cluster", Counting())


def test_parameters_that_a_second_trainer_would_make_anew_are_refused():
    class Anew(Head):
        def prepare(self, graph, split):
            self.inner = nn.Linear(CLASSES, 4)

    run_of("layer by layer", Anew())
    with pytest.raises(InputError, match=r"Anew.prepare makes parameters anew"):
        run_of("layer by layer", Anew(), fine_tune={"epochs": 1, "num_parts": 4})


def test_lazy_parameters_get_their_shapes(tmp_path, bare_runs):
    class Lazy(Head):
        def __init__(self):
            super().__init__()
            self.inner = nn.LazyLinear(4)
            self.unused = nn.LazyLinear(4)

    trainer = run_of("cluster", Lazy(), tmp_path, epochs=1)
    trainer.fit()
    assert trainer.task.inner.in_features == CLASSES
    opened = gs.load_run(tmp_path, task=Lazy())
    assert_same(learnt(opened.trainer), learnt(trainer))


def test_a_pipeline_learns_what_accumulation_does():
    mine = run_of("pipeline", task_of("head"))
    torch.manual_seed(7)
    model = gs.nn.GCN(IN, 6, 2, CLASSES, dropout=0.3, norm="batch_norm")
    other = run_of("cluster", task_of("head"), accumulate=2)
    other.model.load_state_dict(model.state_dict())
    mine.fit()
    other.fit()
    assert_same(learnt(mine), learnt(other))


def test_fine_tuning_that_is_not_kept_leaves_the_task_as_it_was(bare_runs):
    options = {"fine_tune": {"epochs": 1, "lr": 1e-12, "num_parts": 4, "optimizer": "sgd"}}
    plain, tuned = (run_of("layer by layer", task_of("head"), **o) for o in ({}, options))
    plain.fit()
    assert tuned.fit().layers[-1]["kept"] is False
    assert_same(learnt(tuned), learnt(plain))


def test_every_seed_of_a_benchmark_has_a_task_of_its_own(tmp_path, bare_runs):
    task = task_of("head")
    before = {k: v.clone() for k, v in task.state_dict().items()}
    options = {"num_parts": 4, "epochs": 1, "task": task, "progress": False}
    gs.bench(small_graph(), lambda: gs.nn.GCN(IN, 4, 2, CLASSES), tmp_path, runs=2, **options)
    assert_same(task.state_dict(), before)


SGD = {"optimizer": "decayed sgd", "epochs": 2}
# By name the trainer, its options, and what one process is told instead.
SHARED = {
    "module": ("cluster", {"task": "head", "clip_norm": 0.5, "accumulate": 1}, {"accumulate": 2}),
    "plain": ("cluster", {"task": "plain", "model": "sage"}, {"accumulate": 4}),
    "not additive": (
        "cluster", {"task": "in batch", "model": "gin", "accumulate": 1}, {"accumulate": 2}
    ),
    "ternary": ("cluster", {"task": "head", "gradient_compression": "ternary"}, None),
    "layers": ("layer by layer", {"task": "head", "accumulate": 1}, {"accumulate": 2}),
    "graphs": ("graph", {"task": "head", "model": "sage", "accumulate": 1}, {"accumulate": 2}),
    "stages": ("pipeline", {"task": "head"}, {}),
    "pipelines": ("pipeline", {"task": "head", "stages": 1}, {"micro_batches": 4}),
}  # fmt: skip
TRAIN = """
from tests.helpers import own_tasks
found = {}
for name, (kind, options, _) in json.loads(sys.argv[1]).items():
    task = own_tasks.task_of(options.pop("task"), 3 + comm.rank())  # what rank 0 has drawn counts
    trainer = own_tasks.run_of(kind, task, **options)
    trainer.fit()
    trainer.evaluate()  # stages share their weights
    found[name] = own_tasks.learnt(trainer)
torch.save(found, f"{sys.argv[2]}/{comm.rank()}.pt")
"""


def test_two_ranks_learn_what_one_process_does(forks, tmp_path, bare_runs):
    shared = {name: (kind, SGD | of, other) for name, (kind, of, other) in SHARED.items()}
    Ranks(forks, TRAIN, 2, json.dumps(shared), str(tmp_path)).finish()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, (kind, options, other) in shared.items():
        for of_rank in found:
            of_rank[name].pop("task:calls", None)  # each rank has called its own
        assert_same(found[0][name], found[1][name])
        if other is None:
            continue
        trainer = run_of(kind, task_of(options.pop("task")), **options | other)
        trainer.fit()
        for key, value in learnt(trainer).items():
            if key != "task:calls":
                there = found[0][name][key]
                torch.testing.assert_close(there, value, rtol=1e-6, atol=1e-6, msg=f"{name}: {key}")


def test_what_is_learnt_in_a_set_or_too_deep_is_refused():
    class InSet(gs.NodeTask):
        def __init__(self):
            super().__init__()
            self.parts = {nn.Linear(2, 2)}

    class Deep(gs.NodeTask):
        def __init__(self):
            super().__init__()
            self.chain: dict = {}
            for _ in range(20_000):
                self.chain = {"next": self.chain}

    for task, words in ((InSet(), "a list"), (Deep(), "too deep")):
        with pytest.raises(InputError, match=words):
            gs.ClusterTrainer(gs.nn.GCN(IN, 8, 2, CLASSES), small_graph(), task=task)

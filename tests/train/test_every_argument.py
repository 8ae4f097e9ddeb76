"""Every argument of every trainer acts, or is refused by name; every pass of training is one.

An argument that is taken, saved with the run and ignored is found by its absence from these lists,
or by a run that is the same with it as without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch

import gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.inference import activation_file
from gnnscale.loader import cluster_loader
from gnnscale.nn.blocks import compiling, phases
from gnnscale.nn.blocks.context import run_phases
from gnnscale.train import Callback, NodeTask
from gnnscale.train.run.expected import Expectation
from gnnscale.train.run.report import Progress
from gnnscale.train.run.training_run import TrainingRun
from gnnscale.train.steps import batch_step
from tests.helpers.small_runs import CLASSES, HIDDEN, IN, small_graph, step_schedule, two_groups

TRAINERS = {
    "cluster": gs.ClusterTrainer,
    "pipeline": gs.PipelineTrainer,
    "layerwise": gs.LayerwiseTrainer,
    "graph": gs.GraphTrainer,
}


def graph(nodes: int = 48) -> gs.Graph:
    """Parts and training nodes are uneven, so that evening them out shows; two split sets."""
    found = small_graph(nodes)
    of = torch.arange(nodes) % 3
    other = {"train": of == 0, "val": of == 1, "test": of == 2}
    return dataclasses.replace(found, splits={**found.splits, "other": gs.graph.Split(**other)})


def graphs() -> gs.Graph:
    sizes = torch.tensor([3, 4, 5, 6, 7] * 4)
    ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    whole = small_graph(int(ptr[-1]))
    number = torch.repeat_interleave(torch.arange(20), sizes)
    splits = {
        name: gs.graph.Split(
            train=(number + at) % 4 < 2, val=(number + at) % 4 == 2, test=(number + at) % 4 == 3
        )
        for at, name in enumerate(("default", "other"))
    }
    y = torch.arange(20) % CLASSES
    source, target = whole.edge_index
    within = whole.edge_index[:, number[source] == number[target]]
    adj = gs.Adjacency.from_edge_index(within, whole.num_nodes)
    return dataclasses.replace(whole, adj=adj, node_ptr=ptr, y=y, y_level="graph", splits=splits)


def model(depth: int = 2, norm: str = "batch_norm") -> gs.nn.LayeredGNN:
    return gs.nn.GCN(IN, HIDDEN, depth, CLASSES, dropout=0.3, norm=norm)


def deep() -> gs.nn.LayeredGNN:
    return model(3)


def attention() -> gs.nn.LayeredGNN:
    return gs.nn.GAT(IN, HIDDEN, 2, CLASSES)


DATA = {kind: graphs() if kind == "graph" else graph() for kind in TRAINERS}
BASE: dict[str, dict[str, Any]] = {
    "cluster": {"num_parts": 6, "clusters_per_batch": 2, "method": "contiguous"},
    "pipeline": {
        **{"num_parts": 8, "clusters_per_batch": 1, "method": "contiguous"},
        **{"stages": [1], "micro_batches": 2},
    },
    "layerwise": {"batch_rows": 8, "controller": gs.FixedEpochs(2)},
    "graph": {"graphs_per_batch": 5, "prefetch": 0},
}


@contextlib.contextmanager
def traced() -> Iterator[Counter[str]]:
    """Counts, while it lasts, what some arguments change."""
    calls: Counter[str] = Counter()

    def count(what: Callable[..., str | None] | str, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            called = what if isinstance(what, str) else what(*arguments, **options)
            calls[str(called)] += 1
            return real(*arguments, **options)

        patch.setattr(owner, name, counting)

    def passes(*_: Any) -> str:
        return "passes of training" if torch.is_grad_enabled() else "passes of evaluation"

    def shown(_: Any, total: int, done: int = 0, enabled: bool = True) -> str:
        return "progress" if enabled else "no progress"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda function, **_: function)
        for kind in (phases.Rows, phases.Propagate, phases.Statistics):
            count(passes, kind, "__call__")
        count("compiled", compiling._Fused, "__call__")
        count("checkpoints", TrainingRun, "checkpoint")
        count("files", activation_file.ActivationsInFile, "__init__")
        count("threads", cluster_loader, "ThreadPoolExecutor")
        count("warnings", batch_step.logger, "warning")
        count(shown, Progress, "__init__")
        yield calls


def fitted(kind: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(3)
    options = {"epochs": 2, "evaluate_every": 1, "progress": False, **BASE[kind], **options}
    network = options.pop("model", model)()
    data = options.pop("graph", None) or options.pop("graphs", None) or DATA[kind]
    with traced() as calls:
        made = TRAINERS[kind](network, data, **options)
        made.fit()
        made.calls = calls
        return made


class Case(NamedTuple):
    """A value of an argument, what it changes, and what it is compared beside."""

    value: Any
    shows: Callable[[Any, Any, Any], bool]
    also: dict[str, Any] = {}  # noqa: RUF012


def weights(run: Any) -> list[torch.Tensor]:
    return [value for value in run.model.state_dict().values() if value.is_floating_point()]


def learns(plain: Any, changed: Any, _: Any) -> bool:
    a, b = weights(plain), weights(changed)
    return len(a) != len(b) or any(x.shape != y.shape or not x.equal(y) for x, y in zip(a, b))  # noqa: B905


def draws(plain: Any, changed: Any, _: Any) -> bool:
    first, second = (
        [c.sort().values.tolist() for step in run.loader.steps(0) for c in step]
        for run in (plain, changed)
    )
    return first != second


def lays_out(plain: Any, changed: Any, _: Any) -> bool:
    return not torch.equal(plain.clustered.node_id, changed.clustered.node_id)


def evaluates(plain: Any, changed: Any, _: Any) -> bool:
    first, second = ([sorted(row) for row in run.report.rows] for run in (plain, changed))
    return first != second


def counts(what: str) -> Callable[[Any, Any, Any], bool]:
    """Other numbers of calls of something that `traced` counts."""
    return lambda plain, changed, _: plain.calls[what] != changed.calls[what]


class Refused(NamedTuple):
    """A value that is refused by name."""

    value: Any
    words: str
    also: dict[str, Any] = {}  # noqa: RUF012


class Told(Callback):
    def on_fit_end(self, run: Any, report: Any) -> None:
        self.run = run


def is_told(_: Any, changed: Any, value: Any) -> bool:
    return value[0].run is changed


SHARED: dict[str, Case | Refused] = {
    "model": Case(deep, learns),
    "epochs": Case(3, lambda a, b, _: len(a.report.rows) < len(b.report.rows)),
    "lr": Case(0.2, learns),
    "seed": Case(5, learns),
    "device": Refused("cuda:99", "cuda"),
    "run_dir": Case("run", lambda _, b, value: (b.folder.path / "model.safetensors").exists()),
    "evaluate_every": Case(2, evaluates),
    "optimizer": Case("sgd", learns),
    "task": Case(NodeTask(label_smoothing=0.4), learns),
    "callbacks": Case([Told()], is_told),
    "split": Case("other", learns),
    "metric": Case("f1_macro", lambda a, b, _: a.report.headline != b.report.headline),
    "weight_decay": Case(0.5, learns),
    "clip_norm": Case(1e-3, learns, {"optimizer": "sgd"}),
    "clip_value": Case(1e-3, learns, {"optimizer": "sgd"}),
    "accumulate": Case(2, learns),
    "precision": Case("bf16", learns),
    "class_weight": Case([1.0, 2.0, 5.0], learns),
    "label_smoothing": Case(0.4, learns),
    "keep": Case("last", learns, {"lr": 0.3, "epochs": 6}),
    "checkpoint_every": Case(1, counts("checkpoints"), {"run_dir": "run"}),
    "chunk_rows": Case(3, counts("passes of evaluation")),
    "progress": Case(True, counts("progress")),
}
LOOP: dict[str, Case | Refused] = {
    "scheduler": Case(step_schedule, learns, {"epochs": 4, "keep": "last"}),
    "parameter_groups": Case(two_groups, learns),
    "gradient_compression": Case("ternary", counts("warnings")),
    "checkpoint_activations": Case(True, counts("passes of training")),
    "early_stopping": Case(
        1, lambda a, b, _: len(b.report.rows) < len(a.report.rows), {"lr": 1e-12, "epochs": 4}
    ),
    "prefetch": Case(1, counts("threads"), {"prefetch": 0}),
}
INFERENCE: dict[str, Case | Refused] = {
    "storage": Case(".", counts("files")),
    "memory": Refused(1, "memory="),
}
CLUSTERS: dict[str, Case | Refused] = {
    "graph": Case(graph(60), learns),
    "num_parts": Case(4, draws),
    "clusters_per_batch": Case(3, draws),
    "inductive": Case(True, learns),
    "method": Case("random", lays_out),
    "partition_seed": Case(7, lays_out, {"method": "random"}),
    "balance": Case("edges", lays_out),
    "precompute": Case(True, learns),
    "stratify": Case(False, draws),
    "store": Case("store", lambda _, b, value: b.clustered.path is not None),
}
CASES: dict[str, dict[str, Case | Refused]] = {
    "cluster": {
        **SHARED, **LOOP, **INFERENCE, **CLUSTERS,
        "compile": Case(True, counts("compiled")),
    },
    "pipeline": {
        **SHARED, **LOOP, **INFERENCE, **CLUSTERS,
        "clusters_per_batch": Case(2, draws),
        "stages": Case([1, 2], lambda a, b, _: len(a.stages) < len(b.stages), {"model": deep}),
        "schedule": Case("gpipe", lambda a, b, _: a.schedule.table != b.schedule.table),
        "micro_batches": Case(4, learns),
        "devices": Case(["cpu"] * 2, lambda _, b, value: len(b._pipeline.devices) == len(value)),
        "order": Case("balanced", draws, {"clusters_per_batch": 2}),
    },
    "layerwise": {
        **SHARED, **INFERENCE,
        "graph": Case(graph(60), learns),
        "controller": Case(gs.FixedEpochs(1), learns),
        "batch_rows": Case(5, learns),
        "epochs": Case(1, lambda a, b, _: len(a.report.rows) > len(b.report.rows)),
        "inductive": Case(True, learns),
        "num_parts": Case(4, learns, {"model": attention}),
        "clusters_per_batch": Case(2, learns, {"model": attention, "num_parts": 4}),
        "fine_tune": Case({"epochs": 1, "num_parts": 3, "keep": "last"}, learns),
        "rows_dtype": Case("float16", learns),
        "keep": Case("last", learns, {"lr": 0.5, "controller": gs.FixedEpochs(5), "epochs": 6}),
    },
    "graph": {
        **SHARED, **LOOP,
        "graphs": Case(dataclasses.replace(graphs(), x=graphs().x * 2), learns),
        "readout": Case("max", learns),
        "graphs_per_batch": Case(3, draws),
        "memory": INFERENCE["memory"],
        "compile": Case(True, counts("compiled")),
    },
}  # fmt: skip


def taken_by(kind: str) -> list[str]:
    return [*inspect.signature(TRAINERS[kind]).parameters]


# What others take and this one does not, a case for all has.
ALL = [(kind, name) for kind in CASES for name in taken_by(kind) if name in CASES[kind]]


@pytest.mark.parametrize("kind", TRAINERS)
def test_every_argument_has_a_case(kind):
    assert set(taken_by(kind)) - CASES[kind].keys() == set()


PLAIN: dict[tuple[str, str], Any] = {}  # runs without the argument


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[f"{k}-{n}" for k, n in ALL])
def test_every_argument_acts(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = CASES[kind][name]
    if isinstance(case, Refused):
        with pytest.raises(InputError, match=case.words):
            fitted(kind, {**case.also, name: case.value})
        return
    key = (kind, repr(case.also))
    plain = PLAIN[key] = PLAIN.get(key) or fitted(kind, case.also)
    assert case.shows(plain, fitted(kind, {**case.also, name: case.value}), case.value)


@pytest.mark.parametrize("kind", ["cluster", "pipeline", "graph"])
def test_no_entry_moves_further_than_its_gradient_may(kind):
    sgd = functools.partial(torch.optim.SGD, lr=1.0)
    options = {"optimizer": sgd, "epochs": 1, "keep": "last", "clip_value": 1e-3}
    run = fitted(kind, options)
    torch.manual_seed(3)  # as `fitted` builds its model
    before = [parameter.detach() for parameter in model().parameters()]
    after = [parameter.detach() for parameter in run.model.parameters()]
    moved = max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True))
    assert 0 < moved <= 1.001e-3 * len(run.loader)


def test_what_a_function_sets_is_not_taken_beside_it():
    with pytest.raises(InputError, match=r"weight_decay=0\.1: optimizer=SGD\(\) is a function"):
        fitted("cluster", {"optimizer": torch.optim.SGD, "weight_decay": 0.1})


def test_how_to_cluster_what_comes_in_clusters_is_spoken_of(caplog):
    data = gs.cluster(graph(), gs.partition(graph(), 6, method="contiguous"))
    options = {"graph": data, "num_parts": None, "balance": "edges"}
    fitted("cluster", options)
    assert "method, balance: the graph comes in clusters" in caplog.text


@pytest.mark.parametrize("name", ["num_parts", "clusters_per_batch"])
def test_clusters_that_no_layer_is_trained_on_are_spoken_of(name, caplog):
    fitted("layerwise", {name: 3})
    assert "num_parts and clusters_per_batch do nothing here" in caplog.text


def runner_in(run: Any) -> Any:
    """How the phases of what is in training are run."""
    return getattr(run._sessions.open.trained, "runner", run_phases)


@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_every_pass_of_training_is_one(kind, checkpointed, monkeypatch):
    """In training mode, with the run's seed, the epoch, the step and the runner asked for."""
    if checkpointed and kind == "layerwise":
        return  # which takes no other runner
    # Costs are counted by passes of their own, on pieces made up for it: not the run's.
    monkeypatch.setattr(Expectation, "_try", lambda *_: None)
    seen: set[tuple[Any, ...]] = set()
    options: dict[str, Any] = {"seed": 11, "epochs": 2}
    if checkpointed:
        options["checkpoint_activations"] = True

    class Watch(Callback):
        def on_fit_start(self, run: Any) -> None:
            for phase in (phases.Rows, phases.Propagate, phases.Statistics, phases.Dropout):
                real = phase.__call__

                def watched(self: Any, x: Any, ctx: Any, real: Any = real) -> Any:
                    if torch.is_grad_enabled():
                        runner = ctx.runner is runner_in(run)
                        seen.add((ctx.training, ctx.seed, runner, ctx.epoch, ctx.step))
                    return real(self, x, ctx)

                monkeypatch.setattr(phase, "__call__", watched)

    run = fitted(kind, {**options, "callbacks": [Watch()]})
    assert {(training, seed, runner) for training, seed, runner, *_ in seen} == {(True, 11, True)}
    assert {epoch for *_, epoch, _ in seen} == {0, 1}
    steps = {"layerwise": 3}.get(kind) or len(run.loader)
    assert {step for *_, step in seen} == set(range(steps))
    if kind != "layerwise":
        assert (runner_in(run) is run_phases) != checkpointed

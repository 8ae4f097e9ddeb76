"""How a step is computed: accumulation, mixed precision, recomputation, compilation."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.nn import GraphNorm, PairNorm

import gnnscale as gs
from gnnscale.errors import InputError, MissingDependency, RunMismatch
from gnnscale.graph import Graph, Partition, cluster
from gnnscale.nn.blocks.compiling import CompiledRows
from gnnscale.nn.blocks.phases import Rows, Statistics
from gnnscale.train import ClusterTrainer
from gnnscale.train.options import ClusterOptions
from gnnscale.train.steps import batch_step
from gnnscale.train.steps import updates as precision
from tests.helpers.small_runs import (
    CLASSES,
    HIDDEN,
    IN,
    assert_same,
    same_course,
    small_graph,
    small_trainer,
    weights_of,
)
from tests.train.run.test_resume import Interrupt

# --- accumulation -------------------------------------------------------------------------------


def disconnected(parts: int, size: int, seed: int) -> gs.ClusteredGraph:
    """Clusters without links between them; some have no training node, most not equally many."""
    random = torch.Generator().manual_seed(seed)
    nodes = parts * size
    of = torch.arange(nodes) // size
    edges = torch.randint(0, nodes, (2, 5 * nodes), generator=random)
    edges[1] = of[edges[0]] * size + edges[1] % size
    x = torch.randn(nodes, IN, generator=random, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (nodes,), generator=random)
    train = torch.rand(nodes, generator=random) < 0.3
    train[0] = True
    graph = Graph.from_arrays(edges, x, y, num_classes=CLASSES, train_mask=train, val_mask=~train)
    return cluster(graph, Partition(of, parts))


@settings(max_examples=8)
@given(
    parts=st.integers(2, 7),
    clusters=st.integers(1, 3),
    accumulate=st.integers(2, 4),
    clip_norm=st.sampled_from([None, 0.1]),
    scheduler=st.sampled_from([None, "cosine"]),
    seed=st.integers(0, 99),
)
def test_accumulated_batches_are_one_batch(parts, clusters, accumulate, seed, **options):
    assume(parts > clusters)
    clustered = disconnected(parts, 6, seed)
    weights = []
    for k, q in ((accumulate, clusters), (1, min(accumulate * clusters, parts))):
        torch.manual_seed(seed)
        model = gs.nn.GraphSAGE(IN, HIDDEN, 2, CLASSES).double()
        run = ClusterTrainer(
            model, clustered, clusters_per_batch=q, accumulate=k, epochs=2, optimizer="sgd", lr=0.1,
            keep="last", progress=False, prefetch=0, **options,
        )  # fmt: skip
        run.loader.shuffle = False  # else the clusters of k batches are not those of one
        run.fit()
        weights.append(weights_of(run))
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-10, atol=1e-12)


def test_a_schedule_counts_updates():
    """Three batches an epoch are two updates, the second of one batch."""
    run = small_trainer(None, accumulate=2, epochs=2, scheduler="cosine")
    run.fit()
    assert run._sessions.open.step.updates.scheduler.last_epoch == 4
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("at", [2, 3, 6, 7])
def test_stopped_within_an_update(at, tmp_path):
    """And at the end of one, at that of an epoch, and in the next epoch's first."""
    options = {"accumulate": 3, "clusters_per_batch": 1, "epochs": 2, "clip_norm": 0.5}
    whole = small_trainer(None, **options)
    expected = whole.fit()
    with Interrupt("signal", at), pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path, checkpoint_every="auto", **options).fit()
    resumed = small_trainer(tmp_path, **options)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))


# --- mixed precision ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gcn", "sage", "gin", "gat"])
def test_bf16_learns_as_float32_does(model):
    options = {"epochs": 6, "model": model, "keep": "last"}
    runs = {name: small_trainer(None, precision=name, **options) for name in ("float32", "bf16")}
    losses = {name: [row["loss"] for row in run.fit().rows] for name, run in runs.items()}
    assert losses["bf16"] != losses["float32"]
    torch.testing.assert_close(losses["bf16"], losses["float32"], rtol=0.08, atol=0.03)
    mixed = runs["bf16"]
    assert {p.dtype for p in mixed.model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in mixed.model.parameters()} == {torch.float32}
    state = [v for s in mixed.optimizer.state.values() for v in s.values()]
    assert {v.dtype for v in state if isinstance(v, torch.Tensor)} == {torch.float32}
    assert mixed.predict().dtype == torch.float32


def test_bf16_with_sparse_features():
    graph = small_graph()
    sparse = copy.copy(graph)
    sparse.x = gs.kernels.CSR.from_dense(graph.x * (graph.x > 0))
    report = small_trainer(None, graph=sparse, precision="bf16").fit()
    assert report.rows[-1]["loss"] < report.rows[0]["loss"]


@pytest.mark.parametrize(
    "phase",
    [
        Statistics(GraphNorm(HIDDEN)),
        Statistics(PairNorm()),
        Statistics(nn.BatchNorm1d(HIDDEN)),
        Rows(nn.LayerNorm(HIDDEN)),
    ],
)
def test_norms_are_of_float32(phase):
    """Under autocast a norm gives what it gives in float32 of the same rounded rows."""
    rows = (100 + torch.randn(3000, HIDDEN)).bfloat16()
    context = gs.nn.Context(None, training=True)
    expected = copy.deepcopy(phase)(rows.float(), context)
    with torch.autocast("cpu", torch.bfloat16):
        found = phase(rows, context)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_what_a_device_cannot_is_refused():
    with pytest.raises(InputError, match=r"precision='fp16' on cpu: .*use 'bf16'"):
        small_trainer(None, precision="fp16")
    assert "no autocast" in precision.precision_faults("bf16", torch.device("meta"))[0]
    with pytest.raises(InputError) as caught:
        small_trainer(None, precision="half", accumulate=0, compile=1, checkpoint_activations=None)
    assert len(caught.value.faults) == 4


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_the_scale_of_fp16_is_part_of_the_state(optimizer, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "precision_faults", lambda *_: [])
    monkeypatch.setattr("gnnscale.train.arguments.precision_faults", lambda *_: [])
    options = {
        "precision": "fp16", "epochs": 8, "scheduler": "cosine", "clip_norm": 1.0,
        "accumulate": 2, "optimizer": optimizer, "keep": "last",
    }  # fmt: skip

    class Scaled(precision.MixedPrecision):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=3)

    monkeypatch.setattr(batch_step, "MixedPrecision", Scaled)

    def make(folder):
        return small_trainer(folder, **options)

    whole = make(None)
    expected = whole.fit()
    scale = whole._sessions.open.step._precision.scaler.get_scale()
    assert scale < 2.0**20, "the case needs steps that overflow"
    assert expected.rows[-1]["loss"] < expected.rows[0]["loss"]
    with Interrupt("signal", 7), pytest.raises(KeyboardInterrupt):
        make(tmp_path).fit()
    resumed = make(tmp_path)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))


# --- recomputation and compilation ----------------------------------------------------------------


@pytest.mark.parametrize("model", ["gcn", "sage", "gat", "noisy"])
def test_recomputed_activations_give_the_same_run(model, tmp_path):
    whole = small_trainer(None, model=model)
    expected = whole.fit()
    with Interrupt("exception", 5), pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path, model=model).fit()
    resumed = small_trainer(tmp_path, model=model, checkpoint_activations=True)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo's own
def test_a_compiled_run_resumes(tmp_path, monkeypatch):
    fast = functools.partial(CompiledRows, backend="aot_eager")
    monkeypatch.setattr(batch_step, "CompiledRows", fast)
    eager = small_trainer(None, model="sage").fit()
    whole = small_trainer(None, model="sage", compile=True)
    expected = whole.fit()
    for row, other in zip(expected.rows, eager.rows, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    with Interrupt("exception", 5), pytest.raises(KeyboardInterrupt):
        small_trainer(tmp_path, model="sage", compile=True).fit()
    with pytest.raises(RunMismatch, match="compile: True in the run, False now"):
        small_trainer(tmp_path, model="sage").fit()
    resumed = small_trainer(tmp_path, model="sage", compile=True)
    same_course(resumed.fit(), expected)
    assert_same(weights_of(resumed), weights_of(whole))


def test_a_missing_compiler_is_found_before_the_run_begins(tmp_path):
    from torch._inductor import config

    without = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(MissingDependency):
        small_trainer(tmp_path / "run", compile=True).fit()
    assert not (tmp_path / "run").exists()


# --- the record -----------------------------------------------------------------------------------


def test_a_run_of_before_an_argument_was_there_goes_on():
    """What it did then is the default now."""
    saved = ClusterOptions(None, None, lr=0.5).saved()
    for name in ("accumulate", "precision", "compile", "checkpoint_activations"):
        del saved[name]
    assert ClusterOptions(None, None, lr=0.5).differences(saved) == []
    named = ClusterOptions(None, None, lr=0.5, precision="bf16").differences(saved)
    assert named == ["precision: 'float32' in the run, 'bf16' now"]


def test_the_report_tells_the_arguments():
    run = small_trainer(None, epochs=1, precision="bf16", accumulate=2)
    assert run.fit().run["config"] == run.config.saved()

"""`gnnscale train`: the same words as Python, presets, resuming."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

import gnnscale as gs
from gnnscale.cli import app
from gnnscale.cli.options import DECLARED, read_table
from gnnscale.cli.settings import MODEL_DEFAULTS, build_model, settings
from gnnscale.cli.sources import short_name
from gnnscale.data import Card, find_card
from gnnscale.errors import InputError
from tests.cli.conftest import FAST, GRAPH

CARD = """\
name = "mine"
title = "A planted graph"
file = "graph.npz"
task = "classification"
num_nodes = 300
num_edges = 3000
num_features = 16
num_classes = 4
split = "random"
licence = "CC0"
source = "planted"

[preset]
model = "gcn"
hidden_channels = 8
num_layers = 2
dropout = 0.25
norm = "layer_norm"
norm_kwargs = { mode = "node" }
num_parts = 6
clusters_per_batch = 2
epochs = 3
lr = 0.02
"""


def write_mine(root: Path) -> None:
    graph = gs.load(GRAPH)
    (root / "mine").mkdir(parents=True)
    (root / "mine" / "card.toml").write_text(CARD)
    masks = {f"{part}_mask": graph.split()[part].numpy() for part in ("train", "val", "test")}
    np.savez(
        root / "mine" / "graph.npz", edge_index=graph.edge_index, x=graph.x, y=graph.y, **masks
    )


def weights_of(run: str | Path) -> dict[str, torch.Tensor]:
    return gs.load_run(run).model.state_dict()


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def train_options() -> dict:
    return {p.name: p for p in typer.main.get_command(app).commands["train"].params}


@pytest.mark.parametrize("kind", [gs.ClusterTrainer, gs.LayerwiseTrainer])
def test_every_argument_of_the_trainers_is_an_option_and_has_its_default(kind):
    options = train_options()
    arguments = inspect.signature(kind).parameters
    in_python_only = {"model", "graph", "callbacks", "parameter_groups"}
    assert arguments.keys() - in_python_only <= options.keys()
    told = {"none": None, "no": False, "stratify": True}
    described = {"num_parts", "clusters_per_batch", "run_dir", "metric", "split", "task"}
    in_words = {"progress", "chunk_rows", "storage", "store"}
    # The epochs of `controller=None`, which are no argument's default.
    elsewhere = {"controller", "epochs"} if kind is gs.LayerwiseTrainer else set()
    for name in arguments.keys() - in_python_only - described - in_words - elsewhere:
        ways, default = options[name].show_default.split("; layerwise "), arguments[name].default
        shown = ways[-1 if kind is gs.LayerwiseTrainer else 0]
        assert told.get(shown, shown) == default or float(shown) == default, name
    for name, default in MODEL_DEFAULTS.items():
        assert options[name].show_default == str(default)


def test_models_and_methods_are_those_there_are():
    from gnnscale.nn import MODELS
    from gnnscale.partitioning import METHODS as THERE

    assert {*DECLARED["model"].parts[0]} == set(MODELS)
    assert {*DECLARED["method"].parts[0]} == {"auto", *THERE}
    assert all(method in DECLARED["method"].said["option"] for method in THERE)


def test_a_preset_is_what_python_does_with_the_same_arguments(gnnscale, tmp_path, monkeypatch):
    write_mine(tmp_path / "sets")
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "sets"))
    done = gnnscale("train", "--dataset", "mine", "--no-baselines")
    assert "preset of the card: model gcn" in done.stdout

    graph = gs.load("mine")
    torch.manual_seed(0)
    model = gs.nn.GCN(16, 8, 2, 4, dropout=0.25, norm="layer_norm", norm_kwargs={"mode": "node"})
    trainer = gs.ClusterTrainer(
        model, graph, num_parts=6, clusters_per_batch=2, epochs=3, lr=0.02, run_dir="python"
    )
    run_of = gs.load_run("runs/mine-gcn")
    # Two-thread KaMinPar differs between runs; the cache of partitions makes it one here.
    trainer.fit()
    assert_equal(run_of.model.state_dict(), weights_of("python"))
    assert run_of.trainer.config == trainer.config
    assert run_of.report.final == trainer.report.final


def test_options_win_over_the_preset(tmp_path):
    write_mine(tmp_path)
    card = find_card("mine", tmp_path)
    options = dict.fromkeys([*card.preset, "scheduler", "early_stopping"])
    plain = settings(options, card)
    assert (plain.kind, plain.trainer["lr"], plain.model["norm"]) == ("gcn", 0.02, "layer_norm")
    won = settings({**options, "lr": 0.5, "model": "sage", "norm": "none", "num_parts": 1}, card)
    assert (won.kind, won.trainer["lr"]) == ("sage", 0.5)
    assert won.model["norm"] is None and "norm_kwargs" not in won.model
    assert won.trainer["clusters_per_batch"] == 1
    assert "lr" not in won.preset and won.preset["epochs"] == 3
    unsuited = settings({**options, "model": "mlp"}, card)
    assert build_model(unsuited, gs.load(GRAPH)).spec["model"] == "MLP"


def test_a_preset_that_sets_what_there_is_not_is_refused(tmp_path):
    write_mine(tmp_path)
    card: Card = find_card("mine", tmp_path)
    card.preset["epoch"] = 3
    with pytest.raises(InputError, match=r"card\.toml: \[preset\] sets 'epoch'.*'epochs'"):
        settings(dict.fromkeys([*card.preset.keys() - {"epoch"}]), card)


def test_the_preset_of_wordnet_builds_its_model():
    options = dict.fromkeys(train_options())
    chosen = settings(options, find_card("wordnet"))
    assert chosen.kind == "sage"
    model = build_model(chosen, gs.load(GRAPH))
    assert model.spec["arguments"]["norm_kwargs"] == {"mode": "node"}
    assert {"num_parts", "clusters_per_batch", "epochs", "lr"} <= chosen.trainer.keys()


def test_words_and_numbers():
    names = ("early_stopping", "clip_norm", "evaluate_every", "scheduler", "optimizer")
    read = settings(dict(zip(names, ("5", "0.5", "2", "cosine", "sgd"), strict=True)), None).trainer
    assert [read[name] for name in names] == [5, 0.5, 2, "cosine", "sgd"]
    read = settings(dict(zip(names, ("none", "none", "auto", "none", "adam"), strict=True)), None)
    assert [read.trainer[name] for name in names] == [None, None, "auto", None, "adam"]
    with pytest.raises(InputError) as caught:
        settings({"clip_norm": "x", "evaluate_every": "1.5", "norm_kwargs": "mode"}, None)
    assert len(caught.value.faults) == 3
    table = read_table("mode=node, eps=1e-5,affine=False")
    assert table == {"mode": "node", "eps": 1e-5, "affine": False}


def test_names_of_run_folders(tmp_path):
    assert short_name("wordnet") == "wordnet"
    assert short_name("./data/cora.npz?seed=1") == "cora-seed-1"
    assert short_name(str(tmp_path)) == tmp_path.name
    assert short_name("synthetic:planted?nodes=9&seed=1") == "synthetic-planted-nodes-9-seed-1"


def test_a_run_is_compared_reported_again_and_never_mixed_up(gnnscale):
    command = ("train", "-d", GRAPH, *FAST, "--run-dir", "run", "--epochs")
    done = gnnscale(*command, "2")
    for name in ("majority class", "label propagation", "MLP", "sage, 3 layers", "test accuracy"):
        assert name in done.stdout
    assert "gnnscale predict run --out predictions.csv" in done.stdout
    before = Path("run/report.json").read_bytes()
    again = gnnscale(*command, "2")
    assert "complete already" in again.stdout
    assert done.stdout.splitlines()[-3:] == again.stdout.splitlines()[-3:]
    assert Path("run/report.json").read_bytes() == before

    other = gnnscale(*command, "2", "--lr", "0.5", code=2)
    assert other.stderr.startswith("error: the run in ")
    assert "0.5 now" in other.stderr and "--resume no" in other.stderr
    assert "goes on after epoch 2" in gnnscale(*command, "3", "--no-baselines").stdout
    assert len(json.loads(Path("run/report.json").read_text())["rows"]) == 3
    missing = gnnscale("train", "-d", GRAPH, *FAST, "--resume", "yes", code=2)
    assert "there is no run in" in missing.stderr


def test_baselines_kept_for_another_metric_are_not_shown(gnnscale):
    command = ("train", "-d", GRAPH, *FAST, "--run-dir", "run", "--epochs", "1", "--resume", "no")
    gnnscale(*command)
    done = gnnscale(*command, "--metric", "f1_macro")
    assert "test f1_macro" in done.stdout and "majority" not in done.stdout


def test_training_on_a_stored_graph_uses_its_clusters(gnnscale):
    gnnscale("partition", "-d", GRAPH, "--num-parts", "5", "--out", "sets/store")
    gnnscale("train", "-d", "sets/store", "--epochs", "1", "--no-baselines")
    run = gs.load_run("runs/store-sage")
    assert run.trainer.config.num_parts == 5
    refused = gnnscale("train", "-d", "sets/store", "--method", "metis", code=2)
    assert "--method would change nothing" in refused.stderr


def test_full_batch_every_model_and_a_path(gnnscale, tmp_path):
    write_mine(tmp_path / "sets")
    for model in ("gcn", "gin", "gat", "mlp", "sage"):
        done = gnnscale(
            *("train", "-d", "./sets/mine/graph.npz", "--model", model, "--num-parts", "1"),
            *("--epochs", "1", "--hidden-channels", "8", "--no-baselines", "--residual"),
        )
        assert f"runs/graph-{model}" in done.stdout

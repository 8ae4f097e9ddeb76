"""`--trainer layerwise`: the same words as Python, controllers, the other trainer's options."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

import gnnscale as gs
from gnnscale.benchmarking import BenchReport
from gnnscale.cli.settings import build_model, settings
from gnnscale.data import find_card
from gnnscale.errors import InputError
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.policy import StopPolicy
from tests.cli.conftest import GRAPH
from tests.cli.test_cli_train import CARD, assert_equal, train_options, weights_of, write_mine

LAYERWISE = ("--trainer", "layerwise", "--hidden-channels", "8", "--no-progress")
TRAIN = ("train", "-d", GRAPH, *LAYERWISE, "--no-baselines")
RECIPE = """
[recipes.lgcn]
title = "two layers"
source = "a paper"
trainer = "layerwise"
runs = 2
settings = { model = "gcn", hidden_channels = 8, num_layers = 2, controller = "plateau", \
controller_kwargs = { patience = 1 }, epochs = 4, batch_rows = 64 }
published = { method = "L-GCN", test = 0.847, source = "a paper" }
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mine(tmp_path / "sets")
    (tmp_path / "sets/mine/card.toml").write_text(CARD + RECIPE)
    monkeypatch.setenv("GNNSCALE_DATASETS", str(tmp_path / "sets"))


def test_it_is_what_python_does_with_the_presets_model(gnnscale, mine):
    done = gnnscale(
        *("train", "-d", "mine", "--trainer", "layerwise", "--epochs", "2", "--batch-rows", "32"),
        *("--fine-tune", "epochs=2,method=random", "--no-progress"),
    )
    assert "gcn, 2 layers, layer by layer" in done.stdout and "fine-tuning" in done.stdout
    assert "preset of the card: model gcn" in done.stdout and "lr 0.02" not in done.stdout

    torch.manual_seed(0)
    model = gs.nn.GCN(16, 8, 2, 4, dropout=0.25, norm="layer_norm", norm_kwargs={"mode": "node"})
    trainer = gs.LayerwiseTrainer(
        model,
        gs.load("mine"),
        controller=gs.FixedEpochs(2),
        epochs=2,
        batch_rows=32,
        num_parts=6,
        clusters_per_batch=2,
        fine_tune={"epochs": 2, "num_parts": 6, "clusters_per_batch": 2, "method": "random"},
        run_dir="python",
        progress=False,
    )
    trainer.fit()
    run = gs.load_run("runs/mine-gcn-layerwise")
    assert_equal(run.model.state_dict(), weights_of("python"))
    assert run.trainer.config == trainer.config
    assert "test" in gnnscale("evaluate", "runs/mine-gcn-layerwise").stdout
    again = gnnscale(
        *("train", "-d", "mine", "--trainer", "layerwise", "--epochs", "2", "--batch-rows", "32"),
        *("--fine-tune", "epochs=2,method=random", "--no-progress", "--no-baselines"),
    )
    assert "complete already" in again.stdout


def test_a_controller_is_learned_once_kept_and_used_again(gnnscale, monkeypatch):
    calls = []
    learn = LearnedController.learn

    @functools.wraps(learn)
    def counted(*arguments, **options):
        calls.append(options)
        return learn(*arguments, **options)

    monkeypatch.setattr(LearnedController, "learn", counted)
    learning = ("--controller-kwargs", "rounds=2,warmup=1,sample=32,every=2", "--num-layers", "2")
    command = (*TRAIN, "--controller", "learned", *learning, "--epochs", "4", "--run-dir", "a")
    command += ("--accumulate", "2", "--rows-dtype", "float16")
    done = gnnscale(*command)
    assert "kept in a/controller.safetensors" in done.stdout
    told = {"rounds": 2, "warmup": 1, "sample": 32, "every": 2, "epochs": 4}
    assert calls == [{**told, "accumulate": 2, "rows_dtype": "float16"}]
    assert "complete already" in gnnscale(*command).stdout and len(calls) == 1
    gnnscale(*command, "--resume", "no")
    assert len(calls) == 2
    other = ("--controller-file", "a/controller.safetensors", "--run-dir", "b", "--epochs", "4")
    gnnscale(*TRAIN, *other)
    used = [gs.load_run(folder).trainer.controller.describe() for folder in "ab"]
    assert used[0] == used[1] and len(calls) == 2


def test_an_interrupted_run_says_where_it_stands(gnnscale, monkeypatch):
    def interrupt(self, trainer, row):
        if row["epoch"] == 3:
            raise KeyboardInterrupt

    command = (*TRAIN, "--epochs", "2", "--checkpoint-every", "1", "--run-dir", "run")
    with monkeypatch.context() as patch:
        patch.setattr(gs.Callback, "on_epoch_end", interrupt)
        gnnscale(*command, code=130)
    assert "layer 2 has had" in gnnscale("evaluate", "run").stderr
    assert "goes on after epoch" in gnnscale(*command).stdout


def test_bench_by_recipe_and_without(gnnscale, mine):
    done = gnnscale("bench", "mine", "--recipe", "lgcn", "--no-progress")
    assert "84.70" in done.stdout and "Not the published settings" not in done.stdout
    assert "each with its weights best on validation" in done.stdout
    report = BenchReport.load("runs/bench-mine-lgcn/results.json")
    assert [run.epochs <= 8 for run in report.runs] == [True, True]
    assert report.settings["controller"]["patience"] == 1
    changed = gnnscale(
        *("bench", "mine", "--recipe", "lgcn", "--no-progress", "--runs", "1", "--out", "b"),
        *("--controller", "fixed", "--controller-kwargs", ""),
    )
    assert "Not the published settings: " in changed.stdout
    assert "controller fixed, not plateau" in changed.stdout
    controller = LearnedController(StopPolicy(3, every=1, horizon=4))
    controller.save("c.safetensors")
    options = ("--controller-file", "c.safetensors", "--epochs", "2", "--runs", "2")
    gnnscale("bench", GRAPH, *LAYERWISE, *options, "--out", "c")
    report = BenchReport.load("c/results.json")
    assert report.settings["controller"] == controller.describe()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--scheduler", "cosine"), "--scheduler is of --trainer cluster, not of layerwise"),
        (("--method", "random"), "--fine-tune epochs=10,method=…"),
        (("--early-stopping", "3"), "--controller plateau stops a layer"),
        (("--compile", "--precompute"), "2 faults"),
        (("--controller", "fixed", "--controller-kwargs", "patience=3"), "--epochs alone"),
        (("--controller", "plateau", "--controller-kwargs", "waits=3"), "plateau has no waits"),
        (("--controller", "plateau", "--controller-file", "f"), "--controller plateau reads none"),
        (("--controller-file", "f", "--controller-kwargs", "rounds=3"), "has learned already"),
        (("--controller-file", "no.safetensors"), "no.safetensors"),
        (("--fine-tune", "many"), "write name=value"),
        (("--fine-tune", "epoch=3"), "--fine-tune has no argument epoch"),
        (("--batch-rows", "0"), "--batch-rows 0"),
        (("--epochs", "0"), "--epochs 0"),
        (("--controller", "when tired"), "--controller"),
    ],
)
def test_mistakes_are_named_with_the_remedy(gnnscale, options, told):
    refused = gnnscale(*TRAIN, *options, code=2)
    assert told in refused.stderr and "Traceback" not in refused.stderr


def test_options_of_layers_are_refused_for_clusters():
    options = dict.fromkeys(train_options())
    with pytest.raises(InputError) as caught:
        settings({**options, "batch_rows": 8, "fine_tune": "3", "controller_file": "f"}, None)
    assert caught.value.faults == [
        f"--{name} is of --trainer layerwise, not of cluster"
        for name in ("batch-rows", "controller-file", "fine-tune")
    ]


@pytest.mark.parametrize("name", ["cora", "planetoid/cora", "planetoid/pubmed", "ppi", "reddit2"])
def test_the_recipes_of_lgcn_build_its_nets(name):
    card, options = find_card(name), dict.fromkeys(train_options())
    recipe = card.recipes["lgcn"]
    chosen = settings(options, card, recipe, recipe.trainer)
    graph = gs.load("synthetic:planted?nodes=300&features=16&classes=4")
    graph.x, graph.num_classes = graph.x.new_zeros(300, card.num_features), card.num_classes
    sizes = [tuple(p.shape) for p in build_model(chosen, graph).parameters()]
    hidden, layers = chosen.model["hidden_channels"], chosen.model["num_layers"]
    first, last = (hidden, card.num_features), (card.num_classes, hidden)
    between = [(hidden, hidden)] * (layers - 1)
    assert sizes == [first, *between, last, (card.num_classes,)]

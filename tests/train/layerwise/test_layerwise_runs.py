"""Runs layer by layer, opened again in another process, and what their reports show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gnnscale as gs
from gnnscale.errors import RunMismatch, StoreError
from gnnscale.graph import Partition, cluster
from gnnscale.train import load_run
from gnnscale.train.controllers.learned import LearnedController
from gnnscale.train.controllers.policy import StopPolicy
from gnnscale.train.controllers.stopping import Decision
from tests.helpers.small_runs import (
    MODELS,
    assert_same,
    momentum,
    opened_elsewhere,
    same_course,
    small_graph,
    weights_of,
)


class StopAt(gs.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


def layerwise(run_dir: Path | None, graph=None, model="sage", **options) -> gs.LayerwiseTrainer:
    torch.manual_seed(7)
    settings = {"controller": gs.FixedEpochs(3), "batch_rows": 8, "checkpoint_every": 1, **options}
    return gs.LayerwiseTrainer(
        MODELS[model](), graph or small_graph(), run_dir=run_dir, progress=False, **settings
    )


def stopped(run_dir: Path, epoch: int = 4, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        layerwise(run_dir, callbacks=[StopAt(epoch)], **options).fit()


def learned() -> LearnedController:
    return LearnedController(StopPolicy(2, every=2, horizon=8))


class Own:
    """A controller of the user's."""

    needs_validation = False

    def begin(self, layer, layers):
        pass

    def decide(self, progress):
        return Decision(progress.epoch == 3, "mine")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def describe(self):
        return {"controller": "Own", "epochs": 3}


def test_in_a_new_process(tmp_path, forks):
    """Finished and stopped runs under all controllers, opened, evaluated, trained to their end."""
    graph = small_graph()
    part = Partition(torch.arange(graph.num_nodes) % 5, 5)
    cases = {
        "finished": {},
        "clustered": {
            "controller": gs.Plateau(2, monitor="metric"),
            "epochs": 6,
            "graph": cluster(graph, part),
        },
        "inductive": {"inductive": True, "rows_dtype": "float16"},
        "opaque": {"model": "gat", "num_parts": 6, "clusters_per_batch": 2},
        "fine-tuned": {"fine_tune": {"epochs": 3, "num_parts": 4, "method": "random"}},
        "from a source": {
            "controller": learned(),
            "epochs": 6,
            "graph": gs.load("synthetic:planted?nodes=60&classes=3&features=5&degree=4"),
        },
    }
    wholes, expected = {}, {}
    for name, options in cases.items():
        wholes[name] = layerwise(None, **options)
        wholes[name].fit()
        if name == "finished":
            layerwise(tmp_path / name, **options).fit()
        else:
            # In the second layer; after two of three epochs of fine-tuning.
            stopped(tmp_path / name, 8 if name == "fine-tuned" else 4, **options)
        opened = load_run(tmp_path / name)
        expected[name] = (opened.trainer.evaluate("test"), opened.trainer.predict())
    assert not (tmp_path / "from a source" / "graph").exists()
    requests = {name: {} for name in cases}
    for name, (found, predicted) in opened_elsewhere(forks, tmp_path, requests).items():
        assert found["metrics"] == expected[name][0], name
        assert found["stopped"] == "layers", name
        assert torch.equal(predicted, expected[name][1]), name
        weights = load_file(tmp_path / name / "model.safetensors")
        assert_same(weights, weights_of(wholes[name]))
        same_course(load_run(tmp_path / name).report, wholes[name].report)


def test_a_loaded_run_can_be_started_anew(tmp_path):
    layerwise(tmp_path).fit()
    report = load_run(tmp_path).trainer.fit(resume=False)
    assert load_run(tmp_path).trainer.evaluate("test") == report.final["test"]


def test_a_function_in_fine_tuning_is_wanted_for_training_alone(tmp_path):
    fine_tune = {"epochs": 2, "num_parts": 4, "method": "random", "optimizer": momentum}
    stopped(tmp_path, 7, fine_tune=fine_tune)
    run = load_run(tmp_path)
    run.trainer.evaluate("test")
    with pytest.raises(RunMismatch, match=r"momentum\(\): pass fine_tune="):
        run.trainer.fit()
    assert load_run(tmp_path, fine_tune=fine_tune).trainer.fit().stopped == "layers"


def test_a_controller_of_ones_own_is_wanted_for_training_alone(tmp_path):
    stopped(tmp_path, controller=Own())
    run = load_run(tmp_path)
    run.trainer.evaluate("test")
    with pytest.raises(RunMismatch, match=r"'Own'.*pass controller="):
        run.trainer.fit()
    report = load_run(tmp_path, controller=Own()).trainer.fit()
    assert [layer["stopped"] for layer in report.layers] == ["mine", "mine"]


def test_another_learned_controller_in_the_folder_is_refused(tmp_path):
    stopped(tmp_path, controller=learned(), epochs=6)
    file = tmp_path / "controller.safetensors"
    own = file.read_bytes()
    LearnedController(StopPolicy(2, every=2, horizon=8, seed=1)).save(file)
    with pytest.raises(StoreError, match=r"controller\.safetensors is damaged or of another run"):
        load_run(tmp_path)
    file.write_bytes(own)
    assert load_run(tmp_path).trainer.fit().stopped == "layers"


def test_the_report_shows_layers(tmp_path, drawn):
    """A row a layer; what a layer and its fine-tuning show is drawn."""
    trainer = layerwise(
        tmp_path,
        controller=learned(),
        epochs=6,
        fine_tune={"epochs": 2, "num_parts": 4, "method": "random"},
    )
    report = trainer.fit()
    text = report.table()
    for words in ("aggregation", "val accuracy", "fine-tuning", "stopped", "test: accuracy"):
        assert words in text
    assert any(row.get("p_stop") is not None for row in report.rows)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert gs.Report.load(tmp_path / "report.json").table() == text

"""`--trainer graph`: train, evaluate, predict and describe a run on many small graphs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import typer

import gnnscale as gs
from gnnscale.cli import app

GRAPHS = ("train", "-d", "graphs.npz", "--trainer", "graph", "--model", "gin", "--no-progress")


@pytest.fixture
def graphs():
    """Forty rings and paths of six nodes, the first half to train on."""
    rings = np.arange(40) % 2 == 0
    edges = [
        (6 * g + i, 6 * g + (i + 1) % 6) for g in range(40) for i in range(6 if rings[g] else 5)
    ]
    node = np.repeat(np.arange(40), 6)
    np.savez(
        "graphs.npz",
        edge_index=np.array(edges).T,
        x=np.ones((240, 3), np.float32),
        y=rings.astype(np.int64),
        y_level=np.array("graph"),
        node_ptr=6 * np.arange(41),
        train_mask=node < 20,
        val_mask=(node >= 20) & (node < 30),
        test_mask=node >= 30,
    )
    return rings


def test_a_run_on_graphs_from_training_to_predictions(gnnscale, graphs):
    trained = gnnscale(
        *GRAPHS, "--readout", "sum", "--graphs-per-batch", "8", "--epochs", "4", "--seed", "1",
        "--hidden-channels", "8", "--num-layers", "2", "--run-dir", "run",
    ).stdout  # fmt: skip
    assert "majority class" in trained and "gin, 2 layers, mini-batches of graphs" in trained
    assert "test" in gnnscale("evaluate", "run", "--on", "all").stdout
    assert "of 40 graphs, 2 columns" in gnnscale("predict", "run", "--out", "all.npy").stdout
    run = gs.load_run("run")
    assert run.trainer.config.graphs_per_batch == 8 and run.model.readout.reduce == "sum"
    np.testing.assert_array_equal(np.load("all.npy"), run.trainer.predict().numpy())
    told = gnnscale("info", "run").stdout
    assert "8 graphs" in told and "sum over a graph" in told


def test_options_of_another_trainer_are_refused(gnnscale, graphs):
    for option, of in (("--num-parts", "cluster"), ("--batch-rows", "layerwise")):
        done = gnnscale(*GRAPHS, option, "2", code=2)
        assert f"{option} is of --trainer {of}, not of graph" in done.stderr
    done = gnnscale("train", "-d", "graphs.npz", "--readout", "sum", code=2)
    assert "--readout is of --trainer graph, not of cluster" in done.stderr
    assert "GraphTrainer" in gnnscale("train", "-d", "graphs.npz", code=2).stderr


def test_every_argument_of_the_trainer_is_an_option():
    options = {p.name for p in typer.main.get_command(app).commands["train"].params}
    arguments = inspect.signature(gs.GraphTrainer).parameters.keys()
    assert arguments - {"model", "graphs", "callbacks", "parameter_groups"} <= options


def test_a_bound_that_does_not_hold_a_step_is_refused(gnnscale, graphs):
    done = gnnscale(*GRAPHS, "--memory", "1kB", code=2)
    assert "--memory 1kB" in done.stderr and "give --memory " in done.stderr

"""A mistake is one line and exit code 2, an interrupt 130, a bug a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gnnscale
from gnnscale.train import load_run
from gnnscale.train.loop import Loop
from tests.cli.conftest import FAST, GRAPH

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("train", "-d", GRAPH)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("train",), "give --dataset NAME|PATH, or files"),
        (("trian",), "No such command 'trian'"),
        (("--colour",), "No such option: --colour"),
        ((*TRAIN, "--epochs", "many"), "--epochs"),
        ((*TRAIN, "--model", "gnn"), "--model"),
        (("train", "-d", "wordnt"), "Did you mean 'wordnet'?"),
        (("train", "-d", "./no.npz"), "no.npz does not exist"),
        ((*TRAIN, "--epochs", "0", "--lr", "-1"), "2 faults"),
        ((*TRAIN, "--num-layers", "0"), "--num-layers 0 must be a whole number from 1"),
        (
            (*TRAIN, "--norm", "no_norm"),
            "--norm no_norm: there is no such layer; did you mean BatchNorm",
        ),
        ((*TRAIN, "--model-kwargs", "no_such=1"), "no_such"),
        ((*TRAIN, "--model", "mlp", "--norm-kwargs", "mode=node"), "takes no --norm-kwargs"),
        ((*TRAIN, "--num-parts", "301"), "300 nodes"),
        ((*TRAIN, "--optimizer", "sgdm"), "'sgdm' is not one of 'adam', 'adamw', 'sgd'"),
        ((*TRAIN, "--metric", "beauty"), "beauty"),
        ((*TRAIN, "--split", "mine"), "no split set 'mine'"),
        ((*TRAIN, "--device", "abacus"), "--device abacus is no device"),
        (("train", "-d", "synthetic:planted?nodes=300&features=0&classes=4"), "no features"),
        ((*TRAIN, "--run-dir", "file/run"), "cannot be written"),
        (("evaluate", "no"), "no run in no"),
        (("predict", "no", "--out", "a.txt"), ".npy"),
        (("predict", "no", "--out", "a.npy", "--nodes", "no.npy"), "no.npy: No such file"),
        (("predict", "no", "--out", "a.npy", "--nodes", "file"), "there is no run in no"),
        (("partition", "-d", GRAPH, "--num-parts", "0"), "--num-parts is 0"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--method", "saw"), "unknown method 'saw'"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--preset", "saw"), "unknown preset 'saw'"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--memory", "much"), "--memory much must"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--save", "a"), ".npz"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--out", "file"), "file exists"),
        (("info", "no"), "no data set is called 'no'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(gnnscale, command, told):
    Path("file").write_text("text")
    done = gnnscale(*command, code=2)
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("runs").exists()


def test_text_in_brackets_is_not_read_as_markup(gnnscale):
    assert "[bold]no[/bold]" in gnnscale("info", "[bold]no[/bold]x", code=2).stderr


def test_a_bug_keeps_its_traceback(gnnscale, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a bug")

    # The package's attribute of this name is the command, not its module.
    monkeypatch.setattr(sys.modules["gnnscale.cli.partition"], "_report", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        gnnscale("partition", "-d", GRAPH, "--num-parts", "2")


def test_help_teaches(gnnscale):
    commands = ("train", "evaluate", "predict", "partition", "bench", "info", "datasets")
    overview = gnnscale("--help").stdout
    assert gnnscale().stdout == overview
    for command in commands:
        assert command in overview
        text = gnnscale(command, "--help").stdout
        assert "Examples" in text and f"gnnscale {command} " in text
    for panel in ("Model", "Clusters and batches", "Training", "Evaluation", "Run"):
        assert panel in gnnscale("train", "--help").stdout


def test_help_datasets_and_version_load_no_torch():
    script = (
        "import sys; from gnnscale.cli import app\n"
        "for args in (['--help'], ['train', '--help'], ['datasets'], ['--version']):\n"
        "    try: app(args)\n"
        "    except SystemExit as stop: assert not stop.code, stop.code\n"
        "print([name for name in ('torch', 'numba', 'ogb', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "wordnet" in done.stdout and f"gnnscale {gnnscale.__version__}" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_verbose_tells_what_is_done(gnnscale):
    command = (*TRAIN, *FAST, "--epochs", "1", "--no-baselines")
    assert gnnscale(*command, "--run-dir", "quiet").stderr == ""
    assert "epoch 1" in gnnscale(*command, "--run-dir", "loud", "-v").stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_control_c_saves_and_the_same_command_goes_on(gnnscale, monkeypatch):
    command = (*TRAIN, *FAST, "--epochs", "4", "--no-baselines", "--method", "metis", "--run-dir")
    gnnscale(*command, "whole")

    def interrupted(loop, session):
        if session.source.epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return end_epoch(loop, session)

    end_epoch = Loop._end_epoch
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_end_epoch", interrupted)
        done = gnnscale(*command, "run", code=130)
    wanted = "interrupted; run is saved: give the same command again to go on"
    assert done.stderr.strip() == wanted
    assert "unfinished: 2 of 4 epochs" in gnnscale("evaluate", "run").stderr
    assert "unfinished" in gnnscale("info", "run").stdout
    assert "goes on after epoch 2" in gnnscale(*command, "run").stdout
    before, after = (load_run(run).model.state_dict() for run in ("whole", "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_interrupt_before_anything_is_saved(gnnscale, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gnnscale.cli.sources.open_data", interrupted)
    assert "before anything was saved" in gnnscale(*TRAIN, code=130).stderr
    assert gnnscale("info", GRAPH, code=130).stderr.strip() == "interrupted"

"""A folder that cannot be written is named before work begins, not after it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import gnnscale as gs
from tests.cli.conftest import FAST, GRAPH

QUICK = (*FAST, "--epochs", "1", "--no-progress")


@pytest.fixture
def read_only(monkeypatch):
    """A folder without the right to write, also for those who have every right."""
    folder = Path("locked").resolve()
    folder.mkdir()
    allowed = os.access

    def access(path, mode, **more):
        return Path(path) != folder and allowed(path, mode, **more)

    monkeypatch.setattr(os, "access", access)
    return folder


@pytest.mark.parametrize(
    ("command", "work"),
    [
        (("train", "-d", GRAPH, *QUICK, "--run-dir", "locked/r"), "gnnscale.cli.sources.open_data"),
        (("train", "-d", GRAPH, *QUICK, "--trainer", "layerwise", "--controller", "learned",
          "--run-dir", "locked/a/r"), "gnnscale.cli.sources.open_data"),
        (("bench", GRAPH, *QUICK, "--out", "locked/b"), "gnnscale.cli.sources.open_data"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--out", "locked/s"),
         "gnnscale.cli.sources.open_data"),
        (("partition", "-d", GRAPH, "--num-parts", "2", "--save", "locked/p.npz"),
         "gnnscale.cli.sources.open_data"),
        (("info", GRAPH, "--plot", "locked/p.png"), "gnnscale.cli.sources.open_data"),
        (("import", "e.csv", "--out", "locked/g"), "gnnscale.data.load"),
        (("predict", "r", "--out", "locked/p.csv"), "gnnscale.train.load_run"),
        (("append", "locked/s", "e.csv"), "gnnscale.data.appending.Tables"),
        (("append", "s", "e.csv", "--out", "locked/t"), "gnnscale.data.appending.Tables"),
    ],
)  # fmt: skip
def test_it_is_named_before_anything_is_done(gnnscale, monkeypatch, read_only, command, work):
    Path("e.csv").write_text("source,target\n0,1\n")
    graph = gs.Graph.from_arrays([[0], [1]])
    gs.cluster(graph, gs.partition(graph, 1), path="s")
    shutil.copytree("s", read_only / "s")
    there = sorted(read_only.rglob("*"))

    def worked(*_, **__):
        raise AssertionError("work has begun")

    monkeypatch.setattr(work, worked)
    done = gnnscale(*command, code=2)
    assert "cannot be written: no right to write in" in done.stderr and "locked" in done.stderr
    assert sorted(read_only.rglob("*")) == there


def test_outputs_of_trainers_are_named_before_inference(read_only, monkeypatch):
    graph = gs.load(GRAPH)
    trainer = gs.ClusterTrainer(gs.nn.GCN(16, 4, 2, 4), graph, num_parts=2, progress=False)
    monkeypatch.setattr(trainer._evaluator, "predict", lambda *_: 1 / 0)
    for name in ("p.npy", "p.csv"):
        with pytest.raises(gs.errors.StoreError, match="cannot be written"):
            trainer.predict(out=read_only / name)

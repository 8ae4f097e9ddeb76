"""Paths that the system refuses to look up: named wherever one is given."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import gnnscale as gs


def graph():
    return gs.Graph.from_arrays(
        torch.tensor([[0, 1], [1, 2]]), torch.ones(3, 2), [0, 1, 1], train_mask=[True] * 3
    )


def trainer(path=None):
    return gs.ClusterTrainer(
        gs.nn.GCN(2, 4, 2, 2), graph(), num_parts=1, epochs=1, run_dir=path, progress=False
    )


DOORS = {
    "run": trainer,
    "load_run": gs.load_run,
    "load": lambda path: gs.load(str(path)),
    "store": lambda path: gs.cluster(graph(), gs.partition(graph(), 1), path),
    "open": gs.open_graph,
    "build": lambda path: gs.build_graph(path, 2, [np.zeros((2, 1), np.int64)]),
}


@pytest.mark.parametrize("door", DOORS)
def test_what_the_system_will_not_look_up_is_named(door, tmp_path, monkeypatch):
    with pytest.raises(gs.GnnscaleError):
        DOORS[door](tmp_path / ("x" * 300))
    shut, stat = tmp_path / "shut", os.stat

    def guarded(path, *args, **kwargs):
        if str(path).startswith(f"{shut}{os.sep}"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *args, **kwargs)

    shut.mkdir(mode=0o500)
    monkeypatch.setattr(os, "stat", guarded)
    monkeypatch.setattr(os, "access", lambda path, mode: path != shut)
    for name in ("mkdir", "rename", "replace"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name), shut))
    with pytest.raises(gs.GnnscaleError):
        DOORS[door](shut / "in")


def refusing(done, shut):
    """A function of os that may change nothing in this folder; what Numba caches, it may."""

    def changing(*paths, **keywords):
        if any(str(path).startswith(f"{shut}{os.sep}") for path in paths):
            raise PermissionError(13, "Permission denied")
        return done(*paths, **keywords)

    return changing


@pytest.mark.parametrize("path", [".", "/"])
def test_predictions_do_not_replace_a_folder(path):
    with pytest.raises(gs.StoreError, match="could not write"):
        trainer().predict(out=path)

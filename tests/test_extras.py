"""Without the packages of the extras, what needs one names it, and all else works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gnnscale.errors import MissingDependency
from gnnscale.extras import FEATURES, Lazily, from_extra

ROOT = Path(__file__).parent.parent
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]

WITHOUT = """
import importlib.machinery, json, os, sys
from pathlib import Path

ABSENT = ("isal", "matplotlib", "ogb", "pandas", "pyarrow", "sklearn", "tensorboard", "yaml")

class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)

usual = importlib.machinery.PathFinder
sys.meta_path = [Without if finder is usual else finder for finder in sys.meta_path]
import numpy as np
import gnnscale as gs
from gnnscale.data.pyg.reading import folds_of
from gnnscale.train.run.report import Report

# What the README begins with: a graph, clusters, a trainer, exact evaluation, a run that is opened.
assert gs.load("wordnet").num_classes == 45
small = gs.load("synthetic:planted?nodes=400")
model = gs.nn.GraphSAGE(small.num_features, 8, 2, small.num_classes)
for trainer in (
    gs.ClusterTrainer(model, small, num_parts=4, clusters_per_batch=2, epochs=1, run_dir="run"),
    gs.LayerwiseTrainer(model, small, controller=gs.FixedEpochs(1)),
):
    trainer.fit()
    assert 0 <= trainer.evaluate("test")["accuracy"] <= 1
assert gs.load_run("run").report.rows
assert not os.path.exists("run/curves.png")
np.save("edges.npy", np.array([[0, 1], [1, 2]]))
assert gs.build_graph("built", 3, "edges.npy").num_nodes == 3
np.savez("it.npz", edge_index=np.array([[0], [1]]))
Path("it.mtx").write_text("%%MatrixMarket matrix coordinate pattern general\\n2 2 1\\n1 2\\n")
assert gs.load("./it.npz").num_nodes == gs.load("./it.mtx").num_nodes == 2  # of formats by path

two = gs.Graph.from_data(small.to_data(), metric="roc_auc")
two.y, two.num_classes = two.y % 2, 2
Path("edges.csv").write_text("a,b\\nb,c\\n")
os.mkdir("dgl")
Path("dgl/meta.yaml").write_text("dataset_name: it\\n")
needing = {
    "dgl": [lambda: gs.load("./dgl")],
    "metrics": [
        lambda: gs.ClusterTrainer(gs.nn.GCN(small.num_features, 8, 2, 2), two, num_parts=2),
        lambda: folds_of(np.arange(40) % 2),
    ],
    "ogb": [
        lambda: gs.load("ogbn-arxiv"),
        lambda: gs.nn.atom_encoder(8),
    ],
    "plots": [lambda: gs.load_run("run").report.plot("curves.png")],
    "tables": [
        lambda: gs.from_edge_list("edges.csv"),
    ],
    "tensorboard": [lambda: gs.TensorBoard("log")],
}
said = {}
for extra, calls in needing.items():
    for call in calls:
        try:
            call()
        except gs.MissingDependency as error:
            said.setdefault(extra, []).append(str(error))
        else:
            said.setdefault(extra, []).append("nothing")
Path("said.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_what_needs_an_extra_names_it_and_all_else_works_without(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GNNSCALE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"no curves\.png: .*'gnnscale\[plots\]'", done.stderr)
    said = json.loads((tmp_path / "said.json").read_text())
    assert set(said) == set(FEATURES)
    for extra, messages in said.items():
        for message in messages:
            assert f"pip install 'gnnscale[{extra}]'" in message, (extra, message)


def test_extras_are_those_that_errors_name_and_all_has_them() -> None:
    assert set(FEATURES) <= set(EXTRAS)
    assert EXTRAS["all"] == [f"gnnscale[{','.join(sorted(FEATURES))}]"]


def test_a_module_that_is_not_there_is_named_when_it_is_used() -> None:
    absent = Lazily("tables", "gnnscale_absent.module")
    with pytest.raises(MissingDependency, match=r"gnnscale_absent .*'gnnscale\[tables\]'"):
        absent.array  # noqa: B018
    with pytest.raises(MissingDependency, match="No module named 'gnnscale_absent'"):
        from_extra("plots", "gnnscale_absent")
    assert Lazily("tables", "json").dumps is json.dumps

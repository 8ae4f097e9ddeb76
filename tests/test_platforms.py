"""Where the system lacks what Windows lacks, that is named with the remedy, and the rest works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a new interpreter each, which imports torch anew

ROOT = Path(__file__).parent.parent

AS_ON_WINDOWS = """
import os, sys
import filelock, psutil  # which on Linux import what is taken away
sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them raises ImportError
del os.preadv
import numpy as np
import gnnscale as gs
from gnnscale.errors import UnsupportedPlatform

assert "torch" not in sys.modules
graph = gs.load("synthetic:planted?nodes=200")
part = gs.partition(graph, num_parts=4, method="contiguous")
part.quality(graph)
batches = list(gs.ClusterLoader(gs.cluster(graph, part), clusters_per_batch=2))
assert len(batches) == 2
gs.nn.GCN(graph.num_features, 8, 2, graph.num_classes)(graph.x, graph.adj)

from gnnscale.data.download import fetch
from gnnscale.storage.files import read_at

for needing in (
    lambda: gs.ClusterTrainer,
    lambda: gs.load_run("run"),
    lambda: fetch("http://localhost:9/file", "file"),
    lambda: read_at(0, 0, memoryview(bytearray(1))),
):
    try:
        needing()
    except UnsupportedPlatform as error:
        assert isinstance(error, gs.GnnscaleError)
        assert f"{sys.platform} has no" in str(error) and "WSL" in str(error), error
    else:
        raise AssertionError(needing)
"""


def test_what_windows_lacks_is_named_and_the_rest_works(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GNNSCALE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AS_ON_WINDOWS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_command_line_says_it_in_a_line(tmp_path: Path) -> None:
    code = """
import sys
import filelock, psutil
sys.modules["fcntl"] = sys.modules["resource"] = None
from gnnscale.cli import main
main()
"""
    for arguments, ending in ((["datasets"], 0), (["train", "-d", "wordnet"], 2)):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == ending, done.stderr
        assert ending == 0 or ("WSL" in done.stderr and "Traceback" not in done.stderr)

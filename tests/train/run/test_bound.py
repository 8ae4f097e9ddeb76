"""What a run adds to its process, on a graph with a hub, stays within `memory=`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from gnnscale.storage.memory import memory_bytes
from tests.helpers.memory import linux

SCRIPT = """
import ctypes, sys, numpy as np, torch, gnnscale as gs
from gnnscale.errors import InputError
from gnnscale.train.run.process import MemoryMeter
from torch_geometric import nn as pyg

nodes, folder, name, memory = 200_000, *sys.argv[1:]
ids, random = np.arange(nodes), np.random.default_rng(0)
star = np.stack([np.zeros(nodes - 1, np.int64), ids[1:]])
graph = gs.build_graph(
    folder + "/g", nodes, [star], x=[random.random((nodes, 16), np.float32)], y=ids % 3,
    splits={"default": {"train": ids[:5000], "val": ids[5000:6000], "test": ids[6000:7000]}},
    memory="64MB",
)
store = gs.cluster(graph, gs.partition(graph, 100, method="streaming"), folder + "/c")
del ids, star, graph
MODELS = {
    "EdgeConv": lambda: [pyg.EdgeConv(torch.nn.Linear(2 * a, b)) for a, b in ((16, 32), (32, 3))],
}
model = MODELS[name]() if name in MODELS else getattr(gs.nn, name)(16, 32, 2, 3)
trainer = gs.ClusterTrainer(
    model, store, clusters_per_batch=5, epochs=1, memory=memory, progress=False
)
ctypes.CDLL(None).malloc_trim(0)
with MemoryMeter() as meter:
    before = meter.reset().anonymous
    try:
        trainer.fit()
        if name == "GCN":
            trainer.predict(out=folder + "/out.npy")
    except InputError as error:
        print(error)
print(meter.peak.anonymous - before)
"""


def fitted(folder, name, memory):
    """What `fit` said in refusing, if it did, and the most that was added."""
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(folder), name, memory]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    *said, added = done.stdout.splitlines()
    return " ".join(said), int(added)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("name", "refused"), [("GCN", False), ("GAT", True), ("EdgeConv", True)])
def test_a_hub_is_within_the_bound_or_the_bound_that_would_do_is_named(name, refused, tmp_path):
    said, added = fitted(tmp_path / "given", name, "100MB")
    assert bool(said) == refused
    assert added <= 100e6
    if refused:
        bound = re.search(r"memory='(.*?)'", said)[1]
        said, added = fitted(tmp_path / "named", name, bound)
        assert not said
        assert added <= memory_bytes(bound)

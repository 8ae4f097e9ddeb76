"""What a process and its children hold, and a run on a graph in files beside one in memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from small_runs import small_graph

import gnnscale as gs
from gnnscale.graph import is_store
from gnnscale.train.memory import MemoryMeter, footprint, memory_use, resident_arrays

MIB = 1 << 20


def test_a_peak_stays_when_its_memory_is_gone():
    with MemoryMeter() as meter:
        before = meter.reset()
        data = np.ones(64 * MIB, np.uint8)
        meter.look()
        del data
        after = footprint()
    assert meter.peak.together >= after.together + 50 * MIB
    assert meter.peak.anonymous >= before.anonymous + 50 * MIB
    use = memory_use(meter)
    assert use["peak_pss"] == meter.peak.together
    assert use.keys() == {"peak_rss", "peak_pss", "peak_pss_anonymous", "peak_pss_file"}


def test_children_count():
    work = "import sys; data = bytearray(b'1' * (64 << 20)); print(flush=True); sys.stdin.read()"
    with MemoryMeter() as meter:
        before = meter.reset().anonymous
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", work], stdin=pipe, stdout=pipe) as child:
            child.stdout.readline()
            assert meter.look().anonymous >= before + 50 * MIB
            child.stdin.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    graph = small_graph()
    path = tmp_path_factory.mktemp("graph") / "store"
    part = gs.partition(graph, 6, method="random", seed=0)
    return gs.cluster(graph, part, path), gs.cluster(graph, part)


def trained(data, **arguments):
    torch.manual_seed(0)
    graph = data.graph if isinstance(data, gs.ClusteredGraph) else data
    model = gs.nn.GraphSAGE(graph.num_features, 20, 3, graph.num_classes, norm="graph_norm")
    trainer = gs.ClusterTrainer(
        model, data, clusters_per_batch=2, epochs=2, evaluate_every=1, chunk_rows=16,
        progress=False, **arguments,
    )  # fmt: skip
    return trainer, trainer.fit()


def figures(report):
    timed = ("seconds", "nodes_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in report.rows], report.final


def test_a_run_out_of_core_is_the_run_in_memory(store, tmp_path):
    on_disk, in_memory = store
    one, found = trained(on_disk, memory=1000, storage=tmp_path)
    other, expected = trained(in_memory)
    assert figures(found) == figures(expected)
    assert torch.equal(one.predict(), other.predict())
    assert not list(tmp_path.iterdir())
    large = {"graph.x", "graph.adj.indices"}
    assert not large & found.memory["arrays"].keys()
    assert large <= expected.memory["arrays"].keys() <= resident_arrays(other.clustered).keys()


def test_a_mapped_graph_is_clustered_into_the_run_folder(store, tmp_path):
    mapped = store[0].graph
    options = {"num_parts": 6, "method": "random", "run_dir": tmp_path / "run"}
    trainer, report = trained(mapped, **options)
    assert is_store(tmp_path / "run" / "store")
    assert trainer.clustered.path == tmp_path / "run" / "store"
    written = (tmp_path / "run" / "store" / "meta.json").stat().st_mtime_ns
    again, resumed = trained(mapped, **options)
    assert figures(resumed) == figures(report)
    # Before it is clustered again the graph stands in its original order, and sums round otherwise.
    torch.testing.assert_close(again.predict(), trainer.predict())
    assert torch.equal(again.clustered.node_id, trainer.clustered.node_id)
    assert (tmp_path / "run" / "store" / "meta.json").stat().st_mtime_ns == written
